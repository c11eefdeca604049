#include "comm/watch.h"

#include <time.h>

static void (*observer)(void *context, const struct hb_comm_event *event);
static void *observer_context;

double hb_watch_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void hb_comm_observe(void (*observe)(void *context, const struct hb_comm_event *event), void *context)
{
    observer = observe;
    observer_context = context;
}

struct hb_watch hb_watch_begin(const struct hb_comm *comm, enum hb_comm_kind kind)
{
    if (!observer)
        return (struct hb_watch){0};
    struct hb_comm_traffic traffic = hb_comm_traffic(comm);
    return (struct hb_watch){hb_watch_now(), traffic.waited, traffic.messages[kind], traffic.bytes[kind]};
}

void hb_watch_end(const struct hb_comm *comm, enum hb_comm_kind kind, struct hb_watch watch)
{
    if (!observer || comm->size == 1)
        return;
    struct hb_comm_traffic traffic = hb_comm_traffic(comm);
    observer(observer_context,
             &(struct hb_comm_event){.group = comm->name,
                                     .what = HB_COMM_COLLECTIVE,
                                     .kind = kind,
                                     .peer = -1,
                                     .messages = traffic.messages[kind] - watch.messages,
                                     .bytes = traffic.bytes[kind] - watch.bytes,
                                     .begin = watch.begin,
                                     .end = hb_watch_now(),
                                     .waited = traffic.waited - watch.waited});
}

void hb_watch_sent(struct hb_comm_request *request, size_t bytes)
{
    if (!observer)
        return;
    request->begin = hb_watch_now();
    request->bytes = (int64_t)bytes;
}

void hb_watch_arrived(const struct hb_comm *comm, const struct hb_comm_request *request)
{
    if (!observer || request->begin == 0)
        return;
    observer(observer_context, &(struct hb_comm_event){.group = comm->name,
                                                       .what = HB_COMM_SENT,
                                                       .kind = HB_COMM_MESSAGE,
                                                       .peer = hb_comm_world_rank(comm, request->peer),
                                                       .messages = 1,
                                                       .bytes = request->bytes,
                                                       .begin = request->begin,
                                                       .end = hb_watch_now()});
}

void hb_watch_waited(const struct hb_comm *comm, int peer, double begin)
{
    if (!observer)
        return;
    double end = hb_watch_now();
    observer(observer_context, &(struct hb_comm_event){.group = comm->name,
                                                       .what = HB_COMM_WAITED,
                                                       .kind = HB_COMM_MESSAGE,
                                                       .peer = hb_comm_world_rank(comm, peer),
                                                       .begin = begin,
                                                       .end = end,
                                                       .waited = end - begin});
}
