/* Reads tokenizer.json. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "data/byte_level.h"
#include "data/nfc.h"
#include "data/tokenizer_parts.h"

/* Names in messages: no more of a hostile file than this. */
#define NAME "%.60s"

enum { CONTENT_LIMIT = 1024 }; /* bytes of an added token: matching costs its length */

static hb_status refuse(const char *where, const char *what)
{
    return HB_FAIL(HB_EUNSUPPORTED, "%s: " NAME " is not supported", where, what);
}

/* object[key] must be a string equal to `wanted`. */
static hb_status expect_type(const json_t *object, const char *where, const char *wanted)
{
    const char *type;
    HB_TRY(hb_json_string(object, where, "type", &type));
    if (strcmp(type, wanted) != 0)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: type '" NAME "' is not supported (only '%s')", where, type,
                       wanted);
    return HB_OK;
}

/* Refuses a truth value that is true where only false is offered. */
static hb_status expect_false(const json_t *object, const char *where, const char *key)
{
    bool value;
    HB_TRY(hb_json_bool_or(object, where, key, false, &value));
    return value ? HB_FAIL(HB_EUNSUPPORTED, "%s: '%s' true is not supported", where, key) : HB_OK;
}

/* Refuses a key that is there and neither null nor an empty string. */
static hb_status expect_unused(const json_t *object, const char *where, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
        return HB_OK;
    return HB_FAIL(HB_EUNSUPPORTED, "%s: '%s' is not supported", where, key);
}

static bool absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static hb_status read_normalizer(struct hb_tokenizer *t, const json_t *root)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    t->nfc = !absent(normalizer);
    return t->nfc ? expect_type(normalizer, "normalizer", "NFC") : HB_OK;
}

static hb_status set_pattern(struct hb_tokenizer *t, const char *pattern)
{
    t->pattern = strdup(pattern);
    return t->pattern ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory: cannot keep the pattern");
}

static hb_status read_byte_level(const json_t *step, const char *where, bool *use_regex)
{
    HB_TRY(expect_type(step, where, "ByteLevel"));
    bool prefix;
    HB_TRY(hb_json_bool(step, where, "add_prefix_space", &prefix));
    if (prefix)
        return refuse(where, "'add_prefix_space' true");
    return hb_json_bool_or(step, where, "use_regex", true, use_regex);
}

static hb_status read_split(struct hb_tokenizer *t, const json_t *step)
{
    static const char where[] = "pre_tokenizer.pretokenizers[0]";
    HB_TRY(expect_type(step, where, "Split"));
    const char *behavior, *regex;
    json_t *pattern;
    HB_TRY(hb_json_string(step, where, "behavior", &behavior));
    if (strcmp(behavior, "Isolated") != 0)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: behavior '" NAME "' is not supported (only 'Isolated')", where,
                       behavior);
    HB_TRY(expect_false(step, where, "invert"));
    HB_TRY(hb_json_object(step, where, "pattern", &pattern));
    HB_TRY(hb_json_string(pattern, where, "Regex", &regex));
    if (strlen(regex) != json_string_length(json_object_get(pattern, "Regex")))
        return refuse(where, "a pattern with NUL");
    return set_pattern(t, regex);
}

static hb_status read_pre_tokenizer(struct hb_tokenizer *t, const json_t *root)
{
    const json_t *step = json_object_get(root, "pre_tokenizer");
    const char *type;
    bool use_regex;
    HB_TRY(hb_json_string(step, "pre_tokenizer", "type", &type));
    if (strcmp(type, "Sequence") != 0) {
        HB_TRY(read_byte_level(step, "pre_tokenizer", &use_regex));
        if (!use_regex)
            return refuse("pre_tokenizer", "ByteLevel alone with 'use_regex' false");
        return set_pattern(t, hb_pattern_gpt2);
    }
    json_t *steps;
    HB_TRY(hb_json_array(step, "pre_tokenizer", "pretokenizers", &steps));
    if (json_array_size(steps) != 2)
        return HB_FAIL(HB_EUNSUPPORTED,
                       "pre_tokenizer: a Sequence of %zu steps is not supported (only Split, ByteLevel)",
                       json_array_size(steps));
    HB_TRY(read_split(t, json_array_get(steps, 0)));
    HB_TRY(read_byte_level(json_array_get(steps, 1), "pre_tokenizer.pretokenizers[1]", &use_regex));
    return use_regex ? refuse("pre_tokenizer.pretokenizers[1]", "'use_regex' true after a Split") : HB_OK;
}

