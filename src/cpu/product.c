/* Matrix products, for the caches of a CPU.
 *
 * A thread works alone on rows or columns of its own (cpu/product_walk.h): it copies a
 * block of b, one chain of k deep, into its level-2 cache in panels of
 * TILE_COLUMNS, if it must be turned or many tiles will read it; then it takes the
 * rows tile by tile and runs each against all panels (cpu/tile.h). A tile is copied
 * only where its rows would share sets of the level-1 cache. Meanwhile the thread
 * fetches what it will read next: without that, weights that no cache holds
 * (experts) run at half the speed. */
#include "ops/product.h"

#include <omp.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"
#include "cpu/product_walk.h"

enum {
    /* of a of TN, for longer runs of each row of memory; 8 push b out of the cache */
    TILES_AT_ONCE = 4,
    /* At most so many tiles read b where it lies, k-major; a lower tile asks for it more often. */
    DIRECT_TILES = VEC_WIDTH == 16 ? 20 : 3,
    /* Rows of a that are a multiple of so many floats apart share sets of the level-1 cache. Those of a tile
     * are copied then; steps of k (TN), only where a wide block of b asks for them again and again. */
    SHARED_ROWS = 512,
    SHARED_STEPS = 1024,
    PATIENT_COLUMNS = 384,
    AHEAD_FLOATS = 64 * 1024, /* a block of b up to this size is fetched ahead; a larger one has no room */
};
/* Below so many multiplications starting threads costs more than it gains. */
static const double ALONE = 256 * 1024;
/* Cost of an element that another thread wrote, in multiplications by a row of a panel. */
static const double FOREIGN = 0.5;
/* Longer outputs, written once, go past the caches. */
static const size_t STREAM_BYTES = 4 << 20;

/* A thread's workspace, in floats. */
enum {
    SPACE_B = WIDE * TILE_DEPTH,
    SPACE_A = TILES_AT_ONCE * PACK_SLOT, /* or one tile by rows, which is less */
    SPACE_EDGE = TILE_ROWS * TILE_COLUMNS,
    SPACE_TOTAL = TOTAL_ROWS * WIDE,
};

struct space {
    float *b, *a;
    float *edge;  /* a tile that sticks out of the matrix */
    float *total; /* NULL where no group needs it */
};

struct panels {
    int64_t count;
    const float *at[WIDE / TILE_COLUMNS];
    ptrdiff_t step[WIDE / TILE_COLUMNS];
};

static bool across(const struct walk *w)
{
    return w->job->args->form == HB_PRODUCT_NT;
}

static bool transposed(const struct walk *w)
{
    return w->job->args->form == HB_PRODUCT_TN;
}

/* Is a read where it lies? In 16 bits it is widened, into a copy. */
static bool lies_ready(const struct walk *w)
{
    bool collides = transposed(w) ? w->group.lda % SHARED_STEPS == 0 && w->columns > PATIENT_COLUMNS
                                  : w->group.lda % SHARED_ROWS == 0;
    return w->job->args->a.dtype == HB_F32 && !collides;
}

static bool few_rows(const struct walk *w)
{
    return w->row_end - w->row_begin <= FEW_ROWS;
}

/* `rows` runs of memory, spread over `slots` fetches. */
static struct ahead ahead_of(const struct hb_tensor *t, int64_t from, int64_t run, int64_t rows, int64_t ld,
                             int64_t slots)
{
    int64_t size = (int64_t)hb_dtype_size(t->dtype), lines = (run * size + 63) / 64;
    int64_t rate = slots > 0 ? (lines * rows + slots - 1) / slots : 0;
    return (struct ahead){.at = (const char *)t->data + from * size, .lines = lines, .left = lines,
        .rows = rows,
                          .skip = ld * size - 64 * lines, .rate = (int)at_most(rate, 16)};
}

static struct ahead ahead_b(const struct walk *w, int64_t slots)
{
    const struct group *v = &w->group;
    const struct hb_tensor *b = &w->job->args->b;
    if (across(w))
        return ahead_of(b, v->b + w->j * v->ldb + w->p, w->depth, w->columns, v->ldb, slots);
    return ahead_of(b, v->b + w->p * v->ldb + w->j, w->columns, w->depth, v->ldb, slots);
}

/* The tiles that begin at row i of the block. */
static struct ahead ahead_a(const struct walk *w, int64_t i, int64_t slots)
{
    const struct group *v = &w->group;
    const struct hb_tensor *a = &w->job->args->a;
    int64_t rows = at_most(w->rows - i, (transposed(w) ? TILES_AT_ONCE : 1) * TILE_ROWS);
    if (transposed(w))
        return ahead_of(a, v->a + w->p * v->lda + w->i + i, rows, w->depth, v->lda, slots);
    return ahead_of(a, v->a + (w->i + i) * v->lda + w->p, w->depth, rows, v->lda, slots);
}

