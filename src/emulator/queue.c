#include "emulator/queue.h"

#include <stdio.h>
#include <stdlib.h>

struct piece {
    struct hb_emulator_work work;
    struct piece *next;
};

struct hb_emulator_queue {
    struct hb_emulator *emulator;
    struct piece *first, **last;
    int64_t added, done;
    hb_status failed;
    char message[300]; /* of what failed */
    struct hb_emulator_queue *next;
};

static struct hb_emulator_queue *all;

hb_status hb_emulator_queue_create(struct hb_emulator *emulator, struct hb_emulator_queue **out)
{
    struct hb_emulator_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return HB_FAIL(HB_EMEMORY, "out of memory for a queue of an emulated device");
    queue->emulator = emulator;
    queue->last = &queue->first;
    queue->next = all;
    all = queue;
    *out = queue;
    return HB_OK;
}

static void drop_first(struct hb_emulator_queue *queue)
{
    struct piece *piece = queue->first;
    queue->first = piece->next;
    if (!queue->first)
        queue->last = &queue->first;
    piece->work.release(piece->work.state);
    free(piece);
}

void hb_emulator_queue_destroy(struct hb_emulator_queue *queue)
{
    if (!queue)
        return;
    while (queue->first)
        drop_first(queue);
    struct hb_emulator_queue **at = &all;
    while (*at != queue)
        at = &(*at)->next;
    *at = queue->next;
    free(queue);
}

struct hb_emulator *hb_emulator_queue_device(const struct hb_emulator_queue *queue)
{
    return queue->emulator;
}

/* As far as it can go now. */
static void go_on(struct hb_emulator_queue *queue)
{
    bool done = true;
    while (queue->first && done && queue->failed == HB_OK) {
        queue->failed = queue->first->work.go_on(queue->first->work.state, &done);
        if (queue->failed != HB_OK) {
            snprintf(queue->message, sizeof queue->message, "%s", hb_error());
        } else if (done) {
            drop_first(queue);
            queue->done++;
        }
    }
}

hb_status hb_emulator_queue_add(struct hb_emulator_queue *queue, struct hb_emulator_work work)
{
    struct piece *piece = calloc(1, sizeof *piece);
    if (!piece) {
        work.release(work.state);
        return HB_FAIL(HB_EMEMORY, "out of memory for work of an emulated device");
    }
    piece->work = work;
    *queue->last = piece;
    queue->last = &piece->next;
    queue->added++;
    return HB_OK;
}

int64_t hb_emulator_queue_count(const struct hb_emulator_queue *queue)
{
    return queue->added;
}

hb_status hb_emulator_queue_passed(struct hb_emulator_queue *queue, int64_t count, bool *passed)
{
    for (struct hb_emulator_queue *q = all; q; q = q->next)
        go_on(q);
    *passed = queue->done >= count;
    return queue->failed == HB_OK ? HB_OK : HB_FAIL(queue->failed, "%s", queue->message);
}
