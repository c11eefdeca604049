#include "data/manifest.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "data/path.h"

static const char *const side_keys[HB_SIDE_COUNT] = {"train", "heldout"};
static const char *const method_names[] = {
    [HB_SPLIT_NONE] = "none", [HB_SPLIT_HASH] = "hash", [HB_SPLIT_CUT] = "cut"};

static json_t *counts_json(const struct hb_build_counts *c)
{
    return json_pack("{s:I, s:I, s:I}", "documents", (json_int_t)c->documents, "bytes", (json_int_t)c->bytes,
                     "tokens", (json_int_t)c->tokens);
}

static json_t *shard_json(const struct hb_build_counts *c, const struct hb_shard_summary *s)
{
    return json_pack("{s:I, s:I, s:I, s:s, s:I, s:s, s:I, s:s}", "documents", (json_int_t)c->documents,
                     "bytes", (json_int_t)c->bytes, "tokens", (json_int_t)c->tokens, "dtype", s->dtype,
                     "bin_bytes", (json_int_t)s->bin.bytes, "bin_xxh3_128", s->bin.hash, "idx_bytes",
                     (json_int_t)s->idx.bytes, "idx_xxh3_128", s->idx.hash);
}

/* Bytes of a path need not be UTF-8, but JSON must be. */
static json_t *path_json(const char *path)
{
    json_t *text = json_string(path);
    return text ? text : json_string("(a name that is not UTF-8)");
}

static json_t *inputs_json(const struct hb_build_options *options, const struct hb_build_report *report)
{
    json_t *inputs = json_array();
    for (size_t i = 0; i < options->source.input_count; i++) {
        json_t *input =
            json_pack("{s:o, s:o, s:o}", "path", path_json(options->source.inputs[i]), side_keys[0],
                      counts_json(&report->inputs[i][0]), side_keys[1], counts_json(&report->inputs[i][1]));
        if (json_array_append_new(inputs, input) != 0) {
            json_decref(inputs);
            return NULL;
        }
    }
    return inputs;
}

hb_status hb_manifest_write(const struct hb_build_options *options, const struct hb_encoder *encoder,
                            const struct hb_build_report *report)
{
    json_t *shards = json_object();
    for (int side = 0; side < HB_SIDE_COUNT; side++)
        if (report->total[side].documents > 0)
            hb_json_put(&shards, side_keys[side], shard_json(&report->total[side], &report->shards[side]));
    json_t *root =
        json_pack("{s:s, s:i, s:{s:o, s:s, s:i, s:i}, s:{s:s, s:f}, s:o, s:o, s:{s:I, s:I}}", "format",
                  "hornbook-data", "version", 1, "tokenizer", "path", path_json(encoder->path), "xxh3_128",
                  encoder->hash, "vocabulary", (int)encoder->vocabulary, "end_of_text",
                  (int)encoder->end_of_text, "held_out", "method", method_names[report->method], "fraction",
                  options->held_out, "shards", shards, "inputs", inputs_json(options, report), "left_out",
                  "empty", (json_int_t)report->source.empty, "invalid", (json_int_t)report->source.invalid);
    char *path = hb_path_append(options->prefix, ".json");
    char *text = NULL;
    hb_status status;
    if (!root || !path)
        status = HB_FAIL(HB_EMEMORY, "out of memory: cannot write %s.json", options->prefix);
    else
        status = hb_json_text(root, &text);
    if (status == HB_OK)
        status = hb_file_write(path, text, strlen(text));
    free(text);
    free(path);
    json_decref(root);
    return status;
}

static hb_status read_counts(const json_t *shards, const char *where, const char *key, int64_t *tokens)
{
    json_t *shard;
    HB_TRY(hb_json_object(shards, where, key, &shard));
    return hb_json_int(shard, where, "tokens", tokens);
}

static hb_status read_fields(const json_t *root, const char *where, struct hb_manifest *m)
{
    const char *text;
    json_t *part;
    int64_t number;
    HB_TRY(hb_json_string(root, where, "format", &text));
    if (strcmp(text, "hornbook-data") != 0)
        return HB_FAIL(HB_EFORMAT, "%s: the format is '%s', not 'hornbook-data'", where, text);
    HB_TRY(hb_json_int(root, where, "version", &number));
    if (number != 1)
        return HB_FAIL(HB_EFORMAT, "%s: version %lld; only 1 is known", where, (long long)number);

    HB_TRY(hb_json_object(root, where, "tokenizer", &part));
    HB_TRY(hb_json_string(part, where, "xxh3_128", &text));
    if (strlen(text) != 32)
        return HB_FAIL(HB_EFORMAT, "%s: key 'xxh3_128' must be 32 hexadecimal digits", where);
    memcpy(m->tokenizer_hash, text, 33);
    HB_TRY(hb_json_int(part, where, "vocabulary", &number));
    if (number < 1 || number > INT32_MAX)
        return HB_FAIL(HB_EFORMAT, "%s: an impossible vocabulary of %lld", where, (long long)number);
    m->vocabulary = (int32_t)number;
    HB_TRY(hb_json_int(part, where, "end_of_text", &number));
    if (number < 0 || number >= m->vocabulary)
        return HB_FAIL(HB_EFORMAT, "%s: end_of_text %lld is outside the vocabulary", where,
                       (long long)number);
    m->end_of_text = (int32_t)number;

    HB_TRY(hb_json_object(root, where, "shards", &part));
    HB_TRY(read_counts(part, where, side_keys[HB_SIDE_TRAIN], &m->train_tokens));
    m->held_out = json_object_get(part, side_keys[HB_SIDE_HELD_OUT]) != NULL;
    if (m->held_out)
        HB_TRY(read_counts(part, where, side_keys[HB_SIDE_HELD_OUT], &m->held_out_tokens));
    return HB_OK;
}

hb_status hb_manifest_read(const char *prefix, struct hb_manifest *manifest)
{
    *manifest = (struct hb_manifest){0};
    char *path = hb_path_append(prefix, ".json");
    if (!path)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot read %s.json", prefix);
    json_t *root = NULL;
    hb_status status = hb_json_load(path, 0, &root);
    if (status == HB_OK)
        status = read_fields(root, path, manifest);
    json_decref(root);
    free(path);
    return status;
}
