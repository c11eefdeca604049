/* The queries of a backward call of attention, packed once for all threads: what
 * scores and probabilities need of them, and whose turn it is to add to their dQ. */
#ifndef HB_CPU_ATTENTION_PACKED_H
#define HB_CPU_ATTENTION_PACKED_H

#include <math.h>
#include <stdatomic.h>

#include "core/math.h"
#include "cpu/attention_mask.h"
#include "cpu/attention_plan.h"
#include "cpu/row.h"
#include "ops/attention.h"

/* The queries packed for the whole call (2 n H D floats). Rows of a segment are
 * padded to whole registers; tile i of segment t begins at row[t] + 64 i. */
struct packed {
    int64_t rows;     /* of all segments */
    int64_t *row;     /* [segments] */
    int64_t *tile;    /* [segments] number of the segment's first tile */
    float *qt, *dot;  /* per tile [H] panels of Q^T, dO^T */
    float *delta[2];  /* [H,rows] dot(dO, O), of the keys' recurrence and of the slots' */
    float *shift[2];  /* [H,rows] what is taken off a score: lse, or 0 for -inf */
    atomic_int *turn; /* [tiles,H] how many tiles of keys have added to dQ */
    float *dq;        /* [n,H,D]; where dq is stored in fp32, its own memory */
    float *sum[2];    /* [chunks of 64 segments,M,G,D] of dslots_k, dslots_v */
    float *gate;      /* [chunks] of dgate */
};

/* How large all of it is. */
struct sizes {
    int64_t segments, rows, tiles, slots, chunks, H, G, D;
    bool two;  /* recurrences */
    bool room; /* for dq */
};

static inline struct packed packed_in(char **at, size_t *used, const struct sizes *z, int64_t n)
{
    struct packed p = {.rows = z->rows};
    size_t row = (size_t)(z->rows * z->H) * sizeof(float);
    p.row = take(at, used, (size_t)z->segments * sizeof *p.row);
    p.tile = take(at, used, (size_t)z->segments * sizeof *p.tile);
    p.qt = take(at, used, row * (size_t)z->D);
    p.dot = take(at, used, row * (size_t)z->D);
    for (int i = 0; i < 2; i++) {
        p.delta[i] = i == 0 || z->two ? take(at, used, row) : p.delta[0];
        p.shift[i] = i == 0 || z->two ? take(at, used, row) : p.shift[0];
        p.sum[i] = take(at, used, (size_t)(z->chunks * z->slots * z->G * z->D) * sizeof(float));
    }
    p.turn = take(at, used, (size_t)(z->tiles * z->H) * sizeof *p.turn);
    p.dq = take(at, used, z->room ? (size_t)(n * z->H * z->D) * sizeof(float) : 0);
    p.gate = take(at, used, (size_t)z->chunks * sizeof(float));
    return p;
}

/* One call. */
struct call {
    const struct hb_attention_backward_args *args;
    struct sight sight;
    struct sizes z;
    struct packed packed;
};

/* A tile of queries of one head. */
struct queries {
    int64_t index, count;         /* positions 64 index .. 64 index + count - 1 of the segment */
    int64_t row;                  /* of q */
    int64_t columns;              /* count in whole registers */
    float *qt, *dot;              /* panels */
    float *delta[2], *shift[2];   /* [columns] */
    float weight[2];              /* of P */
    float *dq;                    /* element 0 of its first row, rows H D apart */
    atomic_int *turn;
};

/* What P is multiplied by over keys and over slots: 1, or the two of gated. */
static inline void weights(const struct call *call, int64_t h, float out[2])
{
    float gate;
    out[0] = out[1] = 1.0f;
    if (call->args->combine != HB_GATED)
        return;
    hb_widen(call->args->gate.dtype, call->args->gate.data, h, 1, &gate);
    out[1] = hb_sigmoidf(gate);
    out[0] = 1.0f - out[1];
}

