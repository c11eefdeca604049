#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/file_writer.h"
#include "data/path.h"
#include "data/shard.h"

enum { BUFFER = 1 << 20, NARROW_VOCABULARY = 65500 };

/* One of the two files: buffered, hashed and counted on the way out. */
struct output {
    struct hb_file_writer *file;
    XXH3_state_t *hash;
    uint64_t bytes;
    size_t used;
    char buffer[BUFFER];
};

struct hb_shard_writer {
    struct output bin, idx;
    char *prefix;
    int32_t vocabulary;
    bool wide;
    int32_t *lengths;
    int64_t documents, room, tokens;
};

static hb_status flush(struct output *o)
{
    XXH3_128bits_update(o->hash, o->buffer, o->used);
    hb_status status = hb_file_writer_write(o->file, o->buffer, o->used);
    o->bytes += o->used;
    o->used = 0;
    return status;
}

static hb_status put(struct output *o, const void *bytes, size_t count)
{
    if (count > BUFFER - o->used)
        HB_TRY(flush(o));
    memcpy(o->buffer + o->used, bytes, count); /* never more than a few bytes at once */
    o->used += count;
    return HB_OK;
}

static hb_status put32(struct output *o, uint32_t value)
{
    value = htole32(value);
    return put(o, &value, sizeof value);
}

static hb_status put64(struct output *o, uint64_t value)
{
    value = htole64(value);
    return put(o, &value, sizeof value);
}

static hb_status open_output(struct output *o, const char *prefix, const char *suffix)
{
    char *path = hb_path_append(prefix, suffix);
    o->hash = XXH3_createState();
    if (!path || !o->hash) {
        free(path);
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write the shard %s", prefix);
    }
    XXH3_128bits_reset(o->hash);
    hb_status status = hb_file_writer_create(path, &o->file);
    free(path);
    return status;
}

hb_status hb_shard_writer_create(const char *prefix, int32_t vocabulary, struct hb_shard_writer **out)
{
    *out = NULL;
    if (vocabulary < 1)
        return HB_FAIL(HB_EARGUMENT, "the shard %s needs a vocabulary of at least 1, not %" PRId32, prefix,
                       vocabulary);
    struct hb_shard_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->prefix = strdup(prefix))) {
        free(w);
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write the shard %s", prefix);
    }
    w->vocabulary = vocabulary;
    w->wide = vocabulary >= NARROW_VOCABULARY;
    hb_status status;
    HB_TRY_CLEAN(open_output(&w->bin, prefix, ".bin"));
    HB_TRY_CLEAN(open_output(&w->idx, prefix, ".idx"));
    *out = w;
    return HB_OK;
cleanup:
    hb_shard_writer_destroy(w);
    return status;
}

void hb_shard_writer_destroy(struct hb_shard_writer *w)
{
    if (!w)
        return;
    hb_file_writer_destroy(w->bin.file);
    hb_file_writer_destroy(w->idx.file);
    XXH3_freeState(w->bin.hash);
    XXH3_freeState(w->idx.hash);
    free(w->lengths);
    free(w->prefix);
    free(w);
}

hb_status hb_shard_writer_add(struct hb_shard_writer *w, const int32_t *tokens, int64_t count)
{
    if (count < 1 || count > INT32_MAX)
        return HB_FAIL(HB_EARGUMENT, "%s: document %" PRId64 " has %" PRId64 " tokens; 1 to %d can be stored",
                       w->prefix, w->documents, count, INT32_MAX);
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= w->vocabulary)
            return HB_FAIL(HB_EARGUMENT,
                           "%s: document %" PRId64 " has the token id %" PRId32
                           " in a vocabulary of %" PRId32,
                           w->prefix, w->documents, tokens[i], w->vocabulary);
    if (w->documents == w->room) {
        int64_t room = w->room ? 2 * w->room : 1024;
        int32_t *larger = realloc(w->lengths, (size_t)room * sizeof *larger);
        if (!larger)
            return HB_FAIL(HB_EMEMORY, "out of memory: cannot list %" PRId64 " documents of %s", room,
                           w->prefix);
        w->lengths = larger;
        w->room = room;
    }
    for (int64_t i = 0; i < count; i++) {
        if (w->wide) {
            HB_TRY(put32(&w->bin, (uint32_t)tokens[i]));
        } else {
            uint16_t narrow = htole16((uint16_t)tokens[i]);
            HB_TRY(put(&w->bin, &narrow, sizeof narrow));
        }
    }
    w->lengths[w->documents++] = (int32_t)count;
    w->tokens += count;
    return HB_OK;
}

hb_status hb_shard_writer_finish(struct hb_shard_writer *w)
{
    HB_TRY(flush(&w->bin));
    struct output *idx = &w->idx;
    unsigned char code = w->wide ? 4 : 8;
    uint64_t documents = (uint64_t)w->documents;
    HB_TRY(put(idx, "MMIDIDX\0", 9));
    HB_TRY(put64(idx, 1));
    HB_TRY(put(idx, &code, 1));
    HB_TRY(put64(idx, documents));
    HB_TRY(put64(idx, documents + 1));
    for (uint64_t d = 0; d < documents; d++)
        HB_TRY(put32(idx, (uint32_t)w->lengths[d]));
    uint64_t pointer = 0;
    for (uint64_t d = 0; d < documents; d++) {
        HB_TRY(put64(idx, pointer));
        pointer += (w->wide ? 4 : 2) * (uint64_t)w->lengths[d];
    }
    for (uint64_t d = 0; d <= documents; d++)
        HB_TRY(put64(idx, d));
    return flush(idx);
}

hb_status hb_shard_writer_commit(struct hb_shard_writer *w)
{
    HB_TRY(hb_file_writer_commit(w->bin.file));
    return hb_file_writer_commit(w->idx.file);
}

void hb_shard_writer_summary(const struct hb_shard_writer *w, struct hb_shard_summary *summary)
{
    *summary = (struct hb_shard_summary){
        .dtype = w->wide ? "int32" : "uint16",
        .documents = w->documents,
        .tokens = w->tokens,
        .bin = hb_file_receipt_of(w->bin.bytes, w->bin.hash),
        .idx = hb_file_receipt_of(w->idx.bytes, w->idx.hash),
    };
}
