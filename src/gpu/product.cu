/* product: a block of threads computes a tile of out, every thread its own
 * elements from the first step of k to the last, as rule 1 wants it. What is
 * shared are the pieces of a and b, two of each: one is multiplied while the
 * next is on its way. */
#include <limits.h>

#include "gpu/fast.h"
#include "gpu/piece.h"

enum { STEPS = 16, CHAIN = 256 }; /* steps of k in a piece; in a chain of rule 1 */

struct product_call {
    struct array a, b, out;
    const int32_t *offsets; /* NULL: not grouped */
    const int32_t *present; /* NULL: none */
    int form, epilogue, groups;
    int64_t m, n, k;
};

/* The part of a call that one block computes: plain matrices, and its first row in them. */
struct part {
    struct view a, b;
    int64_t out, m, n, k;
    int64_t row;
    int epilogue;
};

template <int ROWS> static __device__ inline struct part part_of(const struct product_call &c)
{
    bool transposed = c.form == HB_PRODUCT_TN;
    int g = transposed ? (int)blockIdx.z : 0, tile = (int)blockIdx.x;
    int64_t begin = 0, end = transposed ? c.k : c.m;
    if (c.offsets) {
        if (!transposed) {
            g = segment_of_tile<ROWS>(c.offsets, c.groups, tile);
            tile -= c.offsets[g] / ROWS + g;
        }
        begin = c.offsets[g];
        end = c.offsets[g + 1];
    }
    struct part p = {{c.a, 0, 0, 0}, {c.b, 0, 0, 0}, 0, 0, c.n, 0, (int64_t)tile * ROWS, c.epilogue};
    p.m = transposed ? c.m : end - begin;
    p.k = transposed ? end - begin : c.k;
    p.a.origin = begin * (transposed ? c.m : c.k);
    p.a.line_stride = transposed ? 1 : c.k;
    p.a.step_stride = transposed ? c.m : 1;
    p.b.origin = transposed ? begin * c.n : g * c.n * c.k;
    p.b.line_stride = c.form == HB_PRODUCT_NT ? c.k : 1;
    p.b.step_stride = c.form == HB_PRODUCT_NT ? 1 : c.n;
    p.out = transposed ? g * c.m * c.n : begin * c.n;
    if (c.present && c.present[g] == 0)
        p.epilogue = HB_STORE;
    return p;
}

/* Which elements of a tile a thread has: quads of neighbouring rows and columns,
 * quads apart by the height (width) of all threads. A warp is 4 threads high and 8
 * wide: it then reads 4 + 8 different quads of a step, without bank conflicts. Lanes
 * 1 apart have the same columns and lanes 2 apart the same rows: where that is so,
 * shared memory hands out quads in two turns instead of four (compute capability
 * 7.0 and later, by NVIDIA's developer forum). */
template <int ROWS, int COLUMNS, int HEIGHT, int WIDTH> struct layout {
    enum {
        HIGH = ROWS / HEIGHT, /* threads */
        WIDE = COLUMNS / WIDTH,
        THREADS = HIGH * WIDE,
    };
    static_assert(HIGH % 4 == 0 && WIDE % 8 == 0 && HEIGHT % 4 == 0 && WIDTH % 4 == 0,
                  "a warp is 4 x 8 threads");
    int y, x; /* of this thread's first quads */

    __device__ inline layout()
    {
        int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
        y = 4 * (warp / (WIDE / 8) * 4 + lane / 16 * 2 + lane % 2);
        x = 4 * (warp % (WIDE / 8) * 8 + lane / 2 % 8);
    }

    __device__ inline int row(int i) const
    {
        return i / 4 * (4 * HIGH) + y + i % 4;
    }

    __device__ inline int column(int j) const
    {
        return j / 4 * (4 * WIDE) + x + j % 4;
    }
};

