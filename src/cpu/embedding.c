#include "ops/embedding.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

hb_status HB_CPU(embedding_forward)(struct hb_context *context, const struct hb_embedding_forward_args *args)
{
    int64_t n = args->out.shape[0], C = args->out.shape[1];
    const int32_t *ids = args->ids.data;
#pragma omp parallel for num_threads(hb_row_threads(context, n *C)) schedule(static)
    for (int64_t t = 0; t < n; t++)
        hb_move(&args->weight, ids[t] * C, &args->out, t * C, C);
    return HB_OK;
}

/* Tokens grouped by their row of the table: first[g], then along next, the
 * tokens of group g in token order. */
struct grouping {
    int64_t groups;
    int64_t *first, *last; /* [n] */
    int64_t *next;         /* [n], -1 ends a group */
};

/* Time and memory follow the tokens, not the vocabulary: ids find their group
 * through an open hash table of at least twice as many slots as tokens. */
static void group_tokens(const int32_t *ids, int64_t n, int64_t *slots, int bits, struct grouping *g)
{
    int64_t mask = (INT64_C(1) << bits) - 1;
    for (int64_t i = 0; i <= mask; i++)
        slots[i] = -1;
    g->groups = 0;
    for (int64_t t = 0; t < n; t++) {
        int64_t at = (int64_t)(((uint64_t)(uint32_t)ids[t] * 0x9e3779b97f4a7c15u) >> (64 - bits));
        while (slots[at] >= 0 && ids[g->first[slots[at]]] != ids[t])
            at = (at + 1) & mask;
        g->next[t] = -1;
        if (slots[at] < 0) {
            slots[at] = g->groups++;
            g->first[slots[at]] = t;
        } else {
            g->next[g->last[slots[at]]] = t;
        }
        g->last[slots[at]] = t;
    }
}

enum { BLOCK = 256 }; /* columns of a work item, so that one frequent token can be shared by threads */

static void sum_group(const struct hb_tensor *dout, const struct grouping *g, int64_t group, int64_t column,
                      int add, float *dweight)
{
    float sum[BLOCK], buffer[BLOCK];
    int64_t C = dout->shape[1], width = C - column < BLOCK ? C - column : BLOCK;
    hb_widen(dout->dtype, dout->data, g->first[group] * C + column, width, sum);
    for (int64_t t = g->next[g->first[group]]; t >= 0; t = g->next[t]) {
        const float *row = hb_read(dout, t * C + column, width, buffer);
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            sum[i] = sum[i] + row[i];
    }
    if (!add) {
        memcpy(dweight + column, sum, (size_t)width * sizeof *sum);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < width; i++)
        dweight[column + i] = dweight[column + i] + sum[i];
}

hb_status HB_CPU(embedding_backward)(struct hb_context *context,
                                     const struct hb_embedding_backward_args *args)
{
    int64_t n = args->dout.shape[0], C = args->dout.shape[1];
    const int32_t *ids = args->ids.data;
    float *dweight = args->dweight.data;
    int32_t *present = args->present.data;
    int bits = 1;
    while ((INT64_C(1) << bits) < 2 * n)
        bits++;
    void *workspace;
    HB_TRY(hb_host_workspace(context, ((size_t)3 * (size_t)n + ((size_t)1 << bits)) * sizeof(int64_t),
                             &workspace));
    struct grouping g = {.first = workspace};
    g.last = g.first + n;
    g.next = g.last + n;
    group_tokens(ids, n, g.next + n, bits, &g);
    int64_t blocks = (C + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(hb_row_threads(context, n *C)) schedule(dynamic, 16)
    for (int64_t item = 0; item < g.groups * blocks; item++) {
        int64_t group = item / blocks, row = ids[g.first[group]];
        sum_group(&args->dout, &g, group, item % blocks * BLOCK, present[row], dweight + row * C);
    }
    for (int64_t group = 0; group < g.groups; group++)
        present[ids[g.first[group]]] = 1;
    return HB_OK;
}
