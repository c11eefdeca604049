#include "ops/dispatch.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"

/* A counting sort in parts: every part counts its own pairs; part p's pairs of
 * expert e lie behind those of parts 0 .. p - 1, so that the sort stays stable. */
hb_status HB_CPU(dispatch_plan)(struct hb_context *context, const struct hb_dispatch_plan_args *args)
{
    int64_t pairs = hb_tensor_count(&args->index), E = args->offsets.shape[0] - 1;
    const int32_t *index = args->index.data;
    int32_t *offsets = args->offsets.data, *row_of = args->row_of.data, *pair_of = args->pair_of.data;
    int parts = hb_row_threads(context, pairs);
    int64_t stride = (E + 31) / 16 * 16; /* whole cache lines */
    void *workspace;
    HB_TRY(hb_host_workspace(context, (size_t)(parts * stride) * sizeof(int32_t), &workspace));
    int32_t *next = workspace; /* [parts][E]: counts, then the row of the next pair */
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        int32_t *own = next + part * stride;
        memset(own, 0, (size_t)E * sizeof *own);
        for (int64_t pair = pairs * part / parts; pair < pairs * (part + 1) / parts; pair++)
            own[index[pair]]++;
    }
    int32_t start = 0;
    for (int64_t e = 0; e < E; e++) {
        offsets[e] = start;
        for (int part = 0; part < parts; part++) {
            int32_t count = next[part * stride + e];
            next[part * stride + e] = start;
            start += count;
        }
    }
    offsets[E] = start;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        int32_t *own = next + part * stride;
        for (int64_t pair = pairs * part / parts; pair < pairs * (part + 1) / parts; pair++) {
            int32_t row = own[index[pair]]++;
            row_of[pair] = row;
            pair_of[row] = (int32_t)pair;
        }
    }
    return HB_OK;
}

hb_status HB_CPU(dispatch_forward)(struct hb_context *context, const struct hb_dispatch_forward_args *args)
{
    int64_t n = args->x.shape[0], C = args->x.shape[1], pairs = args->pair_of.shape[0];
    if (pairs == 0 || C == 0)
        return HB_OK;
    int32_t K = (int32_t)(pairs / n);
    const int32_t *pair_of = args->pair_of.data;
    int threads = hb_row_threads(context, pairs * C);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < pairs; r++)
        hb_move(&args->x, pair_of[r] / K * C, &args->rows, r * C, C);
    return HB_OK;
}

/* Columns [begin, begin + n) of token t. */
static void add_slots(const struct hb_dispatch_backward_args *args, int64_t t, int64_t begin, int64_t n)
{
    int64_t K = args->row_of.shape[1], C = args->dx.shape[1];
    const int32_t *row_of = (const int32_t *)args->row_of.data + t * K;
    float buffer[HB_BLOCK], room[HB_BLOCK], *restrict dx = hb_place(&args->dx, t * C + begin, room);
    hb_widen(args->drows.dtype, args->drows.data, row_of[0] * C + begin, n, dx);
    for (int64_t j = 1; j < K; j++) {
        const float *restrict row = hb_read(&args->drows, row_of[j] * C + begin, n, buffer);
        for (int64_t i = 0; i < n; i++)
            dx[i] = dx[i] + row[i];
    }
    hb_write(&args->dx, t * C + begin, n, dx);
}

hb_status HB_CPU(dispatch_backward)(struct hb_context *context, const struct hb_dispatch_backward_args *args)
{
    int64_t n = args->row_of.shape[0], K = args->row_of.shape[1], C = args->dx.shape[1];
    int threads = hb_row_threads(context, n * K * C);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < C; i += HB_BLOCK)
            add_slots(args, t, i, hb_at_most(C - i, HB_BLOCK));
    return HB_OK;
}
