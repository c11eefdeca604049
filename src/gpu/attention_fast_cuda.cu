/* The two products of a tile on tensor cores (ops of 16 x 16 x 16), in the places
 * of those of attention_tile.h. Operands lie in shared memory in their storage
 * type; sums are fp32 and go through `weights`, where threads find their own. */
#include "gpu/attention_fast.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <type_traits>

namespace wmma = nvcuda::wmma;

enum { HALVES = TILE + 8, WARPS = ATTENTION_THREADS / 32, EDGE = 16 };

template <int DTYPE> struct half_type;
template <> struct half_type<HB_BF16> {
    typedef __nv_bfloat16 type;
};
template <> struct half_type<HB_F16> {
    typedef __half type;
};

/* The second operand in shared memory; the first lies in `staged`. */
static __device__ inline uint16_t (*second_operand(void))[HALVES]
{
    SHARED(uint16_t, halves, [TILE][HALVES]);
    return halves;
}

/* 64 positions from `first`, columns column0 .. + 63; what does not exist is +0. */
static __device__ inline void stage_halves(uint16_t (*to)[HALVES], const struct rows &r, int first,
                                           int column0, int D)
{
    int column = (int)threadIdx.x % TILE, line = (int)threadIdx.x / TILE;
    const uint16_t *from = static_cast<const uint16_t *>(r.array.data);
    for (int i = line; i < TILE; i += ATTENTION_THREADS / TILE) {
        int position = first + i;
        bool there = position < r.count && column0 + column < D;
        to[i][column] =
            there ? from[r.origin + (int64_t)row_of(r, position) * r.stride + column0 + column] : 0;
    }
}

/* out[64][64] (fp32) = a b, or a b^T where B_BY_ROW; added to what stands there if
 * `add`. A warp has two of the 16 tiles. */
template <int DTYPE, bool B_BY_ROW>
static __device__ inline void multiply_tile(float (*out)[STRIDE], const uint16_t (*a)[HALVES],
                                            const uint16_t (*b)[HALVES], bool add)
{
    typedef typename half_type<DTYPE>::type half;
    typedef typename std::conditional<B_BY_ROW, wmma::col_major, wmma::row_major>::type order;
    const half *left = reinterpret_cast<const half *>(a), *right = reinterpret_cast<const half *>(b);
    int warp = (int)threadIdx.x / 32;
    for (int t = warp; t < 16; t += WARPS) {
        int i = t / 4 * EDGE, j = t % 4 * EDGE;
        wmma::fragment<wmma::accumulator, EDGE, EDGE, EDGE, float> sum;
        if (add)
            wmma::load_matrix_sync(sum, &out[i][j], STRIDE, wmma::mem_row_major);
        else
            wmma::fill_fragment(sum, 0.0f);
        for (int s = 0; s < TILE; s += EDGE) {
            wmma::fragment<wmma::matrix_a, EDGE, EDGE, EDGE, half, wmma::row_major> x;
            wmma::fragment<wmma::matrix_b, EDGE, EDGE, EDGE, half, order> y;
            wmma::load_matrix_sync(x, left + i * HALVES + s, HALVES);
            wmma::load_matrix_sync(y, right + (B_BY_ROW ? j * HALVES + s : s * HALVES + j), HALVES);
            wmma::mma_sync(sum, x, y, sum);
        }
        wmma::store_matrix_sync(&out[i][j], sum, STRIDE, wmma::mem_row_major);
    }
}

/* The products of attention_tile.h, within the bounds of numerics: fast. */
template <int DTYPE> struct tensor {
    static __device__ inline void row_products(float (&out)[HEIGHT][SCORES], float *staged,
                                               float (*weights)[STRIDE], const struct rows &a, int a_first,
                                               const struct rows &b, int b_first, int D)
    {
        uint16_t(*as)[HALVES] = reinterpret_cast<uint16_t(*)[HALVES]>(staged),
        (*bs)[HALVES] = second_operand();
        for (int d0 = 0; d0 < D; d0 += TILE) {
            __syncthreads();
            stage_halves(as, a, a_first, d0, D);
            stage_halves(bs, b, b_first, d0, D);
            __syncthreads();
            multiply_tile<DTYPE, true>(weights, as, bs, d0 > 0);
        }
        __syncthreads();
        own_scores own;
        UNROLL
        for (int i = 0; i < HEIGHT; i++)
            UNROLL
            for (int j = 0; j < SCORES; j++)
                out[i][j] = weights[own.row(i)][own.x + 16 * j];
        __syncthreads(); /* read by all before anybody writes there again */
    }

    template <int WIDTH, typename C>
    static __device__ inline void weighted_rows(float (&out)[HEIGHT][WIDTH / 16], float *staged,
                                                float (*weights)[STRIDE], const struct rows &b, int first,
                                                int column0, int D, bool whole, C pair)
    {
        uint16_t(*bs)[HALVES] = reinterpret_cast<uint16_t(*)[HALVES]>(staged),
        (*ws)[HALVES] = second_operand();
        float(*sums)[STRIDE] = weights;
        own_columns own;
        __syncthreads();
        struct array to = {ws, DTYPE};
        for (int e = (int)threadIdx.x; e < TILE * TILE; e += ATTENTION_THREADS) {
            int row = e % TILE, step = e / TILE;
            bool seen = first + step < b.count && (whole || pair(row, step));
            store(to, row * HALVES + step, seen ? weights[step][row] : 0.0f);
        }
        UNROLL
        for (int part = 0; part < WIDTH / TILE; part++) {
            __syncthreads();
            stage_halves(bs, b, first, column0 + part * TILE, D);
            __syncthreads();
            multiply_tile<DTYPE, false>(sums, ws, bs, false);
            __syncthreads();
            UNROLL
            for (int i = 0; i < HEIGHT; i++)
                UNROLL
                for (int j = 0; j < 4; j++)
                    out[i][part * 4 + j] = sums[own.row(i)][own.x * 4 + j];
        }
        __syncthreads();
    }
};

int HB_GPU(fast_type)(const struct attention &a, const struct array *dout)
{
    int type = a.q.dtype;
    bool same = a.k.dtype == type && a.v.dtype == type && (!dout || dout->dtype == type);
    bool slots = a.slots == 0 || (a.slots_k.dtype == type && a.slots_v.dtype == type);
    return same && slots ? type : (int)HB_F32;
}

hb_status HB_GPU(fast_forward)(struct hb_context *context, const struct forward_call &c, int64_t rows,
                               int type)
{
    return type == HB_BF16 ? launch_forward<tensor<HB_BF16>>(context, c, rows)
                           : launch_forward<tensor<HB_F16>>(context, c, rows);
}

hb_status HB_GPU(fast_dq)(struct hb_context *context, const struct backward_call &c, int type)
{
    return type == HB_BF16 ? launch_dq<tensor<HB_BF16>>(context, c) : launch_dq<tensor<HB_F16>>(context, c);
}

hb_status HB_GPU(fast_dkdv)(struct hb_context *context, const struct backward_call &c, dim3 grid, int part,
                            int type)
{
    return type == HB_BF16 ? launch_dkdv<tensor<HB_BF16>>(context, c, grid, part)
                           : launch_dkdv<tensor<HB_F16>>(context, c, grid, part);
}