/* The block's panels: copied, or where b is k-major and few tiles read it, as they lie. */
static void take_b(const struct walk *w, const struct space *space, struct panels *panels)
{
    const struct group *v = &w->group;
    const struct hb_tensor *b = &w->job->args->b;
    const float *wide = b->dtype == HB_F32 ? (const float *)b->data : NULL;
    panels->count = panels_of(w->columns);
    for (int64_t q = 0; q < panels->count; q++) {
        int64_t j = w->j + q * TILE_COLUMNS, columns = at_most(w->j + w->columns - j, TILE_COLUMNS);
        float *to = space->b + q * TILE_DEPTH * TILE_COLUMNS;
        panels->at[q] = to;
        panels->step[q] = TILE_COLUMNS;
        int64_t from = v->b + (across(w) ? j * v->ldb + w->p : w->p * v->ldb + j);
        if (across(w) && wide) {
            pack_across(wide + from, v->ldb, columns, w->depth, to);
        } else if (across(w)) {
            pack_across_16(b->dtype, b->data, from, v->ldb, columns, w->depth, to);
        } else if (!wide) {
            pack_along_16(b->dtype, b->data, from, v->ldb, columns, w->depth, to);
        } else if (tiles_of(w->rows) <= DIRECT_TILES && columns == TILE_COLUMNS) {
            panels->at[q] = wide + from;
            panels->step[q] = v->ldb;
        } else {
            pack_along(wide + from, v->ldb, columns, w->depth, to);
        }
    }
}

/* Copies `count` tiles of a, with rows from bound[0] to bound[count]. */
static void take_a(const struct walk *w, const int64_t *bound, int64_t count, float *to)
{
    const struct group *v = &w->group;
    const struct hb_tensor *a = &w->job->args->a;
    if (transposed(w))
        pack_columns(a->dtype, a->data, v->a + w->p * v->lda + w->i, v->lda, bound, count, w->depth,
                     (v->k - w->p) * v->lda - w->i, to);
    else
        pack_rows(a->dtype, a->data, v->a + (w->i + bound[0]) * v->lda + w->p, v->lda, bound[1] - bound[0],
                  w->depth, to);
}

static void run_edge(const struct tile *t, int rows, int64_t columns, float *edge)
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

static void run_panels(const struct panels *panels, struct tile t, int rows, int64_t columns, float *edge)
{
    for (int64_t q = 0; q < panels->count; q++, columns -= TILE_COLUMNS, t.out += TILE_COLUMNS) {
        t.b = panels->at[q];
        t.b_step = panels->step[q];
        if (columns >= TILE_COLUMNS)
            tile_run[rows](&t);
        else
            run_edge(&t, rows, columns, edge);
    }
}

/* The finished totals of a block go to out, rounded once. */
static void finish_apart(const struct walk *w, float *total)
{
    const struct hb_tensor *out = &w->job->args->out;
    for (int64_t i = 0; i < w->rows; i++) {
        int64_t at = w->group.out + (w->i + i) * w->group.n + w->j;
        float *row = total + i * WIDE, old[WIDE], *sum = hb_place(out, at, row);
        if (w->group.epilogue == HB_ADD) {
            const float *before = hb_read(out, at, w->columns, old);
            for (int64_t j = 0; j < w->columns; j++)
                sum[j] = before[j] + row[j];
        }
        hb_write(out, at, w->columns, sum);
    }
}

