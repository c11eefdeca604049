/* Attention backward: numerics.md rule 13, queries in the lanes, S and dP
 * computed once.
 *
 * A thread takes BLOCK keys of one key/value head and passes over the queries
 * that see them, ascending: dK and dV of the block stay with the thread. dQ of a
 * tile of queries needs the key tiles in ascending order, which other threads may
 * have: a counter says whose turn it is. Pieces are handed out by keys ascending,
 * slots before them, so that whoever must wait waits for work that has begun. */
#include "ops/attention.h"

#include <omp.h>

#include "cpu/attention_slots.h"
#include "cpu/cpu.h"

/* Which of the tiles that the queries see is key tile kt? */
static int64_t number_of(const struct call *call, const struct queries *q, int64_t kt)
{
    int64_t slots = (call->z.slots + TILE - 1) / TILE, sinks = sink_tiles(&call->sight);
    int64_t first = first_tile(&call->sight, q->index * TILE);
    return slots + (kt < sinks ? kt : kt - first + smaller(first, sinks));
}

/* Tiles of queries [from, to) that may see a key of tiles first .. end - 1. */
static void queries_of(const struct sight *s, int64_t length, int64_t first, int64_t end, int64_t *from,
                       int64_t *to)
{
    bool cut = s->window && first * TILE >= s->sinks;
    int64_t last = smaller(end * TILE, length) - 1;
    *from = s->bidirectional ? 0 : first;
    if (s->bidirectional && cut)
        *from = larger(first * TILE - s->window + 1, 0) / TILE;
    *to = ((cut ? smaller(length, last + s->window) : length) + TILE - 1) / TILE;
}

static void backward_piece(const struct call *call, const struct piece *piece, int64_t g, struct scratch *w)
{
    const struct hb_attention_backward_args *args = call->args;
    int64_t H = call->z.H, G = call->z.G, D = call->z.D, from, to;
    struct segment s = segment_at(&args->q_begin, &args->k_begin, piece->segment);
    int64_t first = (int64_t)piece->index * TILES, end = smaller(first + TILES, (s.length + TILE - 1) / TILE);
    int64_t at = ((s.k_row + first * TILE) * G + g) * D;
    /* A segment that is one piece is packed where it is used, not by all threads beforehand. */
    for (int64_t i = 0; s.length <= BLOCK && !call->z.slots && i < (H / G) * end; i++)
        pack(call, piece->segment, i % end, g * (H / G) + i / end, w->q, w->dout,
             w->dq);
    for (int64_t kt = first; kt < end; kt++) {
        int64_t count = smaller(TILE, s.length - kt * TILE);
        take_keys(call, &args->k, &args->v, at + (kt - first) * TILE * G * D, count, &w->tile[kt - first]);
        clear_keys(call, count, &w->tile[kt - first]);
    }
    queries_of(&call->sight, s.length, first, end, &from, &to);
    for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++)
        for (int64_t index = from; index < to; index++) {
            struct queries q = queries_at(call, &s, piece->segment, index, h);
            int64_t last = last_tile(&call->sight, index * TILE + q.count, s.length);
            struct ahead ahead[TILES][2];
            take_queries(call, &s, &q, h, ahead, w);
            for (int64_t kt = first; kt < end && kt <= last; kt++) {
                struct visit visit = {.buffer = (int)(kt - first), .last = kt == last};
                pairs_of(&call->sight, index, kt, 0, q.count, smaller(TILE, s.length - kt * TILE),
                         &visit.pairs);
                if (visit.pairs.seen == NOTHING)
                    continue;
                visit.number = number_of(call, &q, kt);
                backward_tile(call, &q, &visit, ahead[kt - first], w);
            }
        }
    for (int64_t j = 0; first * TILE + j < smaller(s.length, end * TILE); j++) {
        const struct keys *keys = &w->tile[j / TILE];
        int64_t row = j % TILE * row_stride(D), to_row = at + j * G * D;
        end_row(call, keys, j % TILE);
        hb_narrow(args->dk.dtype, keys->dk + row, D, args->dk.data, to_row);
        hb_narrow(args->dv.dtype, keys->dv + row, D, args->dv.data, to_row);
    }
}