/* The epilogue; the storage type is constant, because this is unrolled. */
template <int DTYPE, typename L, int HEIGHT, int WIDTH>
static __device__ inline void finish(const struct product_call &c, const struct part &p, const L &own,
                                     int64_t first_column, const float (&total)[HEIGHT][WIDTH])
{
    struct array out = {c.out.data, DTYPE};
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int j = 0; j < WIDTH; j++) {
            int64_t row = p.row + own.row(i), column = first_column + own.column(j);
            if (row >= p.m || column >= p.n)
                continue;
            int64_t at = p.out + row * p.n + column;
            store(out, at, p.epilogue == HB_ADD ? load(out, at) + total[i][j] : total[i][j]);
        }
}

template <int ROWS, int COLUMNS, int HEIGHT, int WIDTH, bool A_STEPS, bool B_STEPS>
static __global__ void __launch_bounds__(ROWS / HEIGHT * (COLUMNS / WIDTH))
    product_kernel(struct product_call c)
{
    typedef layout<ROWS, COLUMNS, HEIGHT, WIDTH> own_layout;
    typedef piece<ROWS, STEPS, own_layout::THREADS, A_STEPS> a_piece;
    typedef piece<COLUMNS, STEPS, own_layout::THREADS, B_STEPS> b_piece;
    SHARED(float, as, [2][STEPS][a_piece::STRIDE]);
    SHARED(float, bs, [2][STEPS][b_piece::STRIDE]);

    struct part p = part_of<ROWS>(c);
    int64_t first_column = (int64_t)blockIdx.y * COLUMNS;
    if (p.row >= p.m || (p.k == 0 && c.epilogue != HB_STORE))
        return;
    own_layout own;
    float acc[HEIGHT][WIDTH], total[HEIGHT][WIDTH];
    UNROLL
    for (int i = 0; i < HEIGHT; i++)
        UNROLL
        for (int j = 0; j < WIDTH; j++) {
            int64_t row = p.row + own.row(i), column = first_column + own.column(j);
            acc[i][j] = 0.0f;
            total[i][j] =
                p.k == 0 ? 0.0f : -0.0f; /* -0 + x is x, -0 included: the first chain starts the total */
            if (p.epilogue == HB_CONTINUE && row < p.m && column < p.n)
                total[i][j] = static_cast<const float *>(c.out.data)[p.out + row * p.n + column];
        }

    a_piece next_a(p.a, p.row, p.m, p.k);
    b_piece next_b(p.b, first_column, p.n, p.k);
    next_a.fetch();
    next_b.fetch();
    int now = 0;
    for (int64_t k0 = 0; k0 < p.k; k0 += STEPS) {
        next_a.stash(as[now]);
        next_b.stash(bs[now]);
        __syncthreads(); /* these are written; and nobody reads the other two any more */
        next_a.fetch();
        next_b.fetch();
        if (k0 + STEPS <= p.k) {
            UNROLL
            for (int s = 0; s < STEPS; s++)
                multiply_step(acc, as[now][s], bs[now][s], own);
        } else {
            for (int s = 0; s < p.k - k0; s++)
                multiply_step(acc, as[now][s], bs[now][s], own);
        }
        if ((k0 + STEPS) % CHAIN == 0 || k0 + STEPS >= p.k)
            UNROLL
            for (int i = 0; i < HEIGHT; i++)
                UNROLL
                for (int j = 0; j < WIDTH; j++) {
                    total[i][j] = total[i][j] + acc[i][j];
                    acc[i][j] = 0.0f;
                }
        now = 1 - now;
    }

    if (c.out.dtype == HB_F32)
        finish<HB_F32>(c, p, own, first_column, total);
    else if (c.out.dtype == HB_BF16)
        finish<HB_BF16>(c, p, own, first_column, total);
    else
        finish<HB_F16>(c, p, own, first_column, total);
}

