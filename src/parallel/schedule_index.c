#include "parallel/schedule_index.h"

#include <stdlib.h>

static int64_t cell(const struct hb_schedule_index *index, int stage, int64_t microbatch)
{
    return stage * index->schedule->microbatches + microbatch;
}

int64_t hb_schedule_position(const struct hb_schedule_index *index, enum hb_action_kind kind, int stage,
                             int64_t microbatch)
{
    return index->position[kind][cell(index, stage, microbatch)];
}

enum hb_action_kind hb_schedule_gradient_kind(const struct hb_schedule_index *index, int stage,
                                              int64_t microbatch)
{
    return hb_schedule_position(index, HB_ACTION_B, stage, microbatch) >= 0 ? HB_ACTION_B : HB_ACTION_I;
}

/* Every stage has as many forwards and backwards as there are microbatches. Comes before the index is
 * allocated, so that its size is bounded by that of the schedule. */
static hb_status count_work(const struct hb_schedule *s)
{
    hb_status status = HB_OK;
    int64_t *count = calloc((size_t)s->stages * HB_ACTION_KINDS, sizeof *count);
    if (!count)
        return HB_FAIL(HB_EMEMORY, "out of memory for checking a schedule");
    for (int r = 0; r < s->ranks; r++)
        for (int64_t i = 0; i < s->rows[r].count; i++)
            count[s->rows[r].actions[i].stage * HB_ACTION_KINDS + s->rows[r].actions[i].kind]++;
    for (int stage = 0; stage < s->stages && status == HB_OK; stage++) {
        const int64_t *c = count + stage * HB_ACTION_KINDS;
        int64_t m = s->microbatches;
        if (c[HB_ACTION_F] != m || c[HB_ACTION_I] + c[HB_ACTION_B] != m || c[HB_ACTION_W] != c[HB_ACTION_I])
            status = HB_FAIL(
                HB_EFORMAT,
                "%s: stage %d has %lld F, %lld I, %lld W and %lld B actions; %lld microbatches need as "
                "many F, and for each of them I and W, or B",
                s->name, stage, (long long)c[HB_ACTION_F], (long long)c[HB_ACTION_I],
                (long long)c[HB_ACTION_W], (long long)c[HB_ACTION_B], (long long)m);
    }
    free(count);
    return status;
}

static hb_status fill(struct hb_schedule_index *index)
{
    const struct hb_schedule *s = index->schedule;
    char text[HB_ACTION_TEXT];
    for (int r = 0; r < s->ranks; r++)
        for (int64_t i = 0; i < s->rows[r].count; i++) {
            const struct hb_action *a = &s->rows[r].actions[i];
            if (a->kind == HB_ACTION_GATHER || a->kind == HB_ACTION_RELEASE)
                continue;
            int32_t *position = &index->position[a->kind][cell(index, a->stage, a->microbatch)];
            if (*position >= 0)
                return HB_FAIL(HB_EFORMAT, "%s: rank %d has %s twice, at positions %d and %lld", s->name, r,
                               hb_action_text(a, text), *position + 1, (long long)i + 1);
            *position = (int32_t)i;
            if (a->kind >= HB_ACTION_SEND_F)
                index->messages = true;
        }
    for (int stage = 0; stage < s->stages; stage++)
        for (int64_t m = 0; m < s->microbatches; m++) {
            bool whole = hb_schedule_position(index, HB_ACTION_B, stage, m) >= 0;
            bool input = hb_schedule_position(index, HB_ACTION_I, stage, m) >= 0;
            if (whole == input)
                return HB_FAIL(HB_EFORMAT, "%s: microbatch %lld of stage %d has %s", s->name, (long long)m,
                               stage, whole ? "both I and B" : "neither I nor B");
            if (input && hb_schedule_position(index, HB_ACTION_W, stage, m) < 0)
                return HB_FAIL(HB_EFORMAT, "%s: microbatch %lld of stage %d has I and no W", s->name,
                               (long long)m, stage);
        }
    return HB_OK;
}

static hb_status init(struct hb_schedule_index *index)
{
    int64_t cells = index->schedule->stages * index->schedule->microbatches;
    HB_TRY(count_work(index->schedule));
    for (int k = 0; k < HB_ACTION_GATHER; k++) {
        index->position[k] = malloc((size_t)cells * sizeof *index->position[k]);
        if (!index->position[k])
            return HB_FAIL(HB_EMEMORY, "out of memory for the index of a schedule");
        for (int64_t i = 0; i < cells; i++)
            index->position[k][i] = -1;
    }
    return fill(index);
}

hb_status hb_schedule_index_init(struct hb_schedule_index *index, const struct hb_schedule *schedule)
{
    *index = (struct hb_schedule_index){.schedule = schedule};
    hb_status status = init(index);
    if (status != HB_OK)
        hb_schedule_index_release(index);
    return status;
}

void hb_schedule_index_release(struct hb_schedule_index *index)
{
    for (int k = 0; k < HB_ACTION_GATHER; k++)
        free(index->position[k]);
    *index = (struct hb_schedule_index){0};
}

int hb_action_needs(const struct hb_schedule_index *index, const struct hb_action *a,
                    struct hb_action needs[HB_ACTION_NEEDS_MAX])
{
    const struct hb_schedule *s = index->schedule;
    int64_t m = a->microbatch;
    int n = 0;
    bool from_before = index->messages && a->stage > 0 && s->rank_of[a->stage - 1] != s->rank_of[a->stage];
    bool from_after =
        index->messages && a->stage + 1 < s->stages && s->rank_of[a->stage + 1] != s->rank_of[a->stage];
    switch (a->kind) {
    case HB_ACTION_F:
        if (from_before)
            needs[n++] = (struct hb_action){HB_ACTION_RECV_F, a->stage, m, -1};
        else if (a->stage > 0)
            needs[n++] = (struct hb_action){HB_ACTION_F, a->stage - 1, m, -1};
        break;
    case HB_ACTION_I:
    case HB_ACTION_B:
        needs[n++] = (struct hb_action){HB_ACTION_F, a->stage, m, -1};
        if (from_after)
            needs[n++] = (struct hb_action){HB_ACTION_RECV_B, a->stage, m, -1};
        else if (a->stage + 1 < s->stages)
            needs[n++] = (struct hb_action){hb_schedule_gradient_kind(index, a->stage + 1, m), a->stage + 1,
                                            m, -1};
        break;
    case HB_ACTION_W:
        needs[n++] = (struct hb_action){HB_ACTION_I, a->stage, m, -1};
        break;
    case HB_ACTION_SEND_F:
        needs[n++] = (struct hb_action){HB_ACTION_F, a->stage, m, -1};
        break;
    case HB_ACTION_SEND_B:
        needs[n++] = (struct hb_action){hb_schedule_gradient_kind(index, a->stage, m), a->stage, m, -1};
        break;
    case HB_ACTION_RECV_F:
        needs[n++] = (struct hb_action){HB_ACTION_SEND_F, a->stage - 1, m, -1};
        break;
    case HB_ACTION_RECV_B:
        needs[n++] = (struct hb_action){HB_ACTION_SEND_B, a->stage + 1, m, -1};
        break;
    default:
        break;
    }
    return n;
}