/* Rows of dK and dV that no segment owns. */
static void clear_rest(const struct hb_attention_backward_args *args)
{
    const int32_t *k_begin = args->k_begin.data;
    int64_t m = args->k.shape[0], row = args->k.shape[1] * args->k.shape[2];
    int64_t first = k_begin[0], last = k_begin[args->k_begin.shape[0] - 1];
    for (int i = 0; i < 2; i++) {
        const struct hb_tensor *t = i == 0 ? &args->dk : &args->dv;
        size_t size = hb_dtype_size(t->dtype);
        if (first > 0)
            memset(t->data, 0, (size_t)(first * row) * size);
        if (last < m)
            memset((char *)t->data + (size_t)(last * row) * size, 0, (size_t)((m - last) * row) * size);
    }
}

hb_status HB_CPU(attention_backward)(struct hb_context *context,
                                     const struct hb_attention_backward_args *args)
{
    struct call call = {.args = args,
                        .sight = {args->window, args->sinks, args->bidirectional},
                        .z = sizes_of(args)};
    int64_t H = call.z.H, G = call.z.G, n = args->q.shape[0];
    struct plan plan = plan_of(&args->q_begin, &args->k_begin, BLOCK);
    int threads = attention_threads(context, plan.pairs * (double)(H * call.z.D));

    char *memory = NULL;
    size_t shared_bytes = 0, scratch_bytes = 0;
    scratch_in(&memory, &scratch_bytes, call.z.D);
    packed_in(&memory, &shared_bytes, &call.z, n);
    plan_in(&plan, &memory, &shared_bytes);
    void *workspace;
    HB_TRY(hb_host_workspace(context, shared_bytes + (size_t)threads * scratch_bytes, &workspace));
    memory = workspace;
    shared_bytes = 0;
    call.packed = packed_in(&memory, &shared_bytes, &call.z, n);
    if (!call.z.room)
        call.packed.dq = args->dq.data;
    plan_in(&plan, &memory, &shared_bytes);

    plan_sort(&plan, &args->q_begin, &args->k_begin, BLOCK, false);
    number_rows(&call);
    clear_rest(args);

    int64_t blocks = (call.z.slots + BLOCK - 1) / BLOCK, slot_pieces = blocks * call.z.chunks * G;
    atomic_llong next = 0;
#pragma omp parallel num_threads(threads)
    {
        size_t used = shared_bytes + (size_t)omp_get_thread_num() * scratch_bytes;
        struct scratch w = scratch_in(&memory, &used, call.z.D);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < plan.pieces * H; i++) {
            const struct piece *piece = &plan.piece[i / H];
            int64_t length = segment_at(&args->q_begin, &args->k_begin, piece->segment).length;
            if (length <= BLOCK && !call.z.slots)
                continue;
            for (int64_t t = (int64_t)piece->index * TILES;
                 t < (piece->index + 1) * TILES && t * TILE < length; t++)
                pack(&call, piece->segment, t, i % H, w.q, w.dout, w.dq);
        }
        /* Not an OpenMP loop: waiting for one's turn relies on the order in which pieces are taken. */
        for (int64_t i; (i = atomic_fetch_add(&next, 1)) < slot_pieces + plan.pieces * G;) {
            int64_t key = i - slot_pieces;
            if (key < 0)
                backward_slots(&call, i / G / call.z.chunks * TILES, i / G % call.z.chunks, i % G, &w);
            else
                backward_piece(&call, &plan.piece[key / G], key % G, &w);
        }
    }
    end_slots(&call);
    for (int64_t h = 0; args->combine == HB_GATED && h < H; h++)
        gate_gradient(&call, h);
    return HB_OK;
}
