#include "parallel/partition.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* Stage by stage from the front: the cheapest way to cut the first b blocks into s stages is known for
 * all b. */
struct table {
    const double *cost;
    int64_t blocks;
    double *before, *now; /* [blocks + 1] of s - 1 and of s stages */
    int64_t *cut;         /* [stages * (blocks + 1)] where stage s begins when it ends at b */
};

/* `limit` infinite: the value of a cut is its dearest stage. Else its sum of squares, dearer
 * stages excluded. */
static double value_of(double before, double stage, double limit)
{
    if (isinf(limit))
        return before > stage ? before : stage;
    return stage <= limit ? before + stage * stage : (double)INFINITY;
}

static double cut_all(struct table *t, int stages, double limit)
{
    for (int64_t b = 0; b <= t->blocks; b++)
        t->now[b] = b == 0 ? 0 : (double)INFINITY;
    for (int s = 0; s < stages; s++) {
        double *swap = t->before;
        t->before = t->now;
        t->now = swap;
        for (int64_t b = 0; b <= t->blocks; b++) {
            double sum = 0;
            t->now[b] = (double)INFINITY;
            for (int64_t begin = b - 1; begin >= s; begin--) {
                sum += t->cost[begin];
                double value = value_of(t->before[begin], sum, limit);
                if (value <= t->now[b] && !isinf(value)) {
                    t->now[b] = value;
                    t->cut[s * (t->blocks + 1) + b] = begin;
                }
            }
        }
    }
    return t->now[t->blocks];
}

hb_status hb_partition(const double *cost, int64_t blocks, int stages, int64_t *begin)
{
    if (stages < 1 || stages > blocks)
        return HB_FAIL(HB_EARGUMENT, "%lld blocks cannot be cut into %d stages; each needs at least one",
                       (long long)blocks, stages);
    size_t row = (size_t)blocks + 1;
    double *values = malloc(2 * row * sizeof *values);
    struct table t = {.cost = cost, .blocks = blocks, .before = values, .now = values ? values + row : NULL};
    t.cut = malloc((size_t)stages * row * sizeof *t.cut);
    hb_status status = values && t.cut ? HB_OK
                                       : HB_FAIL(HB_EMEMORY, "out of memory for cutting a model into stages");
    if (status == HB_OK) {
        /* Sums are made anew in the second pass, in the same order, so that equal stays equal. */
        double dearest = cut_all(&t, stages, (double)INFINITY);
        cut_all(&t, stages, dearest);
        begin[stages] = blocks;
        for (int s = stages - 1; s >= 0; s--)
            begin[s] = t.cut[(size_t)s * row + (size_t)begin[s + 1]];
    }
    free(values);
    free(t.cut);
    return status;
}