/* After the product: a group with rows has its gradient now. */
static __global__ void mark_kernel(const int32_t *offsets, int32_t *present, int groups)
{
    for (int64_t g = first_element(); g < groups; g += element_stride())
        if (offsets[g + 1] > offsets[g])
            present[g] = 1;
}

template <int ROWS, int COLUMNS, int HEIGHT, int WIDTH>
static hb_status launch_tiles(struct hb_context *context, const struct product_call &c)
{
    void (*const kernels[])(struct product_call) = {
        product_kernel<ROWS, COLUMNS, HEIGHT, WIDTH, true, true>,   /* NT */
        product_kernel<ROWS, COLUMNS, HEIGHT, WIDTH, true, false>,  /* NN */
        product_kernel<ROWS, COLUMNS, HEIGHT, WIDTH, false, false>, /* TN */
    };
    bool transposed = c.form == HB_PRODUCT_TN;
    int64_t high =
        c.offsets && !transposed ? tiles_of_segments(c.m, c.groups, ROWS) : (c.m + ROWS - 1) / ROWS;
    int64_t wide = (c.n + COLUMNS - 1) / COLUMNS;
    dim3 grid((unsigned)high, (unsigned)wide, transposed ? (unsigned)c.groups : 1u);
    return launch("product", kernels[c.form], grid, layout<ROWS, COLUMNS, HEIGHT, WIDTH>::THREADS, 0,
                  gpu_stream_of(context), c);
}

/* What tiles of this size cost: rounds over all multiprocessors, times a tile's elements. */
static double cost_of(const struct product_call &c, int64_t rows, int64_t columns, int multiprocessors)
{
    int64_t groups = c.groups > 0 ? c.groups : 1;
    int64_t share = c.form == HB_PRODUCT_TN ? c.m : (c.m + groups - 1) / groups;
    int64_t tiles = (share + rows - 1) / rows * groups * ((c.n + columns - 1) / columns);
    int64_t rounds = (tiles + multiprocessors - 1) / multiprocessors;
    return (double)rounds * (double)rows * (double)columns;
}

extern "C" hb_status HB_GPU(product)(struct hb_context *context, const struct hb_product_args *args)
{
    if (gpu_is_fast(context) && HB_GPU(fast_takes)(args))
        return HB_GPU(fast_product)(context, args);
    struct hb_product_sizes s = hb_product_sizes(args);
    if (s.m > INT_MAX || s.n > 65535 * 64 || s.k > INT_MAX || s.groups > 65535)
        return HB_FAIL(
            HB_EUNSUPPORTED,
            "product: " HB_GPU_NAME " takes m and k up to %d, n up to %d and 65535 groups; this one is "
            "%lld x %lld x %lld with %lld groups",
            INT_MAX, 65535 * 64, (long long)s.m, (long long)s.n, (long long)s.k, (long long)s.groups);
    struct product_call c = {};
    c.a = array_of(&args->a);
    c.b = array_of(&args->b);
    c.out = array_of(&args->out);
    c.offsets = i32_of(&args->offsets);
    c.present = i32_of(&args->present);
    c.form = (int)args->form;
    c.epilogue = (int)args->epilogue;
    c.groups = (int)s.groups;
    c.m = s.m;
    c.n = s.n;
    c.k = s.k;
    /* A thread with 4 x 4 elements reads twice as much shared memory an element as one with 8 x 8. */
    const double small_costs = 1.6;
    int multiprocessors = gpu_multiprocessors(context);
    bool small = small_costs * cost_of(c, 32, 64, multiprocessors) < cost_of(c, 128, 128, multiprocessors);
    HB_TRY((small ? launch_tiles<32, 64, 4, 4>(context, c) : launch_tiles<128, 128, 8, 8>(context, c)));
    if (!args->present.data)
        return HB_OK;
    return launch("product, present", mark_kernel, blocks_for(s.groups, 128), 128, 0, gpu_stream_of(context),
                  c.offsets, i32_of(&args->present), c.groups);
}
