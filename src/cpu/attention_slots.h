/* Gradients of learned slots, and of the gate between slots and keys: both
 * collect over the whole microbatch, in chunks of 64 segments (rule 4). */
#ifndef HB_CPU_ATTENTION_SLOTS_H
#define HB_CPU_ATTENTION_SLOTS_H

#include "core/tree.h"
#include "cpu/attention_gradient.h"

/* Two tiles of slots of one head, over the 64 segments of a chunk: their sum. */
static inline void backward_slots(const struct call *call, int64_t first, int64_t chunk, int64_t g,
                                  struct scratch *w)
{
    const struct hb_attention_backward_args *args = call->args;
    int64_t H = call->z.H, G = call->z.G, D = call->z.D, M = call->z.slots, at = (first * TILE * G + g) * D;
    int64_t end = smaller(first + TILES, (M + TILE - 1) / TILE), stride = row_stride(D);
    struct visit visit[TILES] = {{.which = 1}};
    for (int64_t t = first; t < end; t++) {
        visit[t - first] = (struct visit){
            .which = 1, .buffer = (int)(t - first), .number = t,
            .pairs = {ALL, smaller(TILE, M - t * TILE), {0}, {0}}};
        take_keys(call, &args->slots_k, &args->slots_v, at + (t - first) * TILE * G * D,
                  visit[t - first].pairs.keys, &w->tile[t - first]);
    }
    for (int64_t t = chunk * 64; t < smaller(call->z.segments, (chunk + 1) * 64); t++) {
        struct segment s = segment_at(&args->q_begin, &args->k_begin, t);
        for (int64_t i = 0; i < end - first; i++)
            clear_keys(call, visit[i].pairs.keys, &w->tile[i]);
        for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++)
            for (int64_t index = 0; index * TILE < s.length; index++) {
                struct queries q = queries_at(call, &s, (int32_t)t, index, h);
                struct ahead ahead[TILES][2];
                take_queries(call, &s, &q, h, ahead, w);
                for (int64_t i = 0; i < end - first; i++)
                    backward_tile(call, &q, &visit[i], ahead[i], w);
            }
        for (int64_t j = 0; first * TILE + j < smaller(M, end * TILE); j++) {
            const struct keys *keys = &w->tile[j / TILE];
            int64_t row = j % TILE * stride, to = chunk * M * G * D + at + j * G * D;
            float *sum_k = call->packed.sum[0] + to, *sum_v = call->packed.sum[1] + to;
            end_row(call, keys, j % TILE);
            for (int64_t d = 0; d < D; d++) {
                sum_k[d] = t % 64 == 0 ? keys->dk[row + d] : sum_k[d] + keys->dk[row + d];
                sum_v[d] = t % 64 == 0 ? keys->dv[row + d] : sum_v[d] + keys->dv[row + d];
            }
        }
    }
}

static inline void end_slots(const struct call *call)
{
    const struct hb_tensor *out[2] = {&call->args->dslots_k, &call->args->dslots_v};
    int64_t width = call->z.slots * call->z.G * call->z.D;
    for (int i = 0; i < 2 && width; i++)
        if (call->z.chunks)
            hb_columns_finish(call->packed.sum[i], call->z.chunks, width, width, HB_STORE, out[i]->data);
        else
            memset(out[i]->data, 0, (size_t)width * sizeof(float));
}

static inline void gate_gradient(const struct call *call, int64_t h)
{
    const struct hb_attention_backward_args *args = call->args;
    const struct packed *p = &call->packed;
    float *sum = p->gate, weight[2];
    weights(call, h, weight);
    for (int64_t t = 0; t < call->z.segments; t++) {
        struct segment s = segment_at(&args->q_begin, &args->k_begin, t);
        float total = 0.0f;
        for (int64_t index = 0; index * TILE < s.length; index++) {
            struct queries q = queries_at(call, &s, (int32_t)t, index, h);
            float tile = 0.0f;
            for (int64_t i = 0; i < q.count; i++)
                tile = tile + (q.delta[1][i] - q.delta[0][i]);
            total = total + tile;
        }
        float x = weight[1] * weight[0] * total + 0.0f;
        sum[t / 64] = t % 64 == 0 ? x : sum[t / 64] + x;
    }
    ((float *)args->dgate.data)[h] = hb_tree_sum_f32(sum, call->z.chunks);
}

#endif
