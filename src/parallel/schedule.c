#include "parallel/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

static const char *const kind_names[HB_ACTION_KINDS] = {
    [HB_ACTION_F] = "F",           [HB_ACTION_I] = "I",           [HB_ACTION_W] = "W",
    [HB_ACTION_B] = "B",           [HB_ACTION_SEND_F] = "SEND_F", [HB_ACTION_RECV_F] = "RECV_F",
    [HB_ACTION_SEND_B] = "SEND_B", [HB_ACTION_RECV_B] = "RECV_B", [HB_ACTION_GATHER] = "GATHER",
    [HB_ACTION_RELEASE] = "RELEASE",
};

const char *hb_action_kind_name(enum hb_action_kind kind)
{
    return kind_names[kind];
}

const char *hb_action_text(const struct hb_action *action, char text[HB_ACTION_TEXT])
{
    if (action->microbatch < 0)
        snprintf(text, HB_ACTION_TEXT, "%d%s", action->stage, kind_names[action->kind]);
    else
        snprintf(text, HB_ACTION_TEXT, "%d%s%lld", action->stage, kind_names[action->kind],
                 (long long)action->microbatch);
    return text;
}

/* --- building --- */

hb_status hb_schedule_create(const char *name, int ranks, int stages, int64_t microbatches,
                             struct hb_schedule *out)
{
    *out = (struct hb_schedule){.ranks = ranks, .stages = stages, .microbatches = microbatches};
    snprintf(out->name, sizeof out->name, "%s", name);
    out->rows = calloc((size_t)ranks + 1, sizeof *out->rows);
    out->rank_of = calloc((size_t)stages + 1, sizeof *out->rank_of);
    if (!out->rows || !out->rank_of) {
        hb_schedule_release(out);
        return HB_FAIL(HB_EMEMORY, "out of memory for a schedule");
    }
    return HB_OK;
}

void hb_schedule_release(struct hb_schedule *schedule)
{
    for (int r = 0; schedule->rows && r < schedule->ranks; r++)
        free(schedule->rows[r].actions);
    free(schedule->rows);
    free(schedule->rank_of);
    *schedule = (struct hb_schedule){0};
}

hb_status hb_schedule_append(struct hb_schedule *schedule, int rank, enum hb_action_kind kind, int stage,
                             int64_t microbatch)
{
    struct hb_schedule_row *row = &schedule->rows[rank];
    if (row->count == row->capacity) {
        int64_t capacity = row->capacity ? 2 * row->capacity : 64;
        struct hb_action *grown = realloc(row->actions, (size_t)capacity * sizeof *grown);
        if (!grown)
            return HB_FAIL(HB_EMEMORY, "out of memory for a schedule");
        row->actions = grown;
        row->capacity = capacity;
    }
    row->actions[row->count++] =
        (struct hb_action){.kind = kind, .stage = stage, .microbatch = microbatch, .peer = -1};
    return HB_OK;
}

/* The rank at the other end of a message, or -1. */
static int peer_of(const struct hb_schedule *schedule, const struct hb_action *a)
{
    bool forward = a->kind == HB_ACTION_SEND_F || a->kind == HB_ACTION_RECV_B;
    bool backward = a->kind == HB_ACTION_SEND_B || a->kind == HB_ACTION_RECV_F;
    int other = a->stage + (forward ? 1 : -1);
    return (forward || backward) && other >= 0 && other < schedule->stages ? schedule->rank_of[other] : -1;
}

hb_status hb_schedule_place(struct hb_schedule *s)
{
    for (int stage = 0; stage < s->stages; stage++)
        s->rank_of[stage] = -1;
    for (int r = 0; r < s->ranks; r++)
        for (int64_t i = 0; i < s->rows[r].count; i++) {
            int stage = s->rows[r].actions[i].stage;
            if (s->rank_of[stage] >= 0 && s->rank_of[stage] != r)
                return HB_FAIL(HB_EFORMAT,
                               "%s: stage %d is on rank %d and on rank %d; a stage lives on one rank",
                               s->name, stage, s->rank_of[stage], r);
            s->rank_of[stage] = r;
        }
    for (int stage = 0; stage < s->stages; stage++)
        if (s->rank_of[stage] < 0)
            return HB_FAIL(HB_EFORMAT, "%s: stage %d of %d has no actions", s->name, stage, s->stages);
    for (int r = 0; r < s->ranks; r++)
        for (int64_t i = 0; i < s->rows[r].count; i++)
            s->rows[r].actions[i].peer = peer_of(s, &s->rows[r].actions[i]);
    return HB_OK;
}

