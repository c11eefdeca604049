/* Matrix products, for the caches of a CPU.
 *
 * Every thread owns ranges of columns of out and works alone: it copies a block
 * of b (256 steps of k, up to WIDE columns) into its level-2 cache in panels of
 * TILE_COLUMNS, and then takes the rows of a tile by tile, each tile copied into
 * the level-1 cache and run against all panels. No thread waits for another.
 *
 * With few rows (experts) b is read once and the memory is the limit: then the
 * blocks are narrow, and while one is multiplied the next one is fetched. */
#include "ops/product.h"

#include <omp.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"

enum {
    WIDE = 512,           /* columns of a block when there are many rows */
    NARROW = 128,         /* and when there are few */
    FEW_TILES = 10,       /* at most so many tiles of rows are few */
    DIRECT_TILES = 10,     /* up to here b is read where it lies */
    TILES_AT_ONCE = 4,    /* of a of TN: longer runs of each row of memory */
    TOTAL_ROWS = 84 * 6,  /* rows of a finished sum that `add` must hold apart */
    OVERHEAD = 8,         /* what a row, column or step costs besides its arithmetic, in the same unit */
};
/* Below so many multiplications starting threads costs more than it gains. */
static const double ALONE = 256 * 1024;
/* Outputs beyond the last-level cache are written past it. */
static const int64_t STREAM_BYTES = 16 << 20;

struct job {
    const struct hb_product_args *args;
    struct hb_product_sizes sizes;
    const int32_t *offsets, *present;
    int threads, row_parts; /* threads = row_parts * (threads that share columns) */
    int64_t total_cost;     /* over all groups, of one row part */
    bool stream;
};

/* One group as matrices with their leading dimensions. */
struct group {
    const float *a, *b;
    float *out;
    int64_t m, n, k, lda, ldb;
    enum hb_product_epilogue epilogue;
};

static struct group group_of(const struct job *job, int64_t g)
{
    const struct hb_product_args *args = job->args;
    int64_t m = job->sizes.m, n = job->sizes.n, k = job->sizes.k;
    int64_t begin = 0, end = args->form == HB_PRODUCT_TN ? k : m;
    if (job->offsets) {
        begin = job->offsets[g];
        end = job->offsets[g + 1];
    }
    struct group v = {.a = args->a.data, .b = args->b.data, .out = args->out.data,
                      .m = m, .n = n, .k = k, .epilogue = args->epilogue};
    if (args->form == HB_PRODUCT_TN) {
        v.k = end - begin;
        v.lda = m;
        v.ldb = n;
        v.a += begin * m;
        v.b += begin * n;
        v.out += g * m * n;
        if (job->present && !job->present[g])
            v.epilogue = HB_STORE;
    } else {
        v.m = end - begin;
        v.lda = k;
        v.ldb = args->form == HB_PRODUCT_NT ? k : n;
        v.a += begin * k;
        v.b += g * n * k;
        v.out += begin * n;
    }
    if (v.k == 0 && args->epilogue != HB_STORE)
        v.m = 0; /* nothing to do */
    return v;
}

