#include "comm/over.h"

#include <stdio.h>
#include <stdlib.h>

static struct hb_comm *all; /* those that live */

hb_status hb_comm_over(struct hb_comm *host, const struct hb_transport *transport, void *handle,
                       struct hb_comm **out)
{
    struct hb_comm *comm = calloc(1, sizeof *comm);
    if (!comm)
        return HB_FAIL(HB_EMEMORY, "out of memory for communicator %s", host->name);
    comm->transport = transport;
    snprintf(comm->name, sizeof comm->name, "%s", host->name);
    comm->rank = host->rank;
    comm->size = host->size;
    comm->host = host;
    comm->world_rank = host->world_rank;
    comm->handle = (uint64_t)(uintptr_t)handle;
    comm->next = all;
    all = comm;
    *out = comm;
    return HB_OK;
}

void hb_over_forget(struct hb_comm *comm)
{
    for (struct hb_comm **at = &all; *at; at = &(*at)->next)
        if (*at == comm) {
            *at = comm->next;
            return;
        }
}

void hb_over_progress(void)
{
    for (struct hb_comm *comm = all; comm; comm = comm->next)
        comm->transport->progress(comm);
}

void hb_over_give_up(void)
{
    for (struct hb_comm *comm = all; comm; comm = comm->next)
        comm->transport->device->give_up(comm);
}
