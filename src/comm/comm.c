#include "comm/comm.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/alarm.h"
#include "comm/over.h"
#include "comm/transport.h"
#include "comm/watch.h"

static double timeout = 1800;
static struct hb_comm_traffic everything;

const char *hb_comm_kind_name(enum hb_comm_kind kind)
{
    static const char *const names[HB_COMM_KINDS] = {"message", "exchange", "gather", "broadcast", "agree"};
    return names[kind];
}

/* --- life --- */

const char *hb_comm_library(void)
{
    return hb_mpi_library();
}

hb_status hb_comm_world(struct hb_comm **out)
{
    if (!hb_comm_is_parallel())
        return hb_comm_self(out);
    HB_TRY(hb_mpi_world(out));
    hb_alarm_patience(timeout);
    hb_status status = hb_alarm_arm(*out);
    if (status != HB_OK)
        hb_comm_destroy(*out);
    return status;
}

hb_status hb_comm_split(struct hb_comm *parent, int64_t color, int64_t key, const char *name,
                        struct hb_comm **out)
{
    struct hb_comm *comm = calloc(1, sizeof *comm);
    hb_status status = comm ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for communicator %s", name);
    if (parent->size > 1)
        status = hb_comm_agree(parent, status); /* what follows waits for all, for ever */
    if (status != HB_OK) {
        free(comm);
        return status;
    }
    comm->transport = parent->transport;
    comm->parent = parent;
    snprintf(comm->name, sizeof comm->name, "%s", name);
    status = parent->transport->split(parent, color, key, comm);
    if (status != HB_OK) {
        free(comm);
        return status;
    }
    comm->world_rank = calloc((size_t)comm->size, sizeof *comm->world_rank);
    size_t *bytes = calloc((size_t)comm->size, sizeof *bytes);
    int mine = hb_comm_world_rank(parent, parent->rank), *ranks = comm->world_rank;
    if (!ranks || !bytes)
        status = HB_FAIL(HB_EMEMORY, "out of memory for communicator %s", name);
    for (int r = 0; status == HB_OK && r < comm->size; r++)
        bytes[r] = sizeof mine;
    comm->world_rank = NULL; /* not yet known: messages name ranks of the group */
    if (status == HB_OK)
        status = hb_comm_gather(comm, &mine, ranks, bytes);
    comm->world_rank = ranks;
    comm->traffic = (struct hb_comm_traffic){0};
    free(bytes);
    if (status != HB_OK) {
        hb_comm_destroy(comm);
        return status;
    }
    *out = comm;
    return HB_OK;
}

void hb_comm_destroy(struct hb_comm *comm)
{
    if (!comm)
        return;
    hb_alarm_disarm(comm);
    if (comm->host)
        hb_over_forget(comm);
    comm->transport->destroy(comm);
    if (!comm->host)
        free(comm->world_rank);
    free(comm);
}

hb_status hb_comm_fail(struct hb_comm *world, hb_status status)
{
    return world->size > 1 && status != HB_OK ? hb_alarm_raise(HB_ALARM_FAILED, status, NULL, 0) : status;
}

bool hb_comm_is_whole(void)
{
    return hb_alarm_whole();
}

bool hb_comm_speaks(void)
{
    return hb_alarm_speaks();
}

void hb_comm_abort(struct hb_comm *world, int code)
{
    world->transport->abort(world, code);
}

struct hb_comm *hb_comm_root(struct hb_comm *comm)
{
    while (comm->parent)
        comm = comm->parent;
    return comm;
}

int hb_comm_rank(const struct hb_comm *comm)
{
    return comm->rank;
}

int hb_comm_size(const struct hb_comm *comm)
{
    return comm->size;
}

int hb_comm_world_rank(const struct hb_comm *comm, int rank)
{
    return comm->world_rank ? comm->world_rank[rank] : rank;
}

void hb_comm_set_timeout(double seconds)
{
    timeout = seconds;
    hb_alarm_patience(seconds);
}

struct hb_comm_traffic hb_comm_traffic(const struct hb_comm *comm)
{
    if (!comm)
        return everything;
    return comm->host ? comm->host->traffic : comm->traffic;
}

