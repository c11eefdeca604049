/* One rank: nothing is ever sent. */
#include <stdlib.h>
#include <string.h>

#include "comm/transport.h"

static hb_status split(struct hb_comm *parent, int64_t color, int64_t key, struct hb_comm *out)
{
    (void)parent;
    (void)color;
    (void)key;
    out->rank = 0;
    out->size = 1;
    return HB_OK;
}

static void nothing(struct hb_comm *comm)
{
    (void)comm;
}

static void leave(struct hb_comm *comm, int code)
{
    (void)comm;
    (void)code;
}

static const struct hb_transport self = {.name = "self", .split = split, .destroy = nothing, .abort = leave};

hb_status hb_comm_self(struct hb_comm **out)
{
    struct hb_comm *comm = calloc(1, sizeof *comm);
    if (!comm)
        return HB_FAIL(HB_EMEMORY, "out of memory for a communicator");
    comm->transport = &self;
    comm->size = 1;
    memcpy(comm->name, "world", 6);
    *out = comm;
    return HB_OK;
}
