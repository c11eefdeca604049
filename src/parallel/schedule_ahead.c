/* How far a rank's messages may run ahead of those who receive them.
 *
 * Ranks know what they are told: with a message comes what its sender knew when it sent it (a vector clock,
 * Mattern 1988). A rank knows that its message has arrived when it knows of the action that received it. */
#include <stdlib.h>
#include <string.h>

#include "parallel/schedule_index.h"

struct clocks {
    const struct hb_schedule_index *index;
    int64_t *at;     /* [ranks] next action */
    int64_t *known;  /* [ranks, ranks] how many actions of each rank a rank knows to be done */
    int64_t **told;  /* [ranks][actions]: of a SEND what went along [ranks]; else NULL */
    int64_t *counts; /* [ranks] actions of the row */
    /* of the rank that is asked for: positions of sends that may be on their way, and the most so far */
    int whose;
    int64_t *open, open_count, most;
};

static bool sends(enum hb_action_kind kind)
{
    return kind == HB_ACTION_SEND_F || kind == HB_ACTION_SEND_B;
}

static bool receives(enum hb_action_kind kind)
{
    return kind == HB_ACTION_RECV_F || kind == HB_ACTION_RECV_B;
}

static int64_t place_of(const struct clocks *c, int rank, int64_t position)
{
    int64_t before = 0;
    for (int r = 0; r < rank; r++)
        before += c->counts[r];
    return before + position;
}

/* What the sender told; NULL: it has not sent yet. */
static const int64_t *message(const struct clocks *c, const struct hb_action *receive)
{
    struct hb_action sent[HB_ACTION_NEEDS_MAX];
    int from = receive->peer;
    if (hb_action_needs(c->index, receive, sent) != 1)
        return NULL;
    int64_t position = hb_schedule_position(c->index, sent[0].kind, sent[0].stage, sent[0].microbatch);
    return position < c->at[from] ? c->told[place_of(c, from, position)] : NULL;
}

/* Of the sends at `open[0 .. n - 1]` of a rank's row those stay of whose arrival it does not know. */
static int64_t still_open(const struct clocks *c, int rank, int64_t *open, int64_t n)
{
    const struct hb_schedule *s = c->index->schedule;
    int64_t left = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct hb_action *a = &s->rows[rank].actions[open[i]];
        bool forward = a->kind == HB_ACTION_SEND_F;
        int64_t there = hb_schedule_position(c->index, forward ? HB_ACTION_RECV_F : HB_ACTION_RECV_B,
                                             forward ? a->stage + 1 : a->stage - 1, a->microbatch);
        if (there >= c->known[rank * s->ranks + a->peer])
            open[left++] = open[i];
    }
    return left;
}

/* Runs a rank as far as it gets. */
static hb_status advance(struct clocks *c, int rank, bool *moved)
{
    const struct hb_schedule *s = c->index->schedule;
    int64_t *known = c->known + rank * s->ranks;
    size_t bytes = (size_t)s->ranks * sizeof *known;
    for (; c->at[rank] < s->rows[rank].count; c->at[rank]++) {
        const struct hb_action *a = &s->rows[rank].actions[c->at[rank]];
        if (receives(a->kind)) {
            const int64_t *told = message(c, a);
            if (!told)
                return HB_OK;
            for (int q = 0; q < s->ranks; q++)
                known[q] = told[q] > known[q] ? told[q] : known[q];
        }
        *moved = true;
        known[rank] = c->at[rank] + 1;
        if (!sends(a->kind))
            continue;
        int64_t *told = malloc(bytes);
        if (!told)
            return HB_FAIL(HB_EMEMORY, "out of memory for the messages of a schedule");
        memcpy(told, known, bytes);
        c->told[place_of(c, rank, c->at[rank])] = told;
        if (rank != c->whose)
            continue;
        c->open_count = still_open(c, rank, c->open, c->open_count);
        c->open[c->open_count++] = c->at[rank];
        c->most = c->open_count > c->most ? c->open_count : c->most;
    }
    return HB_OK;
}

static hb_status run(struct clocks *c)
{
    for (bool moved = true; moved;) {
        moved = false;
        for (int r = 0; r < c->index->schedule->ranks; r++)
            HB_TRY(advance(c, r, &moved));
    }
    return HB_OK;
}

hb_status hb_schedule_ahead(const struct hb_schedule *s, int rank, int64_t *most)
{
    struct hb_schedule_index index;
    size_t ranks = (size_t)s->ranks;
    int64_t all = 0;
    HB_TRY(hb_schedule_index_init(&index, s));
    struct clocks c = {.index = &index,
                       .at = calloc(ranks, sizeof *c.at),
                       .known = calloc(ranks * ranks, sizeof *c.known),
                       .counts = calloc(ranks, sizeof *c.counts),
                       .open = calloc((size_t)s->rows[rank].count + 1, sizeof *c.open),
                       .whose = rank};
    for (int r = 0; c.counts && r < s->ranks; r++)
        all += c.counts[r] = s->rows[r].count;
    c.told = calloc((size_t)all + 1, sizeof *c.told);
    hb_status status = c.at && c.known && c.told && c.counts && c.open
                           ? run(&c)
                           : HB_FAIL(HB_EMEMORY, "out of memory for the messages of a schedule");
    for (int64_t i = 0; c.told && i < all; i++)
        free(c.told[i]);
    free(c.at);
    free(c.known);
    free(c.told);
    free(c.counts);
    free(c.open);
    hb_schedule_index_release(&index);
    *most = c.most;
    return status;
}