/* --- two ranks --- */

static void count_call(struct hb_comm *comm, enum hb_comm_kind kind)
{
    if (comm->size == 1)
        return;
    hb_comm_count(comm)->calls[kind]++;
    everything.calls[kind]++;
}

/* A failure here is the end of the job: it is told to all while the memory of messages is still there. */
static hb_status pass_on(const struct hb_comm *comm, hb_status status)
{
    return status == HB_OK || comm->size == 1 ? status : hb_alarm_raise(HB_ALARM_FAILED, status, NULL, 0);
}

static hb_status start_send(struct hb_comm *comm, int to, int lane, enum hb_comm_kind kind, const void *data,
                            size_t bytes, struct hb_comm_request *request)
{
    HB_TRY(hb_alarm_over());
    *request = (struct hb_comm_request){.peer = to};
    hb_comm_count(comm)->messages[kind]++;
    everything.messages[kind]++;
    hb_comm_count(comm)->bytes[kind] += (int64_t)bytes;
    everything.bytes[kind] += (int64_t)bytes;
    return pass_on(comm, comm->transport->send(comm, to, lane, data, bytes, request));
}

static hb_status start_receive(struct hb_comm *comm, int from, int lane, void *data, size_t bytes,
                               struct hb_comm_request *request)
{
    HB_TRY(hb_alarm_over());
    *request = (struct hb_comm_request){.peer = from, .receives = true};
    return pass_on(comm, comm->transport->receive(comm, from, lane, data, bytes, request));
}

hb_status hb_comm_send(struct hb_comm *comm, int to, const void *data, size_t bytes,
                       struct hb_comm_request *request)
{
    count_call(comm, HB_COMM_MESSAGE);
    HB_TRY(start_send(comm, to, HB_LANE_MESSAGES, HB_COMM_MESSAGE, data, bytes, request));
    hb_watch_sent(request, bytes);
    return HB_OK;
}

hb_status hb_comm_receive(struct hb_comm *comm, int from, void *data, size_t bytes,
                          struct hb_comm_request *request)
{
    return start_receive(comm, from, HB_LANE_MESSAGES, data, bytes, request);
}

hb_status hb_comm_test(struct hb_comm *comm, struct hb_comm_request *request)
{
    if (request->done)
        return HB_OK;
    HB_TRY(hb_alarm_over());
    HB_TRY(pass_on(comm, comm->transport->test(comm, request)));
    if (request->done)
        hb_watch_arrived(comm, request);
    return HB_OK;
}

void hb_comm_progress(struct hb_comm *comm)
{
    if (comm->transport->progress)
        comm->transport->progress(comm);
    hb_over_progress();
}

static hb_status give_up(const struct hb_comm *comm, const struct hb_comm_request *requests, int64_t count,
                         double seconds)
{
    char text[200] = "";
    size_t length = 0;
    int ranks[16], n = 0;
    for (int64_t i = 0; i < count && n < 16; i++)
        if (!requests[i].done && requests[i].peer >= 0 &&
            !(n && ranks[n - 1] == hb_comm_world_rank(comm, requests[i].peer))) {
            ranks[n] = hb_comm_world_rank(comm, requests[i].peer);
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%d", n ? ", " : "", ranks[n]);
            n++;
        }
    hb_status status =
        HB_FAIL(HB_EIO, "rank %d waited %.0f s for %s%s in group %s", hb_comm_world_rank(comm, comm->rank),
                seconds, n ? "rank " : "the others", text, comm->name);
    return hb_alarm_raise(HB_ALARM_SILENCE, status, ranks, n);
}

/* A look that found nothing: polls and gives way, since ranks may share processors, and one that spins would
 * keep the others from what it waits for. *start: since when it really waits; 0: not yet. */
static hb_status give_way(int64_t polls, double *start, bool *late)
{
    enum { POLLS = 8 };
    *late = false;
    if (polls < POLLS)
        return HB_OK;
    if (*start == 0)
        *start = hb_watch_now();
    if (polls % 16 == 0) {
        HB_TRY(hb_alarm_listen());
        hb_over_progress();
    }
    *late = timeout > 0 && polls % 64 == 0 && hb_watch_now() - *start > timeout;
    sched_yield();
    return HB_OK;
}