/* What may follow the encoding must not change the ids: ByteLevel moves offsets
 * only, and a template without special tokens (which transformers writes) adds nothing. */
static hb_status read_post_processor(const json_t *post)
{
    static const char where[] = "post_processor";
    if (absent(post))
        return HB_OK;
    const char *type;
    HB_TRY(hb_json_string(post, where, "type", &type));
    if (strcmp(type, "TemplateProcessing") != 0)
        return expect_type(post, where, "ByteLevel");
    json_t *single, *specials;
    HB_TRY(hb_json_array(post, where, "single", &single));
    HB_TRY(hb_json_object(post, where, "special_tokens", &specials));
    if (json_array_size(single) != 1 || json_object_size(specials) != 0)
        return refuse(where, "a TemplateProcessing that adds tokens");
    return HB_OK;
}

static hb_status read_ends(const json_t *root)
{
    HB_TRY(expect_unused(root, "tokenizer", "truncation"));
    HB_TRY(expect_unused(root, "tokenizer", "padding"));
    HB_TRY(read_post_processor(json_object_get(root, "post_processor")));
    return expect_type(json_object_get(root, "decoder"), "decoder", "ByteLevel");
}

/* Makes `id` a token, -1 <= token_of_id; grows the table up to it. */
static hb_status claim_id(struct hb_tokenizer *t, int64_t id, int32_t token, size_t *capacity)
{
    if (id < 0 || id >= HB_BPE_ID_LIMIT)
        return HB_FAIL(HB_EUNSUPPORTED, "id %" PRId64 " is outside 0..%d", id, HB_BPE_ID_LIMIT - 1);
    void *table = t->token_of_id;
    HB_TRY(hb_grow(&table, capacity, (size_t)t->vocabulary, (size_t)id + 1, sizeof *t->token_of_id));
    t->token_of_id = table;
    while (t->vocabulary <= id)
        t->token_of_id[t->vocabulary++] = -1;
    if (t->token_of_id[id] != -1)
        return HB_FAIL(HB_EFORMAT, "id %" PRId64 " is given to two tokens", id);
    t->token_of_id[id] = token;
    t->token_count++;
    return HB_OK;
}

/* Added tokens first: the vocabulary may hold them, too, in a spelling that only they are allowed. */
static hb_status read_added_token(struct hb_tokenizer *t, const json_t *item, const char *where,
                                  size_t *capacity)
{
    const json_t *content = json_object_get(item, "content");
    if (!json_is_string(content))
        return HB_FAIL(HB_EFORMAT, "%s: key 'content' must be a string", where);
    const char *text = json_string_value(content);
    size_t n = json_string_length(content);
    int64_t id;
    bool special, normalized;
    HB_TRY(hb_json_int(item, where, "id", &id));
    HB_TRY(hb_json_bool(item, where, "special", &special));
    HB_TRY(hb_json_bool_or(item, where, "normalized", !special, &normalized));
    HB_TRY(expect_false(item, where, "single_word"));
    HB_TRY(expect_false(item, where, "lstrip"));
    HB_TRY(expect_false(item, where, "rstrip"));
    if (n > CONTENT_LIMIT)
        return HB_FAIL(HB_EUNSUPPORTED, "%s: more than %d bytes", where, CONTENT_LIMIT);
    HB_TRY(claim_id(t, id, -2 - (int32_t)t->contents.map.count, capacity));
    HB_TRY(hb_added_tokens_add(&t->contents, text, n, (int32_t)id, special));
    if (!normalized)
        return hb_added_tokens_add(&t->raw, text, n, (int32_t)id, special);
    struct hb_bytes normal = {0};
    bool changed = false;
    hb_status status = t->nfc ? hb_nfc((const unsigned char *)text, n, &normal, &changed) : HB_OK;
    if (status == HB_OK)
        status = hb_added_tokens_add(&t->normalized, changed ? normal.data : (const unsigned char *)text,
                                     changed ? normal.count : n, (int32_t)id, special);
    hb_bytes_release(&normal);
    return status;
}

