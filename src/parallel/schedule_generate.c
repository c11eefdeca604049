/* The known schedules. Letters: p ranks, m microbatches, r a rank.
 *
 * GPipe: Huang et al. 2019. 1F1B: Narayanan et al. 2019 (PipeDream-flush). Interleaved: Narayanan et al.
 * 2021, section 2.2. ZB-H1: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", section 2. ZB-V: Qi et al.
 * 2024, "Pipeline Parallelism with Controllable Memory", figure 3. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/schedule.h"

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static hb_status gpipe(struct hb_schedule *s, int r)
{
    for (int64_t i = 0; i < s->microbatches; i++)
        HB_TRY(hb_schedule_append(s, r, HB_ACTION_F, r, i));
    for (int64_t i = 0; i < s->microbatches; i++)
        HB_TRY(hb_schedule_append(s, r, HB_ACTION_B, r, i));
    return HB_OK;
}

static hb_status one_f_one_b(struct hb_schedule *s, int r)
{
    int64_t m = s->microbatches, ahead = smaller(s->ranks - 1 - r, m);
    for (int64_t i = 0; i < m + ahead; i++) {
        if (i < m)
            HB_TRY(hb_schedule_append(s, r, HB_ACTION_F, r, i));
        if (i >= ahead)
            HB_TRY(hb_schedule_append(s, r, HB_ACTION_B, r, i - ahead));
    }
    return HB_OK;
}

/* Microbatches in groups of p, within a group chunk by chunk; backwards meet the chunks from the last. Of a
 * last group that is not full the places of the missing ones stay empty: what is left of a schedule without
 * some microbatches is a schedule. */
static hb_status put_interleaved(struct hb_schedule *s, int r, enum hb_action_kind kind, int64_t k)
{
    int p = s->ranks, v = s->stages / p;
    int64_t group = k / (p * v), within = k % (p * v), microbatch = group * p + within % p;
    int chunk = (int)(within / p);
    if (microbatch >= s->microbatches)
        return HB_OK;
    return hb_schedule_append(s, r, kind, (kind == HB_ACTION_F ? chunk : v - 1 - chunk) * p + r, microbatch);
}

static hb_status interleaved(struct hb_schedule *s, int r)
{
    int p = s->ranks, v = s->stages / p;
    int64_t all = (s->microbatches + p - 1) / p * p * v, ahead = smaller(2 * (p - 1 - r) + (v - 1) * p, all);
    for (int64_t k = 0; k < all + ahead; k++) {
        if (k < all)
            HB_TRY(put_interleaved(s, r, HB_ACTION_F, k));
        if (k >= ahead)
            HB_TRY(put_interleaved(s, r, HB_ACTION_B, k - ahead));
    }
    return HB_OK;
}

/* As 1F1B, but p - r forwards ahead, and W of stage r waits r microbatches long: it fills the gaps that the
 * gradients leave on their way. */
static hb_status zb_h1(struct hb_schedule *s, int r)
{
    int64_t m = s->microbatches, f = smaller(s->ranks - r, m);
    for (int64_t i = 0; i < f; i++)
        HB_TRY(hb_schedule_append(s, r, HB_ACTION_F, r, i));
    for (int64_t i = 0; i < m; i++) {
        HB_TRY(hb_schedule_append(s, r, HB_ACTION_I, r, i));
        if (i >= r)
            HB_TRY(hb_schedule_append(s, r, HB_ACTION_W, r, i - r));
        if (f < m)
            HB_TRY(hb_schedule_append(s, r, HB_ACTION_F, r, f++));
    }
    for (int64_t i = m > r ? m - r : 0; i < m; i++)
        HB_TRY(hb_schedule_append(s, r, HB_ACTION_W, r, i));
    return HB_OK;
}

/* Two chunks a rank: r on the way down the V, 2p - 1 - r on the way up, so that the last stage follows the
 * first forward of rank 0's neighbour at once. next[chunk][kind] counts what was placed. The shape needs
 * 2p - 1 microbatches; with fewer, the places of the missing ones stay empty. */
struct v_row {
    struct hb_schedule *s;
    int r;
    int64_t next[2][HB_ACTION_B];
};

static hb_status v_put(struct v_row *v, enum hb_action_kind kind, int chunk, int64_t times)
{
    int stage = chunk ? 2 * v->s->ranks - 1 - v->r : v->r;
    for (int64_t i = 0; i < times; i++) {
        int64_t microbatch = v->next[chunk][kind]++;
        if (microbatch < v->s->microbatches)
            HB_TRY(hb_schedule_append(v->s, v->r, kind, stage, microbatch));
    }
    return HB_OK;
}