hb_status hb_comm_until(const struct hb_comm *comm, hb_status (*look)(void *state, bool *done), void *state)
{
    double start = 0;
    bool done = false, late;
    for (int64_t polls = 0;; polls++) {
        HB_TRY(pass_on(comm, look(state, &done)));
        if (done)
            return HB_OK;
        HB_TRY(give_way(polls, &start, &late));
        if (late)
            return give_up(comm, NULL, 0, timeout);
    }
}

static hb_status wait_all(struct hb_comm *comm, struct hb_comm_request *requests, int64_t count,
                          double *start)
{
    bool late;
    *start = 0;
    for (int64_t polls = 0;; polls++) {
        int64_t open = 0;
        for (int64_t i = 0; i < count; i++) {
            if (!requests[i].done && requests[i].peer >= 0)
                HB_TRY(hb_comm_test(comm, &requests[i]));
            open += !requests[i].done && requests[i].peer >= 0;
        }
        if (!open)
            break;
        HB_TRY(give_way(polls, start, &late));
        if (late)
            return give_up(comm, requests, count, timeout);
    }
    if (comm->transport->settle)
        comm->transport->settle(comm);
    if (*start != 0) {
        double waited = hb_watch_now() - *start;
        hb_comm_count(comm)->waited += waited;
        everything.waited += waited;
    }
    return HB_OK;
}

hb_status hb_comm_wait(struct hb_comm *comm, struct hb_comm_request *requests, int64_t count)
{
    double start;
    HB_TRY(wait_all(comm, requests, count, &start));
    if (start != 0)
        hb_watch_waited(comm, requests[0].peer, start);
    return HB_OK;
}

/* --- all ranks --- */

/* Sends and receives with every other rank that has something; what a rank has
 * for itself is copied. */
static hb_status all_to_all_begin(struct hb_comm *comm, enum hb_comm_kind kind, const char *const *send,
                                  const size_t *send_bytes, char *const *recv, const size_t *recv_bytes,
                                  struct hb_comm_pending *g)
{
    *g = (struct hb_comm_pending){.requests = malloc(2 * (size_t)comm->size * sizeof *g->requests)};
    hb_status status = HB_OK;
    if (!g->requests)
        return HB_FAIL(HB_EMEMORY, "out of memory for the messages of %d ranks", comm->size);
    const struct hb_transport_device *device = comm->transport->device;
    if (device) {
        HB_TRY(hb_alarm_over());
        status = pass_on(comm, device->begin(comm));
    }
    bool begun = device && status == HB_OK;
    for (int i = 1; i < comm->size; i++) {
        int from = (comm->rank + comm->size - i) % comm->size;
        if (status == HB_OK && recv_bytes[from])
            status = start_receive(comm, from, HB_LANE_COLLECTIVES, recv[from], recv_bytes[from],
                                   &g->requests[g->count++]);
    }
    for (int i = 1; i < comm->size; i++) {
        int to = (comm->rank + i) % comm->size;
        if (status != HB_OK || !send_bytes[to])
            continue;
        status = start_send(comm, to, HB_LANE_COLLECTIVES, kind, send[to], send_bytes[to],
                            &g->requests[g->count++]);
        g->messages++;
        g->bytes += (int64_t)send_bytes[to];
    }
    if (begun && status == HB_OK)
        status = pass_on(comm, device->end(comm));
    if (status != HB_OK || !send_bytes[comm->rank] || recv[comm->rank] == send[comm->rank] || comm->blind)
        return status;
    if (device)
        return device->copy(comm, recv[comm->rank], send[comm->rank], send_bytes[comm->rank]);
    memmove(recv[comm->rank], send[comm->rank], send_bytes[comm->rank]);
    return HB_OK;
}

void hb_comm_drop(struct hb_comm_pending *pending)
{
    free(pending->requests);
    pending->requests = NULL;
}

static hb_status all_to_all_end(struct hb_comm *comm, struct hb_comm_pending *g)
{
    double start;
    hb_status status = wait_all(comm, g->requests, g->count, &start);
    hb_comm_drop(g);
    return status;
}

