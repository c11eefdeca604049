#include "comm/mirror.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/transport.h"

/* Memory that waits for what the rank will send to the same peer. */
struct waiting {
    int from, lane;
    char *data;
    size_t bytes;
};

struct mirror {
    bool blind;
    struct waiting *list;
    int64_t count, capacity;
};

static struct mirror *mirror_of(const struct hb_comm *comm)
{
    return (struct mirror *)(uintptr_t)comm->handle;
}

static hb_status receive(struct hb_comm *comm, int from, int lane, void *data, size_t bytes,
                         struct hb_comm_request *request)
{
    struct mirror *m = mirror_of(comm);
    request->done = true;
    if (m->blind)
        return HB_OK;
    if (m->count == m->capacity) {
        int64_t capacity = m->capacity ? 2 * m->capacity : 64;
        struct waiting *grown = realloc(m->list, (size_t)capacity * sizeof *grown);
        if (!grown)
            return HB_FAIL(HB_EMEMORY, "out of memory for a list of messages");
        m->list = grown;
        m->capacity = capacity;
    }
    m->list[m->count++] = (struct waiting){from, lane, data, bytes};
    memset(data, 0, bytes);
    return HB_OK;
}

static hb_status send(struct hb_comm *comm, int to, int lane, const void *data, size_t bytes,
                      struct hb_comm_request *request)
{
    struct mirror *m = mirror_of(comm);
    request->done = true;
    for (int64_t i = 0; i < m->count; i++) {
        struct waiting *w = &m->list[i];
        if (w->from != to || w->lane != lane)
            continue;
        if (bytes)
            memcpy(w->data, data, bytes < w->bytes ? bytes : w->bytes);
        *w = m->list[--m->count];
        return HB_OK;
    }
    return HB_OK;
}

static hb_status test(struct hb_comm *comm, struct hb_comm_request *request)
{
    (void)comm;
    request->done = true;
    return HB_OK;
}

/* What was not sent by then never comes. */
static void settle(struct hb_comm *comm)
{
    mirror_of(comm)->count = 0;
}

static hb_status split(struct hb_comm *parent, int64_t color, int64_t key, struct hb_comm *out)
{
    (void)parent;
    (void)color;
    (void)key;
    return HB_FAIL(HB_EUNSUPPORTED, "communicator %s: a mirror cannot know who else is in a part", out->name);
}

static void destroy(struct hb_comm *comm)
{
    free(mirror_of(comm)->list);
    free(mirror_of(comm));
}

static void leave(struct hb_comm *comm, int code)
{
    (void)comm;
    (void)code;
}

static const struct hb_transport transport = {.name = "mirror",
                                              .send = send,
                                              .receive = receive,
                                              .test = test,
                                              .settle = settle,
                                              .split = split,
                                              .destroy = destroy,
                                              .abort = leave};

hb_status hb_comm_mirror(int rank, int size, const char *name, bool blind, struct hb_comm **out)
{
    struct hb_comm *comm = calloc(1, sizeof *comm);
    struct mirror *m = calloc(1, sizeof *m);
    if (!comm || !m) {
        free(comm);
        free(m);
        return HB_FAIL(HB_EMEMORY, "out of memory for a communicator");
    }
    m->blind = comm->blind = blind;
    comm->transport = &transport;
    comm->rank = rank;
    comm->size = size;
    comm->handle = (uint64_t)(uintptr_t)m;
    snprintf(comm->name, sizeof comm->name, "%s", name);
    *out = comm;
    return HB_OK;
}
