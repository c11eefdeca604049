#include "data/shard.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/path.h"

enum { HEADER = 34, CODE_INT32 = 4, CODE_UINT16 = 8 };

static uint32_t load32(const unsigned char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return le32toh(value);
}

static uint64_t load64(const unsigned char *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return le64toh(value);
}

static hb_status map_file(const char *prefix, const char *suffix, struct hb_file_map *map)
{
    char *path = hb_path_append(prefix, suffix);
    if (!path)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot open the shard %s", prefix);
    hb_status status = hb_file_map(path, map);
    free(path);
    return status;
}

/* The header, and the tables' places; every length is compared with what the
 * file has before anything is multiplied. */
static hb_status read_header(struct hb_shard *s, const unsigned char **lengths)
{
    static const unsigned char magic[9] = "MMIDIDX\0";
    const unsigned char *idx = s->idx.data;
    uint64_t size = s->idx.size;
    if (size < HEADER)
        return HB_FAIL(HB_EFORMAT, "%s.idx is cut short: %" PRIu64 " bytes do not hold the header of %d",
                       s->prefix, size, HEADER);
    if (memcmp(idx, magic, sizeof magic) != 0)
        return HB_FAIL(HB_EFORMAT, "%s.idx is not a shard index: it does not start with MMIDIDX", s->prefix);
    uint64_t version = load64(idx + 9);
    if (version != 1)
        return HB_FAIL(HB_EFORMAT, "%s.idx has version %" PRIu64 "; only version 1 is known", s->prefix,
                       version);
    unsigned code = idx[17];
    if (code != CODE_INT32 && code != CODE_UINT16)
        return HB_FAIL(HB_EUNSUPPORTED,
                       "%s.idx holds tokens of dtype code %u; only 4 (int32) and 8 (uint16) are read",
                       s->prefix, code);
    s->wide = code == CODE_INT32;
    uint64_t sequences = load64(idx + 18), entries = load64(idx + 26);
    uint64_t left = size - HEADER;
    bool fits = sequences <= left / 12;
    left -= fits ? 12 * sequences : 0;
    fits = fits && entries <= left / 8;
    left -= fits ? 8 * entries : 0;
    if (!fits)
        return HB_FAIL(HB_EFORMAT,
                       "%s.idx is cut short: %" PRIu64 " bytes do not hold %" PRIu64 " sequences and %" PRIu64
                       " document entries",
                       s->prefix, size, sequences, entries);
    if (left == sequences && sequences > 0)
        return HB_FAIL(HB_EUNSUPPORTED, "%s.idx is multimodal (it has a table of modes); only text is read",
                       s->prefix);
    if (left != 0)
        return HB_FAIL(HB_EFORMAT, "%s.idx has %" PRIu64 " bytes too many", s->prefix, left);
    if (entries == 0)
        return HB_FAIL(HB_EFORMAT, "%s.idx has no document table", s->prefix);
    s->sequences = (int64_t)sequences;
    s->documents = (int64_t)entries - 1;
    *lengths = idx + HEADER;
    s->pointers = *lengths + 4 * sequences;
    s->firsts = s->pointers + 8 * sequences;
    return HB_OK;
}

/* Sequences must lie one behind the other and fill .bin: a stream of tokens
 * has neither gaps nor overlaps. */
static hb_status check_sequences(struct hb_shard *s, const unsigned char *lengths)
{
    uint64_t width = s->wide ? 4 : 2;
    uint64_t expected = 0;
    for (int64_t i = 0; i < s->sequences; i++) {
        uint32_t length = load32(lengths + 4 * i);
        uint64_t pointer = load64(s->pointers + 8 * i);
        if (length > INT32_MAX)
            return HB_FAIL(HB_EFORMAT, "%s.idx: sequence %" PRId64 " has a negative length", s->prefix, i);
        if (pointer != expected)
            return HB_FAIL(HB_EFORMAT,
                           "%s.idx: sequence %" PRId64 " is said to start at byte %" PRIu64
                           " of the .bin file, but the one before it ends at %" PRIu64,
                           s->prefix, i, pointer, expected);
        expected += width * length;
        if (expected > s->bin.size)
            return HB_FAIL(HB_EFORMAT,
                           "%s.bin is cut short: sequence %" PRId64 " ends at byte %" PRIu64
                           ", the file has %zu",
                           s->prefix, i, expected, s->bin.size);
    }
    if (expected != s->bin.size)
        return HB_FAIL(HB_EFORMAT,
                       "%s.bin has %zu bytes, but its index describes %" PRIu64
                       "; the two files do not belong together",
                       s->prefix, s->bin.size, expected);
    s->tokens = (int64_t)(expected / width);
    return HB_OK;
}

static hb_status check_documents(const struct hb_shard *s)
{
    uint64_t before = 0;
    for (int64_t d = 0; d <= s->documents; d++) {
        uint64_t first = load64(s->firsts + 8 * d);
        if (first < before || first > (uint64_t)s->sequences || (d == 0 && first != 0))
            return HB_FAIL(HB_EFORMAT,
                           "%s.idx: document %" PRId64 " is said to start at sequence %" PRIu64 " of %" PRId64
                           ", after %" PRIu64,
                           s->prefix, d, first, s->sequences, before);
        before = first;
    }
    if (before != (uint64_t)s->sequences)
        return HB_FAIL(HB_EFORMAT, "%s.idx: the documents end at sequence %" PRIu64 " of %" PRId64, s->prefix,
                       before, s->sequences);
    return HB_OK;
}

hb_status hb_shard_init(const char *prefix, struct hb_shard *s)
{
    *s = (struct hb_shard){.prefix = strdup(prefix)};
    if (!s->prefix)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot open the shard %s", prefix);
    hb_status status;
    const unsigned char *lengths = NULL;
    HB_TRY_CLEAN(map_file(prefix, ".idx", &s->idx));
    HB_TRY_CLEAN(map_file(prefix, ".bin", &s->bin));
    HB_TRY_CLEAN(read_header(s, &lengths));
    HB_TRY_CLEAN(check_sequences(s, lengths));
    HB_TRY_CLEAN(check_documents(s));
    return HB_OK;
cleanup:
    hb_shard_release(s);
    return status;
}

void hb_shard_release(struct hb_shard *s)
{
    hb_file_unmap(&s->bin);
    hb_file_unmap(&s->idx);
    free(s->prefix);
    *s = (struct hb_shard){.prefix = NULL};
}

int64_t hb_shard_begin(const struct hb_shard *s, int64_t d)
{
    int64_t sequence = (int64_t)load64(s->firsts + 8 * d);
    if (sequence == s->sequences)
        return s->tokens;
    return (int64_t)(load64(s->pointers + 8 * sequence) / (s->wide ? 4 : 2));
}

void hb_shard_read(const struct hb_shard *s, int64_t begin, int64_t count, int32_t *tokens)
{
    if (count == 0)
        return; /* an empty .bin has no address */
    if (s->wide) {
        memcpy(tokens, s->bin.data + 4 * begin, 4 * (size_t)count);
        for (int64_t i = 0; i < count; i++)
            tokens[i] = (int32_t)le32toh((uint32_t)tokens[i]);
        return;
    }
    const unsigned char *from = s->bin.data + 2 * begin;
    for (int64_t i = 0; i < count; i++) {
        uint16_t value;
        memcpy(&value, from + 2 * i, sizeof value);
        tokens[i] = le16toh(value);
    }
}
