#include <stdlib.h>
#include <string.h>

#include "parallel/schedule_index.h"

/* --- messages --- */

/* Receives of one row: before which of its actions each stands. */
struct receive {
    int64_t before; /* position in the row of work */
    int64_t sent;   /* position of the producer in the sender's row */
    int from;
    struct hb_action action;
};

static bool makes_output(enum hb_action_kind kind)
{
    return kind == HB_ACTION_F;
}

static bool makes_gradient(enum hb_action_kind kind)
{
    return kind == HB_ACTION_I || kind == HB_ACTION_B;
}

static bool on_other_rank(const struct hb_schedule *s, int stage, int other)
{
    return other >= 0 && other < s->stages && s->rank_of[other] != s->rank_of[stage];
}

/* By sender, then in the order of sending. */
static int by_sender(const void *a, const void *b)
{
    const struct receive *x = a, *y = b;
    if (x->from != y->from)
        return x->from - y->from;
    return x->sent < y->sent ? -1 : x->sent > y->sent;
}

static int by_place(const void *a, const void *b)
{
    const struct receive *x = a, *y = b;
    if (x->before != y->before)
        return x->before < y->before ? -1 : 1;
    return by_sender(a, b);
}

/* The receives of a row in their final order. A message stands before its consumer, and not behind a later
 * message of the same sender. */
static int64_t list_receives(const struct hb_schedule_index *index, int rank, struct receive *list)
{
    const struct hb_schedule *s = index->schedule;
    const struct hb_schedule_row *row = &s->rows[rank];
    int64_t n = 0;
    for (int64_t i = 0; i < row->count; i++) {
        const struct hb_action *a = &row->actions[i];
        int other = makes_output(a->kind) ? a->stage - 1 : makes_gradient(a->kind) ? a->stage + 1 : -1;
        if (!on_other_rank(s, a->stage, other))
            continue;
        enum hb_action_kind producer =
            other < a->stage ? HB_ACTION_F : hb_schedule_gradient_kind(index, other, a->microbatch);
        list[n++] = (struct receive){
            .before = i,
            .sent = hb_schedule_position(index, producer, other, a->microbatch),
            .from = s->rank_of[other],
            .action = {.kind = other < a->stage ? HB_ACTION_RECV_F : HB_ACTION_RECV_B,
                       .stage = a->stage,
                       .microbatch = a->microbatch},
        };
    }
    qsort(list, (size_t)n, sizeof *list, by_sender);
    for (int64_t i = n - 2; i >= 0; i--)
        if (list[i].from == list[i + 1].from && list[i].before > list[i + 1].before)
            list[i].before = list[i + 1].before;
    qsort(list, (size_t)n, sizeof *list, by_place);
    return n;
}

static hb_status fill_row(const struct hb_schedule_index *index, int rank, struct hb_schedule *out)
{
    const struct hb_schedule *s = index->schedule;
    const struct hb_schedule_row *row = &s->rows[rank];
    struct receive *list = malloc((size_t)row->count * sizeof *list + 1);
    if (!list)
        return HB_FAIL(HB_EMEMORY, "out of memory for the messages of a schedule");
    int64_t count = list_receives(index, rank, list), next = 0;
    hb_status status = HB_OK;
    for (int64_t i = 0; i < row->count; i++) {
        const struct hb_action *a = &row->actions[i];
        for (; next < count && list[next].before == i; next++)
            HB_TRY_CLEAN(hb_schedule_append(out, rank, list[next].action.kind, list[next].action.stage,
                                            list[next].action.microbatch));
        HB_TRY_CLEAN(hb_schedule_append(out, rank, a->kind, a->stage, a->microbatch));
        if (makes_output(a->kind) && on_other_rank(s, a->stage, a->stage + 1))
            HB_TRY_CLEAN(hb_schedule_append(out, rank, HB_ACTION_SEND_F, a->stage, a->microbatch));
        if (makes_gradient(a->kind) && on_other_rank(s, a->stage, a->stage - 1))
            HB_TRY_CLEAN(hb_schedule_append(out, rank, HB_ACTION_SEND_B, a->stage, a->microbatch));
    }
cleanup:
    free(list);
    return status;
}