/* --- opening --- */

hb_status hb_schedule_load(const char *path, struct hb_schedule *out)
{
    char *text;
    size_t size;
    HB_TRY(hb_file_read(path, &text, &size));
    hb_status status = strlen(text) == size ? hb_schedule_parse(path, text, out)
                                            : HB_FAIL(HB_EFORMAT, "%s: is not a text file", path);
    free(text);
    return status;
}

static hb_status open_file(const char *path, int ranks, int64_t microbatches, struct hb_schedule *out)
{
    HB_TRY(hb_schedule_load(path, out));
    if (out->ranks == ranks && out->microbatches == microbatches)
        return HB_OK;
    hb_status status = HB_FAIL(
        HB_EARGUMENT,
        "%s: is a schedule of %d ranks and %lld microbatches; this run has %d pipeline ranks and %lld "
        "microbatches a data rank and step",
        path, out->ranks, (long long)out->microbatches, ranks, (long long)microbatches);
    hb_schedule_release(out);
    return status;
}

hb_status hb_schedule_open(const char *name_or_path, int ranks, int64_t microbatches, struct hb_schedule *out)
{
    bool is_path = !hb_schedule_is_name(name_or_path) && hb_file_exists(name_or_path);
    if (is_path)
        HB_TRY(open_file(name_or_path, ranks, microbatches, out));
    else
        HB_TRY(hb_schedule_generate(name_or_path, ranks, microbatches, out));
    hb_status status = hb_schedule_check(out);
    if (status != HB_OK)
        hb_schedule_release(out);
    return status;
}

/* --- writing --- */

hb_status hb_schedule_text(const struct hb_schedule *schedule, char **text)
{
    char action[HB_ACTION_TEXT];
    size_t size = strlen(schedule->name) + 4, used;
    for (int r = 0; r < schedule->ranks; r++)
        for (int64_t i = 0; i < schedule->rows[r].count; i++)
            size += strlen(hb_action_text(&schedule->rows[r].actions[i], action)) + 1;
    char *out = malloc(size + (size_t)schedule->ranks);
    if (!out)
        return HB_FAIL(HB_EMEMORY, "out of memory for the text of a schedule");
    used = (size_t)sprintf(out, "# %s\n", schedule->name);
    for (int r = 0; r < schedule->ranks; r++) {
        const struct hb_schedule_row *row = &schedule->rows[r];
        for (int64_t i = 0; i < row->count; i++)
            used += (size_t)sprintf(out + used, "%s%s", i ? " " : "",
                                    hb_action_text(&row->actions[i], action));
        used += (size_t)sprintf(out + used, "\n");
    }
    *text = out;
    return HB_OK;
}

/* --- counting --- */

bool hb_schedule_has(const struct hb_schedule *schedule, enum hb_action_kind kind)
{
    for (int r = 0; r < schedule->ranks; r++)
        for (int64_t i = 0; i < schedule->rows[r].count; i++)
            if (schedule->rows[r].actions[i].kind == kind)
                return true;
    return false;
}

static int64_t peak(const struct hb_schedule_row *row, int stage)
{
    int64_t now = 0, most = 0;
    for (int64_t i = 0; i < row->count; i++) {
        const struct hb_action *a = &row->actions[i];
        if (stage >= 0 && a->stage != stage)
            continue;
        if (a->kind == HB_ACTION_F && ++now > most)
            most = now;
        if (a->kind == HB_ACTION_W || a->kind == HB_ACTION_B)
            now--;
    }
    return most;
}

int64_t hb_schedule_in_flight(const struct hb_schedule *schedule, int rank)
{
    return peak(&schedule->rows[rank], -1);
}

int64_t hb_schedule_stage_in_flight(const struct hb_schedule *schedule, int stage)
{
    return peak(&schedule->rows[schedule->rank_of[stage]], stage);
}

void hb_schedule_weight_order(const struct hb_schedule *schedule, int stage, int64_t *order)
{
    const struct hb_schedule_row *row = &schedule->rows[schedule->rank_of[stage]];
    int64_t n = 0;
    for (int64_t i = 0; i < row->count; i++) {
        const struct hb_action *a = &row->actions[i];
        if (a->stage == stage && (a->kind == HB_ACTION_W || a->kind == HB_ACTION_B))
            order[n++] = a->microbatch;
    }
}
