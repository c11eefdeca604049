#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "data/nfc.h"
#include "data/tokenizer_parts.h"
#include "data/unicode.h"
#include "data/utf8.h"

/* A worker keeps its buffer between texts, but not that of an unusually long one. */
static const size_t keep = (size_t)4 << 20;

static void worker_destroy(struct hb_tokenizer_worker *w)
{
    if (!w)
        return;
    hb_pretokenizer_destroy(w->pretokenizer);
    hb_word_cache_release(&w->cache);
    hb_bytes_release(&w->normal);
    free(w);
}

static hb_status worker_create(const struct hb_tokenizer *t, struct hb_tokenizer_worker **out)
{
    struct hb_tokenizer_worker *w = calloc(1, sizeof *w);
    if (!w)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot prepare the tokenizer");
    hb_status status;
    HB_TRY_CLEAN(hb_pretokenizer_create(t->pattern, &w->pretokenizer));
    HB_TRY_CLEAN(hb_word_cache_init(&w->cache));
    *out = w;
    return HB_OK;
cleanup:
    worker_destroy(w);
    return status;
}

static hb_status worker_take(const struct hb_tokenizer *t, struct hb_tokenizer_worker **out)
{
    pthread_mutex_lock(&t->pool->lock);
    struct hb_tokenizer_worker *w = t->pool->idle;
    if (w)
        t->pool->idle = w->next;
    pthread_mutex_unlock(&t->pool->lock);
    *out = w;
    return w ? HB_OK : worker_create(t, out);
}

static void worker_give(const struct hb_tokenizer *t, struct hb_tokenizer_worker *w)
{
    if (w->normal.capacity > keep)
        hb_bytes_release(&w->normal);
    pthread_mutex_lock(&t->pool->lock);
    w->next = t->pool->idle;
    t->pool->idle = w;
    pthread_mutex_unlock(&t->pool->lock);
}

static hb_status pool_create(struct hb_tokenizer_pool **out)
{
    struct hb_tokenizer_pool *pool = calloc(1, sizeof *pool);
    if (!pool || pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot prepare the tokenizer");
    }
    *out = pool;
    return HB_OK;
}

