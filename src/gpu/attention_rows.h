/* Who sees whom in attention: a call as kernels see it, the rows that a block of
 * threads works on, and the mask. Positions count from the segment's key 0. */
#ifndef HB_GPU_ATTENTION_ROWS_H
#define HB_GPU_ATTENTION_ROWS_H

#include "gpu/gpu.h"
#include "gpu/piece.h"

extern "C" {
#include "ops/attention.h"
}

enum { TILE = 64 };
enum { SLOTS, KEYS }; /* the two parts that a query sees */

/* Rows of one head of a tensor [rows, heads, D], by position. */
struct rows {
    struct array array;
    int64_t origin; /* element 0 of row 0 */
    int stride;     /* from one row to the next */
    int count;      /* positions 0 .. count - 1 */
    int ring;       /* positions from `sinks` on lie in rows sinks .. ring - 1, round and round; */
    int sinks;      /* NO_RING: row = position */
};
enum { NO_RING = 0x7fffffff };

static __device__ inline int row_of(const struct rows &r, int position)
{
    bool plain = r.ring == NO_RING || position < r.sinks;
    return plain ? position : r.sinks + (position - r.sinks) % (r.ring - r.sinks);
}

/* Which keys a query sees. */
struct mask {
    int everything;            /* slots */
    int bidirectional, window; /* window 0: none */
    int sinks;
};

static __device__ inline bool sees(const struct mask &m, int query, int key)
{
    int apart = query > key ? query - key : key - query;
    return m.everything ||
           ((m.bidirectional || key <= query) && (m.window == 0 || apart < m.window || key < m.sinks));
}

/* Queries q .. q_last against keys k .. k_last: does any see one; do all see all? */
static __device__ inline bool any_sees(const struct mask &m, int q, int q_last, int k, int k_last)
{
    if (m.everything)
        return true;
    if (!m.bidirectional && k > q_last)
        return false;
    return m.window == 0 || k < m.sinks || (q - k_last < m.window && k - q_last < m.window);
}

static __device__ inline bool all_see(const struct mask &m, int q, int q_last, int k, int k_last)
{
    if (m.everything)
        return true;
    if (!m.bidirectional && k_last > q)
        return false;
    return m.window == 0 || k_last < m.sinks || (q_last - k < m.window && k_last - q < m.window);
}

/* What forward and backward have in common. */
struct attention {
    struct array q, k, v, slots_k, slots_v, gate;
    const int32_t *q_begin, *k_begin;
    struct mask mask; /* of keys */
    int segments, H, G, D, slots, ring, combine;
    float scale;
};

static inline struct attention attention_of(const struct hb_tensor *q, const struct hb_tensor *k,
                                            const struct hb_tensor *v, const struct hb_tensor *q_begin,
                                            const struct hb_tensor *k_begin, const struct hb_tensor *slots_k,
                                            const struct hb_tensor *slots_v, const struct hb_tensor *gate)
{
    struct attention a = {};
    a.q = array_of(q);
    a.k = array_of(k);
    a.v = array_of(v);
    a.slots_k = array_of(slots_k);
    a.slots_v = array_of(slots_v);
    a.gate = array_of(gate);
    a.q_begin = i32_of(q_begin);
    a.k_begin = i32_of(k_begin);
    a.segments = (int)q_begin->shape[0] - 1;
    a.H = (int)q->shape[1];
    a.G = (int)k->shape[1];
    a.D = (int)q->shape[2];
    a.slots = slots_k->data ? (int)slots_k->shape[0] : 0;
    a.ring = NO_RING;
    return a;
}

/* A window or a ring beyond every position is one of the largest. */
static inline int at_most_int(int64_t x)
{
    return x < NO_RING ? (int)x : NO_RING - 1;
}

/* Blocks for tiles of `rows` rows, for heads, and for 128 (64) columns at a time. */
static inline dim3 attention_grid(const struct attention &a, int64_t rows, int heads)
{
    int width = a.D <= 64 ? 64 : 128;
    return dim3((unsigned)tiles_of_segments(rows, a.segments, TILE), (unsigned)heads,
                (unsigned)((a.D + width - 1) / width));
}

static __device__ inline struct mask mask_of(const struct attention &a, int part)
{
    struct mask everything = {1, 0, 0, 0};
    return part == SLOTS ? everything : a.mask;
}

static __device__ inline int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* All queries of a segment and head. */
static __device__ inline struct rows queries_of_head(const struct attention &a, int segment, int h)
{
    int begin = a.q_begin[segment], count = a.q_begin[segment + 1] - begin;
    int keys = a.k_begin[segment + 1] - a.k_begin[segment];
    struct rows r = {a.q, 0, a.H * a.D, keys, NO_RING, 0};
    r.origin = ((int64_t)begin - (keys - count)) * r.stride + (int64_t)h * a.D;
    return r;
}

/* Their keys, or the slots, of key/value head g; v lies likewise. */
static __device__ inline struct rows keys_of(const struct attention &a, int segment, int g, int part)
{
    if (part == SLOTS) {
        struct rows r = {a.slots_k, (int64_t)g * a.D, a.G * a.D, a.slots, NO_RING, 0};
        return r;
    }
    int64_t row0 = a.ring == NO_RING ? a.k_begin[segment] : (int64_t)segment * a.ring;
    struct rows r = {a.k, 0, a.G * a.D, a.k_begin[segment + 1] - a.k_begin[segment], a.ring, a.mask.sinks};
    r.origin = row0 * r.stride + (int64_t)g * a.D;
    return r;
}

/* The 64 queries of a block: positions first .. end - 1 of a segment and head. */
struct queries {
    struct rows rows;
    int64_t row0; /* row of position 0, if it had one */
    int segment, first, end;
    int h, g;
};

/* From blockIdx x (tile) and y (head); false: the block has nothing to do. */
static __device__ inline bool queries_of(const struct attention &a, struct queries *q)
{
    int tile = (int)(gridDim.x - 1 - blockIdx.x); /* in a causal segment the last ones see most: they begin */
    q->segment = segment_of_tile<TILE>(a.q_begin, a.segments, tile);
    q->h = (int)blockIdx.y;
    q->g = q->h / (a.H / a.G);
    q->rows = queries_of_head(a, q->segment, q->h);
    int begin = a.q_begin[q->segment], absent = q->rows.count - (a.q_begin[q->segment + 1] - begin);
    q->row0 = (int64_t)begin - absent;
    q->first = absent + (tile - begin / TILE - q->segment) * TILE;
    q->end = smaller(q->first + TILE, q->rows.count);
    return q->first < q->end;
}

#endif
