/* Which queries of a tile see which keys of a tile.
 *
 * Most pairs of tiles are all or nothing, causal attention has its diagonals,
 * and only the edges of a window, of the sinks and of a segment need a bit for
 * every pair. A tile of 64 is a word of bits. */
#ifndef HB_CPU_ATTENTION_MASK_H
#define HB_CPU_ATTENTION_MASK_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/attention_tile.h"

/* Of a call. */
struct sight {
    int64_t window, sinks; /* window 0: none */
    bool bidirectional;
};

enum seen { NOTHING, ALL, DIAGONAL, SOME };

/* A tile of queries, rows lo .. hi - 1 there, against `keys` keys of a tile.
 * DIAGONAL: query r sees the keys 0 .. r. SOME: bit r of query_bits[j] and bit j
 * of key_bits[r] say that query r sees key j. */
struct pairs {
    enum seen seen;
    int64_t keys;
    uint64_t query_bits[TILE], key_bits[TILE];
};

/* Bits from .. to - 1 of 64. */
static inline uint64_t bits(int64_t from, int64_t to)
{
    from = larger(from, 0);
    to = smaller(to, 64);
    return from >= to ? 0 : ~(uint64_t)0 >> (64 - to) & ~(uint64_t)0 << from;
}

/* First and last key of the window, at any distance before key 0 and behind the segment. */
static inline int64_t window_first(const struct sight *s, int64_t position)
{
    return s->window ? position - s->window + 1 : INT64_MIN / 4;
}

static inline int64_t window_last(const struct sight *s, int64_t position)
{
    if (!s->bidirectional)
        return position;
    return s->window ? position + s->window - 1 : INT64_MAX / 4;
}

/* Tiles that hold sinks, where there is a window to look over. */
static inline int64_t sink_tiles(const struct sight *s)
{
    return s->window ? (s->sinks + TILE - 1) / TILE : 0;
}

/* Tiles [first, last] of the window around the positions begin .. end - 1 of a
 * segment; the tiles of sinks come besides. */
static inline int64_t first_tile(const struct sight *s, int64_t begin)
{
    return larger(window_first(s, begin), 0) / TILE;
}

static inline int64_t last_tile(const struct sight *s, int64_t end, int64_t length)
{
    int64_t last = smaller(window_last(s, end - 1), length - 1) / TILE;
    if (s->bidirectional)
        last = larger(last, smaller(sink_tiles(s), (length + TILE - 1) / TILE) - 1);
    return last;
}

static inline void some_pairs(const struct sight *s, int64_t query_tile, int64_t key_tile, int64_t lo,
                              int64_t hi, struct pairs *out)
{
    for (int j = 0; j < TILE; j++)
        out->query_bits[j] = out->key_bits[j] = 0;
    for (int64_t r = lo; r < hi; r++) {
        int64_t position = query_tile * TILE + r, first = key_tile * TILE;
        int64_t last = window_last(s, position) - first;
        uint64_t row = bits(window_first(s, position) - first, last + 1);
        if (s->window)
            row |= bits(0, s->bidirectional ? s->sinks - first : smaller(s->sinks - first, last + 1));
        row &= bits(0, out->keys);
        out->key_bits[r] = row;
        for (; row; row &= row - 1)
            out->query_bits[__builtin_ctzll(row)] |= (uint64_t)1 << r;
    }
}

static inline enum seen seen_of(const struct sight *s, int64_t query_tile, int64_t key_tile, int64_t lo,
                                int64_t hi, int64_t keys)
{
    int64_t begin = query_tile * TILE + lo, end = query_tile * TILE + hi - 1, first = key_tile * TILE;
    int64_t sinks = s->window ? s->sinks - first : 0;
    bool from_the_start = window_first(s, end) <= first || sinks >= keys;
    if (window_last(s, end) < first && !(s->bidirectional && sinks > 0))
        return NOTHING;
    if (window_first(s, begin) > first + keys - 1 && sinks <= 0)
        return NOTHING;
    if (from_the_start && window_last(s, begin) >= first + keys - 1)
        return ALL;
    if (from_the_start && !s->bidirectional && query_tile == key_tile)
        return DIAGONAL;
    return SOME;
}

/* `keys`: those of the tile that the segment has. */
static inline void pairs_of(const struct sight *s, int64_t query_tile, int64_t key_tile, int64_t lo,
                            int64_t hi, int64_t keys, struct pairs *out)
{
    out->keys = keys;
    out->seen = seen_of(s, query_tile, key_tile, lo, hi, keys);
    if (out->seen == SOME)
        some_pairs(s, query_tile, key_tile, lo, hi, out);
}

#endif