static inline struct queries queries_at(const struct call *call, const struct segment *s, int32_t segment,
                                        int64_t index, int64_t h)
{
    const struct packed *p = &call->packed;
    int64_t H = call->z.H, D = call->z.D;
    int64_t count = smaller(TILE, s->length - index * TILE), columns = whole(count);
    int64_t row = p->row[segment] + index * TILE, at = h * p->rows + row;
    struct queries q = {.index = index,
                        .count = count,
                        .row = s->q_row + index * TILE,
                        .columns = columns,
                        .qt = p->qt + row * H * D + h * D * columns,
                        .dot = p->dot + row * H * D + h * D * columns,
                        .delta = {p->delta[0] + at, p->delta[1] + at},
                        .shift = {p->shift[0] + at, p->shift[1] + at},
                        .turn = p->turn + (p->tile[segment] + index) * H + h};
    q.dq = p->dq + (q.row * H + h) * D;
    weights(call, h, q.weight);
    return q;
}

/* Of one recurrence: what its out and lse give every query. `dout` and `room` [PADDED] rows. */
static inline void pack_state(const struct call *call, const struct queries *q, int64_t h, int which,
                              const float *dout, int64_t dout_stride, float *room)
{
    int64_t H = call->z.H, D = call->z.D, stride;
    const struct hb_tensor *out = which ? &call->args->slots_out : &call->args->out;
    const struct hb_tensor *state = which ? &call->args->slots_lse : &call->args->lse;
    const float *rows = tile_read(rows_at(out, (q->row * H + h) * D, H * D), q->count, D, room, &stride);
    const float *lse = (const float *)state->data + q->row * H + h;
    for (int64_t i = 0; i < q->columns; i++) {
        bool there = i < q->count;
        q->delta[which][i] = there ? hb_row_dot(dout + i * dout_stride, rows + i * stride, D) : 0.0f;
        q->shift[which][i] = there && lse[i * H] != -INFINITY ? lse[i * H] : 0.0f;
    }
}

/* Tile `index` of a segment, one head. Each room has [PADDED] rows, for rows to widen. */
static inline void pack(const struct call *call, int32_t segment, int64_t index, int64_t h, float *q_room,
                        float *dout_room, float *out_room)
{
    const struct hb_attention_backward_args *args = call->args;
    int64_t H = call->z.H, D = call->z.D, stride;
    struct segment s = segment_at(&args->q_begin, &args->k_begin, segment);
    struct queries q = queries_at(call, &s, segment, index, h);
    int64_t at = (q.row * H + h) * D;
    const float *rows = tile_read(rows_at(&args->q, at, H * D), q.count, D, q_room, &stride);
    tile_transpose(rows, stride, 0, q.count, D, q.qt);
    rows = tile_read(rows_at(&args->dout, at, H * D), q.count, D, dout_room, &stride);
    tile_transpose(rows, stride, 0, q.count, D, q.dot);
    for (int which = 0; which < (call->z.two ? 2 : 1); which++)
        pack_state(call, &q, h, which, rows, stride, out_room);
    atomic_init(q.turn, 0);
}

static inline struct sizes sizes_of(const struct hb_attention_backward_args *args)
{
    struct sizes z = {.segments = args->q_begin.shape[0] - 1,
                      .slots = args->slots_k.data ? args->slots_k.shape[0] : 0,
                      .H = args->q.shape[1],
                      .G = args->k.shape[1],
                      .D = args->q.shape[2],
                      .two = args->combine != HB_JOINT,
                      .room = args->dq.dtype != HB_F32};
    z.chunks = z.slots ? (z.segments + 63) / 64 : 0;
    for (int64_t t = 0; t < z.segments; t++) {
        int64_t length = segment_at(&args->q_begin, &args->k_begin, t).length;
        z.rows += whole(length);
        z.tiles += (length + TILE - 1) / TILE;
    }
    return z;
}

static inline void number_rows(const struct call *call)
{
    int64_t rows = 0, tiles = 0;
    for (int64_t t = 0; t < call->z.segments; t++) {
        int64_t length = segment_at(&call->args->q_begin, &call->args->k_begin, t).length;
        call->packed.row[t] = rows;
        call->packed.tile[t] = tiles;
        rows += whole(length);
        tiles += (length + TILE - 1) / TILE;
    }
}

#endif
