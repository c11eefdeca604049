/* How a product is cut: which blocks a thread computes, and in which order.
 *
 * All groups' panels of columns stand in one line, each with its cost; thread i
 * of n takes the panels that begin in the i-th n-th of the line, so that no
 * table and no lock is needed and uneven groups balance. Inside its share of a
 * group a thread goes over blocks of columns, rows (seldom) and chains of k. */
#ifndef HB_CPU_PRODUCT_WALK_H
#define HB_CPU_PRODUCT_WALK_H

#include "cpu/tile.h"
#include "ops/product.h"

enum {
    /* Columns of a block of b. With few rows the time goes into reading b, and
     * the next block must find room in the cache beside this one. */
    WIDE = 512,
    MIDDLE = 256,
    NARROW = 128,
    FEW_ROWS = 300,     /* at most MIDDLE */
    VERY_FEW_ROWS = 42, /* at most NARROW */
    TOTAL_ROWS = 504,   /* rows of a total that is held apart from out */
    OVERHEAD = 8,       /* of a row, column or step of k, in multiplications */
};

struct job {
    const struct hb_product_args *args;
    struct hb_product_sizes sizes;
    const int32_t *offsets, *present;
    int threads, row_parts; /* row_parts divides threads: that many share a column */
    int64_t cost;           /* of the whole line */
    bool stream;            /* out is too long for the caches */
};

/* One group as matrices: the element of the tensor where each begins, and its
 * leading dimension; m = 0: nothing to do. */
struct group {
    int64_t a, b, out;
    int64_t m, n, k, lda, ldb;
    enum hb_product_epilogue epilogue;
    bool apart; /* the total cannot collect in out */
};

struct walk {
    const struct job *job;
    int64_t low, high; /* the thread's piece of the line */
    int row_part;
    int64_t index, cost; /* of the group; of all groups before it */
    struct group group;
    int64_t row_begin, row_end, column_begin, column_end; /* the thread's share of the group */
    int64_t i, rows, j, columns, p, depth;                /* the block */
};

static inline int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

static inline int64_t panels_of(int64_t columns)
{
    return (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
}

static inline int64_t tiles_of(int64_t rows)
{
    return (rows + TILE_ROWS - 1) / TILE_ROWS;
}

static inline struct group group_of(const struct job *job, int64_t g)
{
    const struct hb_product_args *args = job->args;
    int64_t m = job->sizes.m, n = job->sizes.n, k = job->sizes.k;
    bool transposed = args->form == HB_PRODUCT_TN;
    int64_t begin = job->offsets ? job->offsets[g] : 0;
    int64_t end = job->offsets ? job->offsets[g + 1] : transposed ? k : m;
    struct group v = {.m = m, .n = n, .k = k, .epilogue = args->epilogue};
    if (transposed) {
        v.k = end - begin;
        v.lda = m;
        v.ldb = n;
        v.a = begin * m;
        v.b = begin * n;
        v.out = g * m * n;
    } else {
        v.m = end - begin;
        v.lda = k;
        v.ldb = args->form == HB_PRODUCT_NT ? k : n;
        v.a = begin * k;
        v.b = g * n * k;
        v.out = begin * n;
    }
    if (v.k == 0 && args->epilogue != HB_STORE)
        v.m = 0;
    if (job->present && !job->present[g])
        v.epilogue = HB_STORE;
    /* `add` rounds the finished total once, and so does a 16-bit out. */
    v.apart = args->out.dtype != HB_F32 || (v.epilogue == HB_ADD && v.k > TILE_DEPTH);
    return v;
}

static inline int64_t panel_cost(const struct group *v)
{
    return v->m == 0 ? 0 : (v->m + OVERHEAD) * (v->k + OVERHEAD);
}

static inline int64_t block_columns(const struct walk *w)
{
    int64_t rows = w->row_end - w->row_begin, columns = w->column_end - w->column_begin;
    int64_t limit = rows <= VERY_FEW_ROWS ? NARROW : rows <= FEW_ROWS ? MIDDLE : WIDE;
    int64_t parts = (columns + limit - 1) / limit;
    return (panels_of(columns) + parts - 1) / parts * TILE_COLUMNS; /* equal parts */
}

static inline void walk_to(struct walk *w, int64_t i, int64_t j, int64_t p)
{
    w->i = i;
    w->j = j;
    w->p = p;
    w->rows = at_most(w->row_end - i, w->group.apart ? TOTAL_ROWS : w->row_end - i);
    w->columns = at_most(w->column_end - j, block_columns(w));
    w->depth = at_most(w->group.k - p, TILE_DEPTH);
}

/* To the first group, from w->index on, in which the thread has a share. */
static inline bool walk_to_group(struct walk *w)
{
    for (; w->index < w->job->sizes.groups && w->cost < w->high; w->index++) {
        w->group = group_of(w->job, w->index);
        int64_t cost = panel_cost(&w->group), panels = panels_of(w->group.n), before = w->cost;
        w->cost += cost * panels;
        if (w->cost <= w->low || w->cost == before)
            continue;
        int64_t first = w->low <= before ? 0 : (w->low - before + cost - 1) / cost;
        int64_t last = at_most((w->high - before + cost - 1) / cost, panels);
        int64_t tiles = tiles_of(w->group.m), parts = w->job->row_parts;
        w->row_begin = tiles * w->row_part / parts * TILE_ROWS;
        w->row_end = at_most(tiles * (w->row_part + 1) / parts * TILE_ROWS, w->group.m);
        w->column_begin = first * TILE_COLUMNS;
        w->column_end = at_most(last * TILE_COLUMNS, w->group.n);
        if (w->row_begin < w->row_end && w->column_begin < w->column_end) {
            walk_to(w, w->row_begin, w->column_begin, 0);
            return true;
        }
    }
    return false;
}

/* The first block of a thread; false: it has none. */
static inline bool walk_first(struct walk *w, const struct job *job, int thread)
{
    int64_t parts = job->threads / job->row_parts, part = thread % parts;
    int64_t whole = job->cost / parts, rest = job->cost % parts; /* without overflow */
    *w = (struct walk){.job = job, .row_part = (int)(thread / parts),
                       .low = whole * part + rest * part / parts,
                       .high = whole * (part + 1) + rest * (part + 1) / parts};
    return walk_to_group(w);
}

static inline bool walk_next(struct walk *w)
{
    if (w->p + w->depth < w->group.k)
        walk_to(w, w->i, w->j, w->p + w->depth);
    else if (w->i + w->rows < w->row_end)
        walk_to(w, w->i + w->rows, w->j, 0);
    else if (w->j + w->columns < w->column_end)
        walk_to(w, w->row_begin, w->j + w->columns, 0);
    else {
        w->index++;
        return walk_to_group(w);
    }
    return true;
}

#endif