static void run_block(const struct walk *w, const struct walk *next, const struct space *space)
{
    const struct group *v = &w->group;
    struct panels panels;
    take_b(w, space, &panels);

    bool starts = w->p == 0 && (v->apart || v->epilogue == HB_STORE);
    bool stream = w->job->stream && v->k <= TILE_DEPTH;
    int64_t out_row = v->apart ? WIDE : v->n;
    float *out = v->apart ? space->total : (float *)w->job->args->out.data + v->out + w->i * v->n + w->j;
    int64_t tiles = tiles_of(w->rows), slots = panels.count * (w->depth / 4); /* fetches per tile */
    struct ahead ahead[2] = {{0}};
    if (next && (few_rows(w) || next->columns * next->depth <= AHEAD_FLOATS))
        ahead[0] = ahead_b(next, tiles * slots);
    bool ready = lies_ready(w);
    struct tile t = {.by_k = transposed(w), .a_row = ready ? v->lda : TILE_STRIDE,
                     .a_step = ready ? v->lda : TILE_ROWS, .depth = w->depth, .out_row = out_row,
                     .ahead = ahead, .end = !starts ? TILE_ADD : stream ? TILE_STREAM : TILE_STORE};
    const float *a = (const float *)w->job->args->a.data + v->a +
                     (transposed(w) ? w->p * v->lda + w->i : w->i * v->lda + w->p);
    int64_t a_row = transposed(w) ? 1 : v->lda;
    int64_t at_once = transposed(w) ? TILES_AT_ONCE : 1;
    for (int64_t first = 0; first < tiles; first += at_once) {
        int64_t count = at_most(tiles - first, at_once), bound[TILES_AT_ONCE + 1];
        /* Tiles differ by at most one row: a small last tile would be slow. */
        for (int64_t s = 0; s <= count; s++)
            bound[s] = w->rows * (first + s) / tiles;
        if (!ready)
            take_a(w, bound, count, space->a);
        if (first + count < tiles)
            ahead[1] = ahead_a(w, bound[count], count * slots);
        else if (next)
            ahead[1] = ahead_a(next, 0, count * slots);
        for (int64_t s = 0; s < count; s++) {
            t.a = ready ? a + bound[s] * a_row : space->a + s * PACK_SLOT;
            t.out = out + bound[s] * out_row;
            run_panels(&panels, t, (int)(bound[s + 1] - bound[s]), w->columns, space->edge);
        }
    }

    if (v->apart && w->p + w->depth == v->k)
        finish_apart(w, space->total);
}

/* STORE of no products at all. */
static void clear_block(const struct walk *w)
{
    const struct hb_tensor *out = &w->job->args->out;
    size_t size = hb_dtype_size(out->dtype);
    for (int64_t i = 0; i < w->rows; i++)
        memset((char *)out->data + (size_t)(w->group.out + (w->i + i) * w->group.n + w->j) * size, 0,
               (size_t)w->columns * size);
}

static void run_thread(const struct job *job, int thread, const struct space *space)
{
    struct walk now, next;
    for (bool more = walk_first(&now, job, thread); more; now = next) {
        next = now;
        more = walk_next(&next);
        if (now.group.k == 0)
            clear_block(&now);
        else
            run_block(&now, more ? &next : NULL, space);
    }
    if (job->stream)
        vec_stream_end();
}

/* How many parts the rows are cut into (columns into threads / parts), by the busiest thread's work on
 * a step of k: what it computes (every part of the rows copies b again), and what it reads that other threads
 * wrote, since processors may have caches of their own. Rows of NT and NN are tokens, which a
 * thread that gets rows only wrote itself; TN reads all of them, whatever it gets. */
static int choose_row_parts(const struct job *job)
{
    int64_t panels = panels_of(job->sizes.n) * job->sizes.groups, rows = job->sizes.m;
    bool tokens = job->args->form != HB_PRODUCT_TN;
    if (tokens)
        rows /= job->sizes.groups > 0 ? job->sizes.groups : 1;
    int best = 1;
    double best_cost = 0;
    for (int parts = 1; parts <= job->threads; parts++) {
        if (job->threads % parts)
            continue;
        int64_t columns = job->threads / parts, share = (panels + columns - 1) / columns;
        double mine = (double)rows / parts, others = columns == 1 && tokens ? 0 : mine;
        if (!tokens)
            others += (double)(share * TILE_COLUMNS);
        double cost = (double)share * (mine + OVERHEAD) + FOREIGN * others;
        if (parts == 1 || cost < best_cost) {
            best = parts;
            best_cost = cost;
        }
    }
    return best;
}

hb_status HB_CPU(product)(struct hb_context *context, const struct hb_product_args *args)
{
    if (context->numerics == HB_FAST)
        return hb_blas_product(context, args);
    struct job job = {.args = args, .sizes = hb_product_sizes(args), .offsets = args->offsets.data,
                      .present = args->present.data};
    bool aligned = args->out.dtype == HB_F32 && (uintptr_t)args->out.data % 64 == 0 && job.sizes.n % 16 == 0;
    job.stream = aligned && hb_tensor_bytes(&args->out) > STREAM_BYTES;
    double work = (double)job.sizes.m * (double)job.sizes.n * (double)job.sizes.k;
    job.threads = work < ALONE ? 1 : context->threads;
    job.row_parts = choose_row_parts(&job);
    bool apart = false;
    for (int64_t g = 0; g < job.sizes.groups; g++) {
        struct group v = group_of(&job, g);
        job.cost += panel_cost(&v) * panels_of(v.n);
        apart = apart || (v.m > 0 && v.apart);
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

    int32_t *present = args->present.data;
    for (int64_t g = 0; present && g < job.sizes.groups; g++)
        if (job.offsets[g + 1] > job.offsets[g])
            present[g] = 1;
    return HB_OK;
}
