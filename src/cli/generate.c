#include "cli/generate.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "cli/options.h"
#include "core/file.h"
#include "core/log.h"
#include "data/tokenizer.h"
#include "model/generate.h"
#include "model/weights.h"
#include "ops/clock.h"
#include "train/checkpoint.h"

static const char usage[] =
    "usage: hornbook generate FOLDER [--prompt TEXT] [option...]\n"
    "\n"
    "Continues a prompt and prints the whole text as it grows. FOLDER is a run\n"
    "folder (its newest checkpoint is taken), a checkpoint, or a model folder with\n"
    "config.json, model.safetensors and tokenizer.json. The same seed gives the same\n"
    "text.\n"
    "\n"
    "  --prompt TEXT       the beginning (default: standard input)\n"
    "  --tokens N          how many tokens to write at most (default 128); all positions of\n"
    "                      the model (max_position_embeddings) end the text, too\n"
    "  --temperature X     0: always the most probable token (default 0.8)\n"
    "  --top-k N           choose among the N most probable tokens; 0: all (default 0)\n"
    "  --top-p X           and among the fewest that hold this probability (default 0.95)\n"
    "  --seed N            (default 1)\n"
    "  --backend NAME      (default cpu)\n"
    "  --threads N         0: all processors (default 0)\n"
    "  --help              this text\n";

/* Tokens of the prompt that are worked on at a time, so that a long one needs its cache
 * and little else. No bit depends on it. */
enum { PROMPT_CHUNK = 512 };

struct request {
    const char *folder, *prompt, *backend;
    int64_t tokens, threads, seed;
    struct hb_sampling sampling;
};

static hb_status read_standard_input(struct hb_bytes *text)
{
    enum { CHUNK = 1 << 16 };
    size_t got = CHUNK;
    for (; got == CHUNK; text->count += got) {
        HB_TRY(hb_bytes_reserve(text, CHUNK));
        got = fread(text->data + text->count, 1, CHUNK, stdin);
    }
    return ferror(stdin) ? HB_FAIL(HB_EIO, "cannot read standard input: %s", strerror(errno)) : HB_OK;
}

/* A run folder stands for its newest checkpoint. */
static hb_status find_model(const char *folder, char *path, size_t size)
{
    char *config = hb_path_join(folder, "config.json");
    bool is_model = config && hb_file_exists(config);
    free(config);
    if (is_model) {
        snprintf(path, size, "%s", folder);
        return HB_OK;
    }
    HB_TRY(hb_checkpoint_find(folder, path, size));
    if (!path[0])
        return HB_FAIL(HB_EARGUMENT, "%s holds neither a model (config.json) nor a run with a checkpoint",
                       folder);
    return HB_OK;
}

static bool all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static hb_status put(const struct hb_bytes *bytes)
{
    if ((bytes->count && fwrite(bytes->data, 1, bytes->count, stdout) != bytes->count) || fflush(stdout) != 0)
        return HB_FAIL(HB_EIO, "standard output cannot be written");
    return HB_OK;
}

/* Feeds the prompt, then one token at a time, each printed as it comes. */
static hb_status write_text(const struct request *r, int64_t tokens, const struct hb_model *model,
                            const struct hb_tokenizer *tokenizer, const struct hb_ids *prompt)
{
    int64_t V = model->config.vocab_size, count = 0;
    int32_t end = hb_tokenizer_end_of_text(tokenizer), next = 0;
    struct hb_generator generator = {0};
    struct hb_decode_stream stream = {.tokenizer = tokenizer};
    struct hb_bytes text = {0};
    float *logits = malloc((size_t)V * sizeof *logits);
    int32_t *order = malloc((size_t)V * sizeof *order);
    double start = hb_clock_now();
    hb_status status = logits && order ? HB_OK
                                       : HB_FAIL(HB_EMEMORY, "out of memory for %lld logits", (long long)V);
    if (status != HB_OK)
        goto cleanup;
    int64_t chunk = (int64_t)prompt->count < PROMPT_CHUNK ? (int64_t)prompt->count : PROMPT_CHUNK;
    HB_TRY_CLEAN(hb_generator_init(&generator, model, (int64_t)prompt->count + tokens, chunk));
    HB_TRY_CLEAN(hb_generator_feed(&generator, prompt->data, (int64_t)prompt->count, logits));
    for (; count < tokens; count++) {
        if (!all_finite(logits, V)) {
            status = HB_FAIL(HB_ENONFINITE, "the model's logits are not finite; its weights are damaged");
            goto cleanup;
        }
        next = hb_sample_token(logits, V, &r->sampling, (int64_t)prompt->count + count, order);
        if (next == end || !hb_tokenizer_token(tokenizer, next, &(size_t){0}))
            break;
        text.count = 0;
        HB_TRY_CLEAN(hb_tokenizer_decode_stream(&stream, next, &text));
        HB_TRY_CLEAN(put(&text));
        if (count + 1 < tokens)
            HB_TRY_CLEAN(hb_generator_feed(&generator, &next, 1, logits));
    }
    text.count = 0;
    HB_TRY_CLEAN(hb_tokenizer_decode_stream_end(&stream, &text));
    HB_TRY_CLEAN(put(&text));
    printf("\n");
    hb_log(HB_LOG_INFO, "%" PRId64 " tokens, %.1f a second; cache of %zu bytes (%.1f %% of all positions)",
           count, (double)count / (hb_clock_now() - start), hb_cache_bytes(&generator.cache),
           100.0 * (double)hb_cache_bytes(&generator.cache) / (double)hb_cache_full_bytes(&generator.cache));
    if (count == tokens && tokens < r->tokens)
        hb_log(HB_LOG_INFO, "all %lld positions of the model are full",
               (long long)model->config.max_position_embeddings);
cleanup:
    hb_generator_release(&generator);
    hb_bytes_release(&text);
    free(logits);
    free(order);
    return status;
}