static hb_status v_backward(struct v_row *v, int chunk)
{
    HB_TRY(v_put(v, HB_ACTION_I, chunk, 1));
    return v_put(v, HB_ACTION_W, chunk, 1);
}

static hb_status zb_v(struct hb_schedule *s, int r)
{
    struct v_row v = {.s = s, .r = r};
    int p = s->ranks;
    int64_t m = s->microbatches > 2 * p - 1 ? s->microbatches : 2 * p - 1;
    HB_TRY(v_put(&v, HB_ACTION_F, 0, 2 * (p - r) - 1));
    for (int i = 0; i < r; i++) {
        HB_TRY(v_put(&v, HB_ACTION_F, 1, 1));
        HB_TRY(v_put(&v, HB_ACTION_F, 0, 1));
    }
    for (int i = 0; i < p - r; i++) {
        HB_TRY(v_put(&v, HB_ACTION_F, 1, 1));
        HB_TRY(v_backward(&v, 1));
    }
    while (v.next[1][HB_ACTION_F] < m) {
        if (v.next[0][HB_ACTION_F] < m)
            HB_TRY(v_put(&v, HB_ACTION_F, 0, 1));
        HB_TRY(v_backward(&v, 0));
        HB_TRY(v_put(&v, HB_ACTION_F, 1, 1));
        HB_TRY(v_backward(&v, 1));
    }
    for (int i = 0; i < r; i++) {
        HB_TRY(v_put(&v, HB_ACTION_I, 0, 1));
        HB_TRY(v_put(&v, HB_ACTION_I, 1, 1));
    }
    for (int i = 0; i < p - r; i++) {
        HB_TRY(v_put(&v, HB_ACTION_I, 0, 1));
        HB_TRY(v_put(&v, HB_ACTION_W, 0, 1));
    }
    HB_TRY(v_put(&v, HB_ACTION_W, 1, m - v.next[1][HB_ACTION_W]));
    return v_put(&v, HB_ACTION_W, 0, m - v.next[0][HB_ACTION_W]);
}

static const struct {
    const char *name;
    int chunks;
    hb_status (*row)(struct hb_schedule *schedule, int rank);
} known[] = {
    {"gpipe", 1, gpipe}, {"1f1b", 1, one_f_one_b}, {"interleaved", 2, interleaved},
    {"zb-h1", 1, zb_h1}, {"zb-v", 2, zb_v},
};
enum { KNOWN = sizeof known / sizeof known[0] };

/* "interleaved:3" has its own number of chunks; -1: no such name. */
static int find(const char *name, int *chunks)
{
    for (int i = 0; i < KNOWN; i++)
        if (strcmp(name, known[i].name) == 0) {
            *chunks = known[i].chunks;
            return i;
        }
    char rest;
    if (sscanf(name, "interleaved:%d%c", chunks, &rest) != 1 || *chunks < 1 || *chunks > HB_STAGES_MAX)
        return -1;
    return find("interleaved", &(int){0});
}

bool hb_schedule_is_name(const char *name)
{
    int chunks;
    return find(name, &chunks) >= 0;
}

int hb_schedule_chunks(const char *name)
{
    int chunks;
    return find(name, &chunks) >= 0 ? chunks : 0;
}

hb_status hb_schedule_generate(const char *name, int ranks, int64_t microbatches, struct hb_schedule *out)
{
    int chunks, which = find(name, &chunks);
    if (which < 0)
        return HB_FAIL(HB_EARGUMENT,
                       "there is no schedule '%s', and no such file; the names are gpipe, 1f1b, interleaved, "
                       "interleaved:V, zb-h1, zb-v",
                       name);
    if (ranks < 1 || (int64_t)ranks * chunks > HB_STAGES_MAX || microbatches < 1 ||
        microbatches > HB_ROUNDS_MAX)
        return HB_FAIL(HB_EARGUMENT,
                       "a schedule has 1 to %d stages and 1 to %d microbatches, not %lld and %lld",
                       HB_STAGES_MAX, HB_ROUNDS_MAX, (long long)ranks * chunks, (long long)microbatches);
    HB_TRY(hb_schedule_create(name, ranks, ranks * chunks, microbatches, out));
    hb_status status = HB_OK;
    for (int r = 0; r < ranks && status == HB_OK; r++)
        status = known[which].row(out, r);
    if (status == HB_OK)
        status = hb_schedule_place(out);
    if (status != HB_OK)
        hb_schedule_release(out);
    return status;
}
