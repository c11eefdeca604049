#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/schedule_index.h"

/* --- messages --- */

/* Every message that the work needs has both its ends, and none is there that nothing needs. */
static hb_status check_ends(const struct hb_schedule_index *index)
{
    const struct hb_schedule *s = index->schedule;
    for (int k = HB_ACTION_SEND_F; k <= HB_ACTION_RECV_B; k++)
        for (int stage = 0; stage < s->stages; stage++) {
            bool up = k == HB_ACTION_SEND_F || k == HB_ACTION_RECV_B;
            int other = up ? stage + 1 : stage - 1;
            bool wanted = other >= 0 && other < s->stages && s->rank_of[other] != s->rank_of[stage];
            for (int64_t m = 0; m < s->microbatches; m++) {
                struct hb_action a = {.kind = (enum hb_action_kind)k, .stage = stage, .microbatch = m};
                char text[HB_ACTION_TEXT];
                bool there = hb_schedule_position(index, a.kind, stage, m) >= 0;
                if (there != wanted)
                    return HB_FAIL(HB_EFORMAT, "%s: %s %s", s->name, hb_action_text(&a, text),
                                   wanted ? "is missing; a schedule has all messages or none"
                                          : "leads nowhere: that neighbour is not on another rank");
            }
        }
    return HB_OK;
}

static struct hb_action sender_of(const struct hb_action *receive)
{
    bool forward = receive->kind == HB_ACTION_RECV_F;
    return (struct hb_action){.kind = forward ? HB_ACTION_SEND_F : HB_ACTION_SEND_B,
                              .stage = forward ? receive->stage - 1 : receive->stage + 1,
                              .microbatch = receive->microbatch};
}

/* Of the messages from one rank to another: each is received in the order of sending. seen[rank] holds the
 * position, in that rank's row, of the last message of it that was received. */
static hb_status check_order(const struct hb_schedule_index *index, int rank, int64_t *seen)
{
    const struct hb_schedule *s = index->schedule;
    for (int r = 0; r < s->ranks; r++)
        seen[r] = -1;
    for (int64_t i = 0; i < s->rows[rank].count; i++) {
        const struct hb_action *a = &s->rows[rank].actions[i];
        if (a->kind != HB_ACTION_RECV_F && a->kind != HB_ACTION_RECV_B)
            continue;
        struct hb_action sender = sender_of(a);
        int64_t position = hb_schedule_position(index, sender.kind, sender.stage, sender.microbatch);
        char text[HB_ACTION_TEXT], sent[HB_ACTION_TEXT];
        if (position < seen[a->peer])
            return HB_FAIL(
                HB_EFORMAT,
                "%s: rank %d receives %s at position %lld, after a message that rank %d sends later than %s",
                s->name, rank, hb_action_text(a, text), (long long)i + 1, a->peer,
                hb_action_text(&sender, sent));
        seen[a->peer] = position;
    }
    return HB_OK;
}

/* --- gathers --- */

static hb_status check_gathers(const struct hb_schedule *s, int rank, bool *held)
{
    memset(held, 0, (size_t)s->stages * sizeof *held);
    for (int64_t i = 0; i < s->rows[rank].count; i++) {
        const struct hb_action *a = &s->rows[rank].actions[i];
        char text[HB_ACTION_TEXT];
        bool needs = a->kind == HB_ACTION_F || a->kind == HB_ACTION_I || a->kind == HB_ACTION_B ||
                     a->kind == HB_ACTION_RELEASE;
        if (needs != held[a->stage] && (needs || a->kind == HB_ACTION_GATHER))
            return HB_FAIL(HB_EFORMAT, "%s: rank %d, position %lld: %s, but the stage's parameters are %s",
                           s->name, rank, (long long)i + 1, hb_action_text(a, text),
                           needs ? "not gathered" : "gathered already");
        if (a->kind == HB_ACTION_GATHER || a->kind == HB_ACTION_RELEASE)
            held[a->stage] = a->kind == HB_ACTION_GATHER;
    }
    return HB_OK;
}