static hb_status read_added_tokens(struct hb_tokenizer *t, const json_t *root, size_t *capacity)
{
    const json_t *list = json_object_get(root, "added_tokens");
    if (absent(list))
        return HB_OK;
    if (!json_is_array(list))
        return HB_FAIL(HB_EFORMAT, "added_tokens: must be an array");
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[40];
        snprintf(where, sizeof where, "added_tokens[%zu]", i);
        hb_status status = read_added_token(t, json_array_get(list, i), where, capacity);
        if (status != HB_OK)
            return hb_fail_in(status, "%s", where);
    }
    return HB_OK;
}

/* One word of the vocabulary. `scratch` is cleared and used. */
static hb_status read_word(struct hb_tokenizer *t, const char *key, const json_t *value, size_t *capacity,
                           struct hb_bytes *scratch)
{
    if (!json_is_integer(value))
        return HB_FAIL(HB_EFORMAT, "must have an integer id");
    int64_t id = json_integer_value(value);
    size_t length = strlen(key);
    int64_t added = hb_byte_map_find(&t->contents.map, key, length);
    scratch->count = 0;
    if (added >= 0) {
        if ((int64_t)(t->contents.map.entries[added].value >> 1) != id)
            return HB_FAIL(HB_EFORMAT, "has another id as an added token");
        /* It may still take part in merges, if it spells bytes at all. */
        hb_status status = hb_byte_level_decode(key, length, scratch);
        if (status != HB_OK)
            return status == HB_EFORMAT ? HB_OK : status;
    } else {
        HB_TRY(hb_byte_level_decode(key, length, scratch));
        HB_TRY(claim_id(t, id, (int32_t)t->model.count, capacity));
    }
    uint32_t entry;
    bool fresh;
    HB_TRY(hb_byte_map_add(&t->model, scratch->data, scratch->count, (uint32_t)id, &entry, &fresh));
    return HB_OK; /* always fresh: keys are unique and their spelling is one to one */
}

static hb_status read_vocabulary(struct hb_tokenizer *t, const json_t *model, size_t *capacity)
{
    json_t *vocabulary;
    HB_TRY(hb_json_object(model, "model", "vocab", &vocabulary));
    struct hb_bytes scratch = {0};
    const char *key;
    json_t *value;
    hb_status status = HB_OK;
    json_object_foreach(vocabulary, key, value)
    {
        status = read_word(t, key, value, capacity, &scratch);
        if (status != HB_OK) {
            hb_fail_in(status, "model.vocab: '" NAME "'", key);
            break;
        }
    }
    hb_bytes_release(&scratch);
    return status;
}

/* The two sides of "a b" or ["a", "b"]. */
static bool merge_sides(const json_t *item, const char *sides[2], size_t lengths[2])
{
    if (json_is_string(item)) {
        const char *text = json_string_value(item);
        const char *space = strchr(text, ' ');
        if (!space || strchr(space + 1, ' ') || strlen(text) != json_string_length(item))
            return false;
        sides[0] = text;
        sides[1] = space + 1;
        lengths[0] = (size_t)(space - text);
        lengths[1] = strlen(space + 1);
        return true;
    }
    if (json_array_size(item) != 2) /* 0 for what is no array */
        return false;
    for (size_t i = 0; i < 2; i++) {
        const json_t *side = json_array_get(item, i);
        sides[i] = json_string_value(side);
        if (!sides[i] || strlen(sides[i]) != json_string_length(side))
            return false;
        lengths[i] = json_string_length(side);
    }
    return true;
}

/* Id of a spelling in the model's vocabulary; its bytes are appended to `joined`. */
static hb_status side_id(const struct hb_tokenizer *t, const char *side, size_t length,
                         struct hb_bytes *joined, uint32_t *id)
{
    size_t begin = joined->count;
    HB_TRY(hb_byte_level_decode(side, length, joined));
    int64_t entry = hb_byte_map_find(&t->model, joined->data + begin, joined->count - begin);
    if (entry < 0)
        return HB_FAIL(HB_EFORMAT, "'%.*s' is not in the vocabulary", length < 60 ? (int)length : 60, side);
    *id = t->model.entries[entry].value;
    return HB_OK;
}