static hb_status encode_prompt(const struct request *r, const struct hb_tokenizer *tokenizer,
                               struct hb_bytes *text, struct hb_ids *ids)
{
    HB_TRY(r->prompt ? hb_bytes_append_text(text, r->prompt) : read_standard_input(text));
    HB_TRY(hb_tokenizer_encode(tokenizer, text->data, text->count, false, ids));
    if (ids->count > 0)
        return HB_OK;
    /* Nothing to continue: begin as after the end of another document. */
    int32_t end = hb_tokenizer_end_of_text(tokenizer);
    if (end < 0)
        return HB_FAIL(HB_EARGUMENT, "the prompt is empty and the tokenizer has no %s to begin with",
                       HB_END_OF_TEXT);
    return hb_ids_push(ids, end);
}

static hb_status generate(const struct request *r)
{
    char path[4096], config_path[4200];
    const struct hb_backend *backend;
    struct hb_context context = {0};
    struct hb_model_config config;
    struct hb_model *model = NULL;
    struct hb_tokenizer *tokenizer = NULL;
    struct hb_bytes text = {0};
    struct hb_ids prompt = {0};
    hb_status status;
    HB_TRY(hb_backend_find(r->backend, &backend));
    HB_TRY(find_model(r->folder, path, sizeof path));
    snprintf(config_path, sizeof config_path, "%s/config.json", path);
    HB_TRY(hb_model_config_read(config_path, &config));
    HB_TRY_CLEAN(hb_tokenizer_open(path, &tokenizer));
    if (hb_tokenizer_vocabulary(tokenizer) > config.vocab_size) {
        status = HB_FAIL(HB_EARGUMENT, "%s: the tokenizer has ids up to %d, the model a vocabulary of %lld",
                         path, hb_tokenizer_vocabulary(tokenizer) - 1, (long long)config.vocab_size);
        goto cleanup;
    }
    HB_TRY_CLEAN(encode_prompt(r, tokenizer, &text, &prompt));
    int64_t room = config.max_position_embeddings - (int64_t)prompt.count;
    if (room < 1) {
        status = HB_FAIL(HB_EARGUMENT,
                         "%zu tokens of prompt leave no room to write: max_position_embeddings is %lld",
                         prompt.count, (long long)config.max_position_embeddings);
        goto cleanup;
    }
    int64_t tokens = r->tokens < room ? r->tokens : room;
    HB_TRY_CLEAN(hb_context_open(backend, HB_CANONICAL, (int)r->threads, &context));
    HB_TRY_CLEAN(hb_model_create(&context, &config, (int64_t)prompt.count + tokens, false, &model));
    HB_TRY_CLEAN(hb_model_load(model, path));
    HB_TRY_CLEAN(put(&text));
    HB_TRY_CLEAN(write_text(r, tokens, model, tokenizer, &prompt));
cleanup:
    hb_bytes_release(&text);
    hb_model_destroy(model);
    hb_context_close(&context);
    hb_tokenizer_destroy(tokenizer);
    hb_ids_release(&prompt);
    return status;
}

int hb_cli_generate(int argc, char **argv)
{
    struct request r = {.backend = "cpu", .tokens = 128, .seed = 1,
                        .sampling = {.temperature = 0.8, .top_p = 0.95}};
    const struct hb_option options[] = {
        {"--prompt", HB_OPTION_TEXT, &r.prompt, 0, 0},
        {"--tokens", HB_OPTION_INT, &r.tokens, 1, 1 << 24},
        {"--temperature", HB_OPTION_NUMBER, &r.sampling.temperature, 0, 100},
        {"--top-k", HB_OPTION_INT, &r.sampling.top_k, 0, 1 << 28},
        {"--top-p", HB_OPTION_NUMBER, &r.sampling.top_p, 1e-6, 1},
        {"--seed", HB_OPTION_INT, &r.seed, 0, 1e18},
        {"--backend", HB_OPTION_TEXT, &r.backend, 0, 0},
        {"--threads", HB_OPTION_INT, &r.threads, 0, 4096},
    };
    int rest, code;
    if (!hb_options_read(argc, argv, options, sizeof options / sizeof options[0], usage, &rest, &code))
        return code;
    if (rest != 1)
        return hb_wrong_usage("generate", rest ? "only one folder, please" : "the folder is missing");
    r.folder = argv[1];
    r.sampling.seed = (uint64_t)r.seed;
    return hb_finish("generate", generate(&r));
}