static void pool_destroy(struct hb_tokenizer_pool *pool)
{
    if (!pool)
        return;
    while (pool->idle) {
        struct hb_tokenizer_worker *w = pool->idle;
        pool->idle = w->next;
        worker_destroy(w);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

hb_status hb_tokenizer_open(const char *path, struct hb_tokenizer **out)
{
    *out = NULL;
    struct hb_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot open %s", path);
    hb_status status;
    t->path = hb_file_is_folder(path) ? hb_path_join(path, "tokenizer.json") : strdup(path);
    if (!t->path) {
        status = HB_FAIL(HB_EMEMORY, "out of memory: cannot open %s", path);
        goto cleanup;
    }
    HB_TRY_CLEAN(pool_create(&t->pool));
    HB_TRY_CLEAN(hb_tokenizer_read(t));
    struct hb_tokenizer_worker *first; /* made now, so that a bad pattern is found here */
    status = worker_create(t, &first);
    if (status != HB_OK) {
        hb_fail_in(status, "%s", t->path);
        goto cleanup;
    }
    worker_give(t, first);
    *out = t;
    return HB_OK;
cleanup:
    hb_tokenizer_destroy(t);
    return status;
}

void hb_tokenizer_destroy(struct hb_tokenizer *t)
{
    if (!t)
        return;
    pool_destroy(t->pool);
    hb_byte_map_release(&t->model);
    hb_added_tokens_release(&t->contents);
    hb_added_tokens_release(&t->raw);
    hb_added_tokens_release(&t->normalized);
    hb_bpe_release(&t->bpe);
    hb_memory_free(t->token_of_id);
    free(t->pattern);
    free(t->path);
    free(t);
}

static hb_status encode_piece(const struct hb_tokenizer *t, struct hb_tokenizer_worker *w,
                              const unsigned char *piece, size_t n, struct hb_ids *ids)
{
    bool hit;
    struct hb_word_cache_line *line = hb_word_cache_find(&w->cache, piece, n, &hit);
    if (hit) {
        HB_TRY(hb_ids_reserve(ids, HB_WORD_CACHE_IDS));
        memcpy(ids->data + ids->count, line->ids, sizeof line->ids); /* all of them: a fixed size is faster */
        ids->count += line->id_count;
        return HB_OK;
    }
    int64_t whole = t->ignore_merges ? hb_byte_map_find(&t->model, piece, n) : -1;
    size_t before = ids->count;
    if (whole >= 0)
        HB_TRY(hb_ids_push(ids, (int32_t)t->model.entries[whole].value));
    else
        HB_TRY(hb_bpe_encode(&t->bpe, piece, n, ids, NULL));
    if (line)
        hb_word_cache_put(line, piece, n, ids->data + before, ids->count - before);
    return HB_OK;
}

static hb_status encode_pieces(const struct hb_tokenizer *t, struct hb_tokenizer_worker *w,
                               const unsigned char *text, size_t n, struct hb_ids *ids)
{
    for (size_t begin = 0, end; begin < n; begin = end) {
        HB_TRY(hb_pretokenizer_next(w->pretokenizer, text, n, begin, &end));
        HB_TRY(encode_piece(t, w, text + begin, end - begin, ids));
    }
    return HB_OK;
}

/* A stretch without added tokens that are looked for in raw text. */
static hb_status encode_stretch(const struct hb_tokenizer *t, struct hb_tokenizer_worker *w,
                                const unsigned char *text, size_t n, bool special, struct hb_ids *ids)
{
    bool changed = false;
    w->normal.count = 0;
    if (t->nfc)
        HB_TRY(hb_nfc(text, n, &w->normal, &changed));
    if (changed) {
        text = w->normal.data;
        n = w->normal.count;
    }
    size_t at = 0;
    struct hb_added_match match;
    while (hb_added_tokens_next(&t->normalized, text, n, at, special, &match)) {
        HB_TRY(encode_pieces(t, w, text + at, match.begin - at, ids));
        HB_TRY(hb_ids_push(ids, match.id));
        at = match.end;
    }
    return encode_pieces(t, w, text + at, n - at, ids);
}

static hb_status encode_text(const struct hb_tokenizer *t, struct hb_tokenizer_worker *w,
                             const unsigned char *text, size_t n, bool special, struct hb_ids *ids)
{
    size_t at = 0;
    struct hb_added_match match;
    while (hb_added_tokens_next(&t->raw, text, n, at, special, &match)) {
        HB_TRY(encode_stretch(t, w, text + at, match.begin - at, special, ids));
        HB_TRY(hb_ids_push(ids, match.id));
        at = match.end;
    }
    return encode_stretch(t, w, text + at, n - at, special, ids);
}

hb_status hb_tokenizer_encode(const struct hb_tokenizer *t, const void *text, size_t n, bool special,
                              struct hb_ids *ids)
{
    if (n == 0)
        return HB_OK;
    size_t valid = hb_utf8_valid_bytes(text, n);
    if (valid < n)
        return HB_FAIL(HB_EFORMAT, "invalid UTF-8 at byte %zu; convert the text to UTF-8", valid);
    struct hb_tokenizer_worker *w;
    HB_TRY(worker_take(t, &w));
    size_t before = ids->count;
    hb_status status = encode_text(t, w, text, n, special, ids);
    if (status != HB_OK)
        ids->count = before;
    worker_give(t, w);
    return status;
}

const unsigned char *hb_tokenizer_token(const struct hb_tokenizer *t, int32_t id, size_t *n)
{
    if (id < 0 || id >= t->vocabulary || t->token_of_id[id] == -1)
        return NULL;
    int32_t token = t->token_of_id[id];
    const struct hb_byte_map *map = token >= 0 ? &t->model : &t->contents.map;
    size_t entry = (size_t)(token >= 0 ? token : -2 - token);
    *n = map->entries[entry].length;
    return hb_byte_map_text(map, entry);
}

static hb_status append_token(const struct hb_tokenizer *t, int32_t id, struct hb_bytes *out)
{
    size_t n;
    const unsigned char *bytes = hb_tokenizer_token(t, id, &n);
    if (!bytes)
        return HB_FAIL(HB_EARGUMENT, "%d is not the id of a token of %s (vocabulary %d)", id, t->path,
                       t->vocabulary);
    return hb_bytes_append(out, bytes, n);
}

hb_status hb_tokenizer_decode(const struct hb_tokenizer *t, const int32_t *ids, size_t n,
                              struct hb_bytes *out)
{
    size_t before = out->count;
    for (size_t i = 0; i < n; i++) {
        hb_status status = append_token(t, ids[i], out);
        if (status != HB_OK) {
            out->count = before;
            return status;
        }
    }
    return HB_OK;
}

int32_t hb_tokenizer_token_count(const struct hb_tokenizer *t)
{
    return t->token_count;
}

int32_t hb_tokenizer_vocabulary(const struct hb_tokenizer *t)
{
    return t->vocabulary;
}

int32_t hb_tokenizer_find(const struct hb_tokenizer *t, const void *token, size_t n)
{
    int64_t entry = hb_byte_map_find(&t->contents.map, token, n);
    if (entry >= 0)
        return (int32_t)(t->contents.map.entries[entry].value >> 1);
    entry = hb_byte_map_find(&t->model, token, n);
    return entry >= 0 ? (int32_t)t->model.entries[entry].value : -1;
}

bool hb_tokenizer_is_special(const struct hb_tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->vocabulary || t->token_of_id[id] >= -1)
        return false;
    return t->contents.map.entries[-2 - t->token_of_id[id]].value & 1;
}

int32_t hb_tokenizer_end_of_text(const struct hb_tokenizer *t)
{
    return t->end_of_text;
}

const char *hb_tokenizer_hash(const struct hb_tokenizer *t)
{
    return t->hash;
}

const char *hb_tokenizer_path(const struct hb_tokenizer *t)
{
    return t->path;
}

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

hb_status hb_tokenizer_decode_stream(struct hb_decode_stream *stream, int32_t id, struct hb_bytes *out)
{
    struct hb_bytes bytes = {0};
    hb_status status;
    HB_TRY_CLEAN(hb_bytes_append(&bytes, stream->pending, stream->pending_count));
    HB_TRY_CLEAN(append_token(stream->tokenizer, id, &bytes));
    size_t at = 0;
    while (at < bytes.count) {
        int length = hb_utf8_sequence(bytes.data + at, bytes.count - at);
        if (length == 0)
            break;
        if (length > 0)
            HB_TRY_CLEAN(hb_bytes_append(out, bytes.data + at, (size_t)length));
        else
            HB_TRY_CLEAN(hb_bytes_append_text(out, replacement));
        at += (size_t)abs(length);
    }
    stream->pending_count = bytes.count - at;
    memcpy(stream->pending, bytes.data + at, stream->pending_count);
cleanup:
    hb_bytes_release(&bytes);
    return status;
}

hb_status hb_tokenizer_decode_stream_end(struct hb_decode_stream *stream, struct hb_bytes *out)
{
    size_t pending = stream->pending_count;
    stream->pending_count = 0;
    return pending ? hb_bytes_append_text(out, replacement) : HB_OK;
}