static hb_status read_merge(const struct hb_tokenizer *t, const json_t *item, struct hb_bytes *joined,
                            struct hb_bpe_merge *merge)
{
    const char *sides[2];
    size_t lengths[2];
    if (!merge_sides(item, sides, lengths))
        return HB_FAIL(HB_EFORMAT, "must be \"left right\" or [\"left\", \"right\"]");
    joined->count = 0;
    HB_TRY(side_id(t, sides[0], lengths[0], joined, &merge->left));
    HB_TRY(side_id(t, sides[1], lengths[1], joined, &merge->right));
    int64_t entry = hb_byte_map_find(&t->model, joined->data, joined->count);
    if (entry < 0)
        return HB_FAIL(HB_EFORMAT, "the merged token is not in the vocabulary");
    merge->result = t->model.entries[entry].value;
    return HB_OK;
}

static hb_status read_merges(struct hb_tokenizer *t, const json_t *model)
{
    json_t *list;
    HB_TRY(hb_json_array(model, "model", "merges", &list));
    uint32_t byte_id[256];
    for (int b = 0; b < 256; b++) {
        unsigned char byte = (unsigned char)b;
        int64_t entry = hb_byte_map_find(&t->model, &byte, 1);
        if (entry < 0)
            return HB_FAIL(HB_EUNSUPPORTED,
                           "model.vocab: byte %02x is missing; only byte-level BPE is supported", b);
        byte_id[b] = t->model.entries[entry].value;
    }
    size_t count = json_array_size(list);
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_DATA, count * sizeof(struct hb_bpe_merge), &memory));
    struct hb_bpe_merge *merges = memory;
    struct hb_bytes joined = {0};
    hb_status status = HB_OK;
    for (size_t i = 0; i < count; i++) {
        status = read_merge(t, json_array_get(list, i), &joined, &merges[i]);
        if (status != HB_OK) {
            hb_fail_in(status, "model.merges[%zu]", i);
            goto cleanup;
        }
    }
    HB_TRY_CLEAN(hb_bpe_init(&t->bpe, byte_id, merges, count));
cleanup:
    hb_bytes_release(&joined);
    hb_memory_free(merges);
    return status;
}

static hb_status read_model(struct hb_tokenizer *t, const json_t *root, size_t *capacity)
{
    json_t *model;
    HB_TRY(hb_json_object(root, "tokenizer", "model", &model));
    HB_TRY(expect_type(model, "model", "BPE"));
    const json_t *dropout = json_object_get(model, "dropout");
    if (!absent(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return refuse("model", "'dropout'");
    /* An unknown token may be named: with all 256 bytes there, it never comes up. */
    HB_TRY(expect_unused(model, "model", "continuing_subword_prefix"));
    HB_TRY(expect_unused(model, "model", "end_of_word_suffix"));
    HB_TRY(expect_false(model, "model", "byte_fallback"));
    HB_TRY(hb_json_bool_or(model, "model", "ignore_merges", false, &t->ignore_merges));
    HB_TRY(read_vocabulary(t, model, capacity));
    return read_merges(t, model);
}

static hb_status read_root(struct hb_tokenizer *t, const json_t *root)
{
    size_t capacity = 0; /* of token_of_id */
    HB_TRY(read_normalizer(t, root));
    HB_TRY(read_pre_tokenizer(t, root));
    HB_TRY(read_ends(root));
    HB_TRY(read_added_tokens(t, root, &capacity));
    HB_TRY(read_model(t, root, &capacity));
    t->end_of_text = hb_tokenizer_find(t, HB_END_OF_TEXT, strlen(HB_END_OF_TEXT));
    return HB_OK;
}

hb_status hb_tokenizer_read(struct hb_tokenizer *t)
{
    char *text;
    size_t size;
    HB_TRY(hb_file_read(t->path, &text, &size));
    XXH128_hash_t hash = XXH3_128bits(text, size);
    snprintf(t->hash, sizeof t->hash, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
    json_t *root;
    hb_status status = hb_json_parse(t->path, 1, text, size, HB_JSON_ALLOW_NUL, &root);
    free(text);
    HB_TRY(status);
    status = read_root(t, root);
    json_decref(root);
    return status == HB_OK ? HB_OK : hb_fail_in(status, "%s", t->path);
}