static int64_t panels_of(int64_t columns)
{
    return (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
}

static int64_t panel_cost(const struct group *v)
{
    return v->m == 0 ? 0 : (v->m + OVERHEAD) * (v->k + OVERHEAD);
}

/* What a thread does, in order: blocks of at most WIDE columns, all or TOTAL_ROWS
 * rows, and one chain of k. */
struct walk {
    const struct job *job;
    int64_t low, high; /* this thread's panels: those whose cost starts here */
    int row_part;
    int64_t index, cost; /* of the group; cost of all groups before it */
    struct group group;
    int64_t row_begin, row_end, column_begin, column_end; /* the share of the group */
    int64_t i, rows, j, columns, p, depth;                /* the block */
};

static bool totals_apart(const struct group *v)
{
    return v->epilogue == HB_ADD && v->k > TILE_DEPTH;
}

static bool few_rows(const struct walk *w)
{
    return w->row_end - w->row_begin <= FEW_TILES * TILE_ROWS;
}

static int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

/* The width of equal parts, whole panels, none above `limit`. */
static int64_t equal_parts(int64_t columns, int64_t limit)
{
    int64_t parts = (columns + limit - 1) / limit;
    return (panels_of(columns) + parts - 1) / parts * TILE_COLUMNS;
}

static void set_block(struct walk *w, int64_t i, int64_t j, int64_t p)
{
    w->i = i;
    w->j = j;
    w->p = p;
    w->rows = at_most(w->row_end - i, totals_apart(&w->group) ? TOTAL_ROWS : w->row_end - i);
    w->columns = at_most(w->column_end - j,
                         equal_parts(w->column_end - w->column_begin, few_rows(w) && w->job->args->form == HB_PRODUCT_NT ? NARROW : WIDE));
    w->depth = at_most(w->group.k - p, TILE_DEPTH);
}

/* Goes to the first group from w->index on of which the thread owns something. */
static bool find_group(struct walk *w)
{
    for (; w->index < w->job->sizes.groups; w->index++) {
        w->group = group_of(w->job, w->index);
        int64_t cost = panel_cost(&w->group), panels = panels_of(w->group.n), before = w->cost;
        w->cost += cost * panels;
        if (cost == 0 || w->cost <= w->low)
            continue;
        if (before >= w->high)
            return false;
        int64_t first = w->low <= before ? 0 : (w->low - before + cost - 1) / cost;
        int64_t last = w->high <= before ? 0 : at_most((w->high - before + cost - 1) / cost, panels);
        int64_t tiles = (w->group.m + TILE_ROWS - 1) / TILE_ROWS;
        w->row_begin = tiles * w->row_part / w->job->row_parts * TILE_ROWS;
        w->row_end = at_most(tiles * (w->row_part + 1) / w->job->row_parts * TILE_ROWS, w->group.m);
        w->column_begin = first * TILE_COLUMNS;
        w->column_end = at_most(last * TILE_COLUMNS, w->group.n);
        if (w->row_begin >= w->row_end || w->column_begin >= w->column_end)
            continue;
        set_block(w, w->row_begin, w->column_begin, 0);
        return true;
    }
    return false;
}

static bool first_block(struct walk *w, const struct job *job, int thread)
{
    int parts = job->threads / job->row_parts, part = thread / job->row_parts;
    *w = (struct walk){.job = job, .row_part = thread % job->row_parts};
    w->low = (int64_t)((double)job->total_cost * part / parts);
    w->high = part + 1 == parts ? job->total_cost : (int64_t)((double)job->total_cost * (part + 1) / parts);
    return find_group(w);
}

static bool next_block(struct walk *w)
{
    if (w->p + w->depth < w->group.k)
        set_block(w, w->i, w->j, w->p + w->depth);
    else if (w->i + w->rows < w->row_end)
        set_block(w, w->i + w->rows, w->j, 0);
    else if (w->j + w->columns < w->column_end)
        set_block(w, w->row_begin, w->j + w->columns, 0);
    else {
        w->index++;
        return find_group(w);
    }
    return true;
}

/* A thread's workspace. */
struct space {
    float *b;     /* [WIDE / TILE_COLUMNS][TILE_DEPTH][TILE_COLUMNS] */
    float *a;     /* one tile by rows, or TILES_AT_ONCE tiles by k */
    float *edge;  /* [TILE_ROWS][TILE_COLUMNS]: a tile that sticks out */
    float *total; /* [TOTAL_ROWS][WIDE], if any group needs it */
};

enum {
    SPACE_B = WIDE * TILE_DEPTH,
    SPACE_A = TILES_AT_ONCE * PACK_SLOT, /* more than TILE_ROWS * TILE_STRIDE */
    SPACE_EDGE = TILE_ROWS * TILE_COLUMNS,
    SPACE_TOTAL = TOTAL_ROWS * WIDE,
};

static struct ahead ahead_of(const float *from, int64_t row_length, int64_t rows, ptrdiff_t ld, int64_t slots)
{
    int64_t lines = (row_length + 15) / 16;
    int64_t rate = slots > 0 ? (lines * rows + slots - 1) / slots : 0;
    return (struct ahead){.at = (const char *)from, .lines = lines, .left = lines, .rows = rows,
                          .skip = (ld - 16 * lines) * (int64_t)sizeof *from, .rate = (int)at_most(rate, 16)};
}

/* The part of b that the block `w` will read, spread over `slots` fetches. */
static struct ahead ahead_b(const struct walk *w, int64_t slots)
{
    const struct group *v = &w->group;
    if (w->job->args->form == HB_PRODUCT_NT)
        return ahead_of(v->b + w->j * v->ldb + w->p, w->depth, w->columns, v->ldb, slots);
    return ahead_of(v->b + w->p * v->ldb + w->j, w->columns, w->depth, v->ldb, slots);
}

/* The tiles of a that begin at row i of the block. */
static struct ahead ahead_a(const struct walk *w, int64_t i, int64_t slots)
{
    const struct group *v = &w->group;
    i += w->i;
    if (w->job->args->form == HB_PRODUCT_TN)
        return ahead_of(v->a + w->p * v->lda + i, TILES_AT_ONCE * TILE_ROWS, w->depth, v->lda, slots);
    return ahead_of(v->a + i * v->lda + w->p, w->depth, TILE_ROWS, v->lda, slots);
}

static void run_edge(struct tile *t, int rows, int64_t columns, float *edge)
{
    struct tile whole = *t;
    whole.out = edge;
    whole.out_row = TILE_COLUMNS;
    whole.end = TILE_STORE;
    tile_run[rows](&whole);
    for (int i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            float *out = t->out + i * t->out_row + j, sum = edge[i * TILE_COLUMNS + j];
            *out = t->end == TILE_ADD ? *out + sum : sum;
        }
}

/* Copies `count` tiles of a, whose rows are bounded by bound[0] .. bound[count]. */
static void take_a(const struct walk *w, const int64_t *bound, int64_t count, float *to)
{
    const struct group *v = &w->group;
    if (w->job->args->form == HB_PRODUCT_TN)
        pack_columns(v->a + w->p * v->lda + w->i, v->lda, bound, count, w->depth, (v->k - w->p) * v->lda - w->i, to);
    else
        pack_rows(v->a + (w->i + bound[0]) * v->lda + w->p, v->lda, bound[1] - bound[0], w->depth, to);
}

/* All panels of the block for one tile of rows. */
static void run_tile(const struct walk *w, struct tile *t, int rows, const float *const *panel,
                     const ptrdiff_t *panel_step, const struct space *space)
{
    float *out = t->out;
    for (int64_t q = 0, j = 0; j < w->columns; q++, j += TILE_COLUMNS) {
        t->b = panel[q];
        t->b_step = panel_step[q];
        t->out = out + j;
        if (w->columns - j >= TILE_COLUMNS)
            tile_run[rows](t);
        else
            run_edge(t, rows, w->columns - j, space->edge);
    }
    t->out = out;
}

static void run_block(const struct walk *w, const struct walk *next, const struct space *space)
{
    const struct group *v = &w->group;
    bool transposed = w->job->args->form == HB_PRODUCT_TN;
    int64_t tiles = (w->rows + TILE_ROWS - 1) / TILE_ROWS, panels = panels_of(w->columns);
    const float *panel[WIDE / TILE_COLUMNS];
    ptrdiff_t panel_step[WIDE / TILE_COLUMNS];
    for (int64_t q = 0; q < panels; q++) {
        int64_t j = w->j + q * TILE_COLUMNS, columns = at_most(w->columns - q * TILE_COLUMNS, TILE_COLUMNS);
        float *to = space->b + q * TILE_DEPTH * TILE_COLUMNS;
        panel[q] = to;
        panel_step[q] = TILE_COLUMNS;
        if (w->job->args->form == HB_PRODUCT_NT) {
            pack_across(v->b + j * v->ldb + w->p, v->ldb, columns, w->depth, to);
        } else if (columns == TILE_COLUMNS && tiles <= DIRECT_TILES) {
            panel[q] = v->b + w->p * v->ldb + j;
            panel_step[q] = v->ldb;
        } else {
            pack_along(v->b + w->p * v->ldb + j, v->ldb, columns, w->depth, to);
        }
    }

    bool apart = totals_apart(v), fresh = w->p == 0 && v->epilogue == HB_STORE;
    int64_t out_row = apart ? WIDE : v->n;
    float *out = apart ? space->total : v->out + w->i * v->n + w->j;
    struct ahead ahead = {0};
    if (few_rows(w) && next)
        ahead = ahead_b(next, tiles * panels * (w->depth / 4));
    struct tile t = {.by_k = transposed, .depth = w->depth, .out_row = out_row, .ahead = &ahead};
    bool starts = fresh || (apart && w->p == 0), stream = w->job->stream && v->k <= TILE_DEPTH;
    t.end = !starts ? TILE_ADD : stream ? TILE_STREAM : TILE_STORE;
    int64_t at_once = transposed ? TILES_AT_ONCE : 1;
    for (int64_t tile = 0; tile < tiles; tile += at_once) {
        int64_t count = at_most(tiles - tile, at_once), bound[TILES_AT_ONCE + 1];
        /* Tiles differ by at most one row: a small last tile would be slow. */
        for (int64_t s = 0; s <= count; s++)
            bound[s] = w->rows * (tile + s) / tiles;
        if (!few_rows(w) && tile + count < tiles)
            ahead = ahead_a(w, bound[count], count * panels * (w->depth / 4));
        take_a(w, bound, count, space->a);
        for (int64_t s = 0; s < count; s++) {
            t.a = space->a + s * PACK_SLOT;
            t.out = out + bound[s] * out_row;
            run_tile(w, &t, (int)(bound[s + 1] - bound[s]), panel, panel_step, space);
        }
    }
    if (apart && w->p + w->depth == v->k)
        for (int64_t i = 0; i < w->rows; i++) {
            float *to = v->out + (w->i + i) * v->n + w->j;
            for (int64_t j = 0; j < w->columns; j++)
                to[j] = to[j] + space->total[i * WIDE + j];
        }
}

static void clear_block(const struct walk *w)
{
    for (int64_t i = 0; i < w->rows; i++)
        memset(w->group.out + (w->i + i) * w->group.n + w->j, 0, (size_t)w->columns * sizeof(float));
}

static void run_thread(const struct job *job, int thread, const struct space *space)
{
    struct walk now, next;
    for (bool more = first_block(&now, job, thread); more; now = next) {
        next = now;
        more = next_block(&next);
        if (now.group.k == 0)
            clear_block(&now);
        else
            run_block(&now, more ? &next : NULL, space);
    }
    if (job->stream)
        vec_stream_end();
}

/* Threads share columns; where there are too few, they also share rows. Every
 * part of the rows copies b again, so the fewest parts that balance win. */
static int choose_row_parts(const struct job *job, int threads)
{
    int64_t panels = 0;
    for (int64_t g = 0; g < job->sizes.groups; g++)
        panels += group_of(job, g).m ? panels_of(job->sizes.n) : 0;
    int64_t rows = job->offsets && job->args->form != HB_PRODUCT_TN ? job->sizes.m / job->sizes.groups : job->sizes.m;
    int best = 1;
    double best_cost = 0;
    for (int parts = 1; parts <= threads; parts++) {
        if (threads % parts)
            continue;
        int64_t wide = (panels + threads / parts - 1) / (threads / parts);
        double cost = (double)wide * ((double)rows / parts + OVERHEAD);
        if (parts == 1 || cost < best_cost) {
            best = parts;
            best_cost = cost;
        }
    }
    return best;
}

static bool may_stream(const struct job *job)
{
    const struct hb_product_args *args = job->args;
    bool one_chain = args->form != HB_PRODUCT_TN ? job->sizes.k <= TILE_DEPTH : job->offsets || job->sizes.k <= TILE_DEPTH;
    bool aligned = (uintptr_t)args->out.data % 64 == 0 && job->sizes.n % 16 == 0;
    return one_chain && aligned && (int64_t)hb_tensor_bytes(&args->out) > STREAM_BYTES;
}

hb_status HB_CPU(product)(struct hb_context *context, const struct hb_product_args *args)
{
    if (context->numerics == HB_FAST)
        return hb_blas_product(context, args);
    struct job job = {.args = args, .sizes = hb_product_sizes(args), .offsets = args->offsets.data,
                      .present = args->present.data};
    double work = (double)job.sizes.m * (double)job.sizes.n * (double)job.sizes.k;
    job.threads = work < ALONE ? 1 : context->threads;
    job.row_parts = choose_row_parts(&job, job.threads);
    job.stream = may_stream(&job);
    bool apart = false;
    for (int64_t g = 0; g < job.sizes.groups; g++) {
        struct group v = group_of(&job, g);
        job.total_cost += panel_cost(&v) * panels_of(v.n);
        apart = apart || (v.m > 0 && totals_apart(&v));
    }

    size_t each = SPACE_B + SPACE_A + SPACE_EDGE + (apart ? SPACE_TOTAL : 0);
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)job.threads * each * sizeof(float), &workspace));
#pragma omp parallel num_threads(job.threads) if (job.threads > 1)
    for (int thread = omp_get_thread_num(); thread < job.threads; thread += omp_get_num_threads()) {
        float *own = (float *)workspace + (size_t)thread * each;
        struct space space = {.b = own, .a = own + SPACE_B, .edge = own + SPACE_B + SPACE_A,
                              .total = apart ? own + SPACE_B + SPACE_A + SPACE_EDGE : NULL};
        run_thread(&job, thread, &space);
    }

    if (args->present.data)
        for (int64_t g = 0; g < job.sizes.groups; g++)
            if (job.offsets[g + 1] > job.offsets[g])
                ((int32_t *)args->present.data)[g] = 1;
    return HB_OK;
}
