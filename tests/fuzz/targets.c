#include "fuzz/targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/safetensors.h"
#include "data/shard.h"
#include "data/tokenizer.h"
#include "model/config.h"
#include "train/run_config.h"

/* A broken promise of the reader, not of the file: stop here. */
static void demand(bool kept, const char *what)
{
    if (!kept) {
        fprintf(stderr, "fuzz: %s (%s)\n", what, hb_error());
        abort();
    }
}

/* "folder/name", with these bytes. */
static const char *write_file(const char *folder, const char *name, const void *data, size_t size)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    demand(file && fwrite(data, 1, size, file) == size && fclose(file) == 0, "cannot write the input");
    return path;
}

static hb_status run_safetensors(const char *folder, const uint8_t *data, size_t size)
{
    struct hb_safetensors *file;
    HB_TRY(hb_safetensors_open(write_file(folder, "x.safetensors", data, size), &file));
    for (size_t i = 0; i < hb_safetensors_count(file); i++) {
        struct hb_safetensors_tensor t, same;
        if (hb_safetensors_at(file, i, &t) != HB_OK)
            continue;
        demand(hb_safetensors_find(file, hb_safetensors_name(file, i), &same) == HB_OK && same.data == t.data,
               "a tensor that is listed is not found");
        void *copy = malloc(t.bytes + 1);
        float *floats = malloc((size_t)t.count * sizeof *floats + 1);
        demand(copy && floats, "out of memory");
        hb_safetensors_copy(&t, copy);
        if (hb_safetensors_copy_f32(&t, floats) != HB_OK)
            demand(t.dtype != HB_F32, "fp32 is not copied");
        free(copy);
        free(floats);
    }
    hb_safetensors_metadata(file, "format");
    hb_safetensors_close(file);
    return HB_OK;
}

static hb_status run_model_config(const char *folder, const uint8_t *data, size_t size)
{
    static struct hb_model_config config, again;
    char *text, *second;
    HB_TRY(hb_model_config_read(write_file(folder, "config.json", data, size), &config));
    demand(hb_model_config_text(&config, &text) == HB_OK, "a configuration that was read has no text");
    demand(hb_model_config_read(write_file(folder, "config.json", text, strlen(text)), &again) == HB_OK,
           "our own text is refused");
    demand(hb_model_config_text(&again, &second) == HB_OK && strcmp(text, second) == 0,
           "the configuration changed by being written and read");
    free(text);
    free(second);
    return HB_OK;
}

static hb_status run_tokenizer(const char *folder, const uint8_t *data, size_t size)
{
    static const char text[] = "It's 12 o\xcc\x88 ab<|endoftext|> \n\t\xe4\xb8\xad\xf0\x9f\x98\x80";
    struct hb_tokenizer *t;
    struct hb_ids ids = {0};
    struct hb_bytes bytes = {0};
    HB_TRY(hb_tokenizer_open(write_file(folder, "tokenizer.json", data, size), &t));
    for (int special = 0; special < 2; special++) {
        ids.count = bytes.count = 0;
        if (hb_tokenizer_encode(t, text, sizeof text - 1, special, &ids) == HB_OK)
            demand(hb_tokenizer_decode(t, ids.data, ids.count, &bytes) == HB_OK, "own ids are refused");
    }
    for (int32_t id = 0; id < hb_tokenizer_vocabulary(t) && id < 1000; id++) {
        size_t n;
        const unsigned char *token = hb_tokenizer_token(t, id, &n);
        if (token)
            demand(hb_tokenizer_find(t, token, n) >= 0, "a token is not found");
    }
    hb_ids_release(&ids);
    hb_bytes_release(&bytes);
    hb_tokenizer_destroy(t);
    return HB_OK;
}

/* Two bytes with the size of the index, the index, the tokens. */
static hb_status run_shard(const char *folder, const uint8_t *data, size_t size)
{
    char prefix[4096];
    struct hb_shard shard;
    size_t index = size < 2 ? 0 : (size_t)(data[0] | data[1] << 8);
    if (size < 2 || index > size - 2)
        return HB_FAIL(HB_EFORMAT, "an input is the size of the index, the index and the tokens");
    write_file(folder, "x.idx", data + 2, index);
    write_file(folder, "x.bin", data + 2 + index, size - 2 - index);
    snprintf(prefix, sizeof prefix, "%s/x", folder);
    HB_TRY(hb_shard_init(prefix, &shard));
    int32_t *tokens = malloc((size_t)shard.tokens * sizeof *tokens + 1);
    demand(tokens != NULL, "out of memory");
    hb_shard_read(&shard, 0, shard.tokens, tokens);
    for (int64_t d = 0; d < shard.documents; d++)
        demand(hb_shard_begin(&shard, d) <= hb_shard_begin(&shard, d + 1), "documents go backwards");
    demand(hb_shard_begin(&shard, shard.documents) == shard.tokens, "the documents end elsewhere");
    free(tokens);
    hb_shard_release(&shard);
    return HB_OK;
}

static hb_status run_run_config(const char *folder, const uint8_t *data, size_t size)
{
    static struct hb_run_config config, again;
    char *text, *second;
    HB_TRY(hb_run_config_load(write_file(folder, "run.yaml", data, size), NULL, 0, &config));
    demand(hb_run_config_text(&config, &text) == HB_OK, "a configuration that was read has no text");
    demand(hb_run_config_load(write_file(folder, "run.yaml", text, strlen(text)), NULL, 0, &again) == HB_OK,
           "our own text is refused");
    demand(hb_run_config_text(&again, &second) == HB_OK && strcmp(text, second) == 0,
           "the configuration changed by being written and read");
    free(text);
    free(second);
    hb_run_config_release(&config);
    hb_run_config_release(&again);
    return HB_OK;
}

const struct fuzz_target fuzz_targets[] = {
    {"safetensors", run_safetensors}, {"model_config", run_model_config}, {"tokenizer", run_tokenizer},
    {"shard", run_shard},             {"run_config", run_run_config},
};
const int fuzz_target_count = sizeof fuzz_targets / sizeof fuzz_targets[0];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fuzz_target *target;
    static char folder[4096];
    if (!target) {
        const char *name = getenv("HB_FUZZ_TARGET"), *where = getenv("TMPDIR");
        for (int i = 0; i < fuzz_target_count && name; i++)
            if (strcmp(name, fuzz_targets[i].name) == 0)
                target = &fuzz_targets[i];
        demand(target != NULL, "HB_FUZZ_TARGET names no target");
        hb_log_set_level(HB_LOG_ERROR); /* keys that nobody knows are a warning each */
        snprintf(folder, sizeof folder, "%s/fuzz-XXXXXX", where ? where : "/tmp");
        demand(mkdtemp(folder) != NULL, "cannot make a folder in TMPDIR");
    }
    if (target->run(folder, data, size) != HB_OK)
        demand(hb_error()[0] != '\0', "refused without a word");
    return 0;
}