/* Puts `made` in the place of `schedule`. */
static hb_status replace(struct hb_schedule *schedule, struct hb_schedule *made, hb_status status)
{
    if (status == HB_OK)
        status = hb_schedule_place(made);
    if (status != HB_OK) {
        hb_schedule_release(made);
        return status;
    }
    hb_schedule_release(schedule);
    *schedule = *made;
    return HB_OK;
}

hb_status hb_schedule_add_messages(struct hb_schedule *s)
{
    struct hb_schedule_index index;
    struct hb_schedule made;
    HB_TRY(hb_schedule_index_init(&index, s));
    hb_status status = index.messages
                           ? HB_FAIL(HB_EARGUMENT, "%s: has its messages already", s->name)
                           : hb_schedule_create(s->name, s->ranks, s->stages, s->microbatches, &made);
    if (status != HB_OK) {
        hb_schedule_index_release(&index);
        return status;
    }
    for (int r = 0; r < s->ranks && status == HB_OK; r++)
        status = fill_row(&index, r, &made);
    hb_schedule_index_release(&index);
    return replace(s, &made, status);
}

/* --- gathers --- */

static bool needs_parameters(const struct hb_action *a, int stage)
{
    return a->stage == stage && (a->kind == HB_ACTION_F || a->kind == HB_ACTION_I || a->kind == HB_ACTION_B);
}

/* The next position from `from` at which a stage's parameters are needed, or the row's end. */
static int64_t next_use(const struct hb_schedule_row *row, int stage, int64_t from)
{
    while (from < row->count && !needs_parameters(&row->actions[from], stage))
        from++;
    return from;
}

/* Of the held stages the one needed latest. */
static int latest(const struct hb_schedule *s, int rank, const bool *held, int64_t from)
{
    int which = -1;
    int64_t most = -1;
    for (int stage = 0; stage < s->stages; stage++) {
        int64_t use = held[stage] ? next_use(&s->rows[rank], stage, from) : -1;
        if (use > most) {
            most = use;
            which = stage;
        }
    }
    return which;
}

static hb_status gather_row(const struct hb_schedule *s, int rank, int most, bool *held,
                            struct hb_schedule *out)
{
    const struct hb_schedule_row *row = &s->rows[rank];
    int count = 0;
    memset(held, 0, (size_t)s->stages * sizeof *held);
    for (int64_t i = 0; i < row->count; i++) {
        const struct hb_action *a = &row->actions[i];
        bool needs = needs_parameters(a, a->stage);
        if (needs && !held[a->stage]) {
            if (count == most) {
                int victim = latest(s, rank, held, i);
                HB_TRY(hb_schedule_append(out, rank, HB_ACTION_RELEASE, victim, -1));
                held[victim] = false;
                count--;
            }
            HB_TRY(hb_schedule_append(out, rank, HB_ACTION_GATHER, a->stage, -1));
            held[a->stage] = true;
            count++;
        }
        HB_TRY(hb_schedule_append(out, rank, a->kind, a->stage, a->microbatch));
        if (needs && next_use(row, a->stage, i + 1) == row->count) {
            HB_TRY(hb_schedule_append(out, rank, HB_ACTION_RELEASE, a->stage, -1));
            held[a->stage] = false;
            count--;
        }
    }
    return HB_OK;
}

hb_status hb_schedule_add_gathers(struct hb_schedule *s, int most)
{
    struct hb_schedule made;
    if (most < 1)
        return HB_FAIL(HB_EARGUMENT, "a rank must hold the parameters of at least one stage, not of %d",
                       most);
    if (hb_schedule_has(s, HB_ACTION_GATHER))
        return HB_FAIL(HB_EARGUMENT, "%s: has its gathers already", s->name);
    bool *held = malloc((size_t)s->stages * sizeof *held);
    if (!held)
        return HB_FAIL(HB_EMEMORY, "out of memory for the gathers of a schedule");
    hb_status status = hb_schedule_create(s->name, s->ranks, s->stages, s->microbatches, &made);
    if (status != HB_OK) {
        free(held);
        return status;
    }
    for (int r = 0; r < s->ranks && status == HB_OK; r++)
        status = gather_row(s, r, most, held, &made);
    free(held);
    return replace(s, &made, status);
}