static hb_status all_to_all(struct hb_comm *comm, enum hb_comm_kind kind, const char *const *send,
                            const size_t *send_bytes, char *const *recv, const size_t *recv_bytes)
{
    struct hb_comm_pending g;
    hb_status status = all_to_all_begin(comm, kind, send, send_bytes, recv, recv_bytes, &g);
    if (status == HB_OK)
        return all_to_all_end(comm, &g);
    hb_comm_drop(&g);
    return status;
}

struct ends {
    const char **send;
    char **recv;
    size_t *bytes;
};

static hb_status ends_init(struct ends *ends, const struct hb_comm *comm)
{
    size_t n = (size_t)comm->size;
    *ends = (struct ends){calloc(n, sizeof *ends->send), calloc(n, sizeof *ends->recv),
                          calloc(n, sizeof *ends->bytes)};
    if (ends->send && ends->recv && ends->bytes)
        return HB_OK;
    return HB_FAIL(HB_EMEMORY, "out of memory for the messages of %d ranks", comm->size);
}

static void ends_release(struct ends *ends)
{
    free(ends->send);
    free(ends->recv);
    free(ends->bytes);
}

hb_status hb_comm_exchange(struct hb_comm *comm, const void *send, const size_t *send_bytes, void *recv,
                           const size_t *recv_bytes)
{
    struct ends ends;
    struct hb_watch watch = hb_watch_begin(comm, HB_COMM_EXCHANGE);
    count_call(comm, HB_COMM_EXCHANGE);
    hb_status status = ends_init(&ends, comm);
    const char *from = send;
    char *to = recv;
    for (int r = 0; status == HB_OK && r < comm->size; r++) {
        ends.send[r] = from;
        ends.recv[r] = to;
        from += send_bytes[r];
        to += recv_bytes[r];
    }
    if (status == HB_OK)
        status = all_to_all(comm, HB_COMM_EXCHANGE, ends.send, send_bytes, ends.recv, recv_bytes);
    ends_release(&ends);
    hb_watch_end(comm, HB_COMM_EXCHANGE, watch);
    return status;
}

static hb_status gather_begin(struct hb_comm *comm, enum hb_comm_kind kind, const void *send, void *recv,
                              const size_t *bytes, struct hb_comm_pending *pending)
{
    struct ends ends;
    hb_status status = ends_init(&ends, comm);
    char *to = recv;
    *pending = (struct hb_comm_pending){.requests = NULL};
    for (int r = 0; status == HB_OK && r < comm->size; r++) {
        ends.send[r] = send;
        ends.bytes[r] = bytes[comm->rank];
        ends.recv[r] = to;
        to += bytes[r];
    }
    if (status == HB_OK)
        status = all_to_all_begin(comm, kind, ends.send, ends.bytes, ends.recv, bytes, pending);
    if (status != HB_OK)
        hb_comm_drop(pending);
    ends_release(&ends);
    return status;
}

hb_status hb_comm_gather_begin(struct hb_comm *comm, const void *send, void *recv, const size_t *bytes,
                               struct hb_comm_pending *pending)
{
    count_call(comm, HB_COMM_GATHER);
    return gather_begin(comm, HB_COMM_GATHER, send, recv, bytes, pending);
}

/* For an observer all of it happens here: what came before stood behind other work. */
hb_status hb_comm_gather_end(struct hb_comm *comm, struct hb_comm_pending *pending)
{
    struct hb_watch watch = hb_watch_begin(comm, HB_COMM_GATHER);
    watch.messages -= pending->messages;
    watch.bytes -= pending->bytes;
    hb_status status = all_to_all_end(comm, pending);
    hb_watch_end(comm, HB_COMM_GATHER, watch);
    return status;
}

static hb_status gather(struct hb_comm *comm, enum hb_comm_kind kind, const void *send, void *recv,
                        const size_t *bytes)
{
    struct hb_comm_pending pending;
    HB_TRY(gather_begin(comm, kind, send, recv, bytes, &pending));
    return all_to_all_end(comm, &pending);
}

