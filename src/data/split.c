#include "data/split.h"

#include <inttypes.h>
#include <xxhash.h>

uint64_t hb_split_hash(const void *text, size_t size)
{
    return XXH3_64bits_withSeed(text, size, HB_SPLIT_SEED);
}

void hb_split_count(struct hb_split_census *census, uint64_t hash)
{
    if (census->documents == 0 || hash < census->lowest)
        census->lowest = hash;
    if (census->documents == 0 || hash > census->highest)
        census->highest = hash;
    census->documents++;
}

hb_status hb_split_init(const struct hb_split_census *census, double fraction, struct hb_split *split)
{
    *split = (struct hb_split){HB_SPLIT_NONE, fraction, 0};
    if (!(fraction >= 0 && fraction <= 0.5))
        return HB_FAIL(HB_EARGUMENT, "the held-out fraction must lie between 0 and 0.5, not be %g", fraction);
    if (fraction == 0)
        return HB_OK;
    if (census->documents < 2) {
        split->method = HB_SPLIT_CUT;
        return HB_OK;
    }
    if (census->lowest == census->highest)
        return HB_FAIL(HB_EARGUMENT,
                       "all %" PRId64
                       " documents are the same text, so none can be held out; hold out 0, or add text",
                       census->documents);
    split->method = HB_SPLIT_HASH;
    split->limit = (uint64_t)(fraction * 0x1p64); /* exact: a power of two */
    if (split->limit < census->lowest)
        split->limit = census->lowest;
    if (split->limit >= census->highest)
        split->limit = census->highest - 1;
    return HB_OK;
}

bool hb_split_holds_out(const struct hb_split *split, uint64_t hash)
{
    return hash <= split->limit;
}

/* The last place in [low, high] behind `breaks` newlines in a row; 0 when there is none. */
static size_t last_start(const unsigned char *text, size_t low, size_t high, size_t breaks)
{
    for (size_t at = high; at >= low && at >= breaks; at--) {
        size_t n = 0;
        while (n < breaks && text[at - 1 - n] == '\n')
            n++;
        if (n == breaks)
            return at;
    }
    return 0;
}

hb_status hb_split_place(const struct hb_split *split, const unsigned char *text, size_t size, size_t *place)
{
    size_t share = (size_t)((double)size * split->fraction);
    size_t high = size - (share > 0 ? share : 1);
    size_t low = size - (2 * share < size ? 2 * share : size);
    if (low < 1)
        low = 1;
    size_t at = last_start(text, low, high, 2);
    if (at == 0)
        at = last_start(text, low, high, 1);
    if (at == 0) {
        at = high;
        while (at > 0 && (text[at] & 0xc0) == 0x80)
            at--;
    }
    if (at == 0)
        return HB_FAIL(HB_EARGUMENT,
                       "the only document is too short to hold a part of it out; hold out 0, or add text");
    *place = at;
    return HB_OK;
}