/* --- execution: who waits for whom --- */

static bool is_done(const struct hb_schedule_index *index, const int64_t *at, const struct hb_action *a)
{
    return hb_schedule_position(index, a->kind, a->stage, a->microbatch) <
           at[index->schedule->rank_of[a->stage]];
}

/* The first thing that the next action of `rank` waits for; false: nothing. */
static bool waits_for(const struct hb_schedule_index *index, const int64_t *at, int rank,
                      struct hb_action *what)
{
    struct hb_action needs[HB_ACTION_NEEDS_MAX];
    int n = hb_action_needs(index, &index->schedule->rows[rank].actions[at[rank]], needs);
    for (int i = 0; i < n; i++)
        if (!is_done(index, at, &needs[i])) {
            *what = needs[i];
            return true;
        }
    return false;
}

/* One line that says what each waiting rank waits for. */
static hb_status fail_stuck(const struct hb_schedule_index *index, const int64_t *at)
{
    const struct hb_schedule *s = index->schedule;
    char list[512] = "", text[HB_ACTION_TEXT], other[HB_ACTION_TEXT];
    size_t used = 0;
    struct hb_action what;
    for (int r = 0; r < s->ranks; r++) {
        if (at[r] == s->rows[r].count || !waits_for(index, at, r, &what))
            continue;
        const struct hb_action *a = &s->rows[r].actions[at[r]];
        hb_action_text(a, text);
        hb_action_text(&what, other);
        if (s->rank_of[what.stage] == r)
            return HB_FAIL(HB_EFORMAT, "%s: rank %d, position %lld: %s comes before %s, which it needs",
                           s->name, r, (long long)at[r] + 1, text, other);
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used,
                                     "%srank %d at %s (position %lld) for %s of rank %d", used ? ", " : "", r,
                                     text, (long long)at[r] + 1, other, s->rank_of[what.stage]);
    }
    return HB_FAIL(HB_EFORMAT, "%s: deadlock, these wait for each other: %s", s->name, list);
}

static hb_status run(const struct hb_schedule_index *index, int64_t *at)
{
    const struct hb_schedule *s = index->schedule;
    struct hb_action what;
    bool moved = true, finished = false;
    while (moved && !finished) {
        moved = false;
        finished = true;
        for (int r = 0; r < s->ranks; r++) {
            int64_t before = at[r];
            while (at[r] < s->rows[r].count && !waits_for(index, at, r, &what))
                at[r]++;
            moved |= at[r] > before;
            finished &= at[r] == s->rows[r].count;
        }
    }
    return finished ? HB_OK : fail_stuck(index, at);
}

static hb_status check(const struct hb_schedule_index *index, int64_t *at, bool *held)
{
    const struct hb_schedule *s = index->schedule;
    bool gathers = hb_schedule_has(s, HB_ACTION_GATHER) || hb_schedule_has(s, HB_ACTION_RELEASE);
    if (index->messages)
        HB_TRY(check_ends(index));
    for (int r = 0; r < s->ranks; r++) {
        if (index->messages)
            HB_TRY(check_order(index, r, at));
        if (gathers)
            HB_TRY(check_gathers(s, r, held));
    }
    memset(at, 0, (size_t)s->ranks * sizeof *at);
    return run(index, at);
}

hb_status hb_schedule_check(const struct hb_schedule *s)
{
    struct hb_schedule_index index;
    HB_TRY(hb_schedule_index_init(&index, s));
    int64_t *at = malloc((size_t)s->ranks * sizeof *at);
    bool *held = malloc((size_t)s->stages * sizeof *held);
    hb_status status = at && held ? check(&index, at, held)
                                  : HB_FAIL(HB_EMEMORY, "out of memory for checking a schedule");
    free(at);
    free(held);
    hb_schedule_index_release(&index);
    return status;
}