hb_status hb_comm_gather(struct hb_comm *comm, const void *send, void *recv, const size_t *bytes)
{
    struct hb_watch watch = hb_watch_begin(comm, HB_COMM_GATHER);
    count_call(comm, HB_COMM_GATHER);
    hb_status status = gather(comm, HB_COMM_GATHER, send, recv, bytes);
    hb_watch_end(comm, HB_COMM_GATHER, watch);
    return status;
}

/* Along a binomial tree: in round i the ranks that have the data send it
 * 2^i further. */
hb_status hb_comm_broadcast(struct hb_comm *comm, int root, void *data, size_t bytes)
{
    int size = comm->size, place = (comm->rank + size - root) % size;
    struct hb_watch watch = hb_watch_begin(comm, HB_COMM_BROADCAST);
    double start;
    count_call(comm, HB_COMM_BROADCAST);
    for (int step = 1; bytes && step < size; step *= 2) {
        struct hb_comm_request request = {.peer = -1};
        if (place < step && place + step < size)
            HB_TRY(start_send(comm, (comm->rank + step) % size, HB_LANE_COLLECTIVES, HB_COMM_BROADCAST, data,
                              bytes, &request));
        else if (place >= step && place < 2 * step)
            HB_TRY(start_receive(comm, (comm->rank + size - step) % size, HB_LANE_COLLECTIVES, data, bytes,
                                 &request));
        HB_TRY(wait_all(comm, &request, 1, &start));
    }
    hb_watch_end(comm, HB_COMM_BROADCAST, watch);
    return HB_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t plus(int64_t a, int64_t b)
{
    return a + b;
}

/* Everybody gets everybody's integers, in the order of ranks. They are few; and
 * a rank that does not come is named by all. */
static hb_status combine(struct hb_comm *comm, int64_t *values, int64_t count,
                         int64_t (*with)(int64_t, int64_t))
{
    if (comm->size == 1 || count == 0)
        return HB_OK;
    struct hb_watch watch = hb_watch_begin(comm, HB_COMM_AGREE);
    count_call(comm, HB_COMM_AGREE);
    size_t each = (size_t)count * sizeof *values, *bytes = calloc((size_t)comm->size, sizeof *bytes);
    int64_t *all = malloc((size_t)comm->size * each);
    hb_status status = bytes && all
                           ? HB_OK
                           : HB_FAIL(HB_EMEMORY, "out of memory for an agreement of %d ranks", comm->size);
    for (int r = 0; status == HB_OK && r < comm->size; r++)
        bytes[r] = each;
    if (status == HB_OK)
        status = gather(comm, HB_COMM_AGREE, values, all, bytes);
    for (int64_t i = 0; status == HB_OK && i < count; i++) {
        int64_t value = all[i];
        for (int r = 1; r < comm->size; r++)
            value = with(value, all[r * count + i]);
        values[i] = value;
    }
    hb_watch_end(comm, HB_COMM_AGREE, watch);
    free(bytes);
    free(all);
    return status;
}

hb_status hb_comm_max(struct hb_comm *comm, int64_t *values, int64_t count)
{
    return combine(comm, values, count, larger);
}

hb_status hb_comm_sum(struct hb_comm *comm, int64_t *values, int64_t count)
{
    return combine(comm, values, count, plus);
}

hb_status hb_comm_agree(struct hb_comm *comm, hb_status status)
{
    enum { TEXT = 600 };
    if (comm->size == 1)
        return status;
    int64_t first = status == HB_OK ? INT64_MIN : -comm->rank; /* the lowest rank that failed */
    HB_TRY(hb_comm_max(comm, &first, 1));
    if (first == INT64_MIN)
        return HB_OK;
    struct {
        int64_t status;
        char text[TEXT];
    } message = {status, ""};
    snprintf(message.text, sizeof message.text, "%s", status == HB_OK ? "" : hb_error());
    HB_TRY(hb_comm_broadcast(comm, (int)-first, &message, sizeof message));
    if (status != HB_OK)
        return status; /* its own message stays */
    status = HB_FAIL((hb_status)message.status, "rank %d: %s", hb_comm_world_rank(comm, (int)-first),
                     message.text);
    hb_alarm_follow();
    return status;
}
