#include "train/run_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const numerics_names[] = {"canonical", "fast", NULL};
static const char *const decay_names[] = {"matrices", "all", NULL};
static const char *const combine_names[] = {"joint", "sum", "gated", NULL};
static const char *const balance_names[] = {"none", "hf", "layer", "bias", NULL};
static const char *const transport_names[] = {"auto", "host", "nccl", NULL};

#define AT(member) offsetof(struct hb_run_config, member)
#define MODEL(member) offsetof(struct hb_run_config, model.member)
#define INTEGER(path, where, fallback, lo, hi) \
    { \
        path, HB_YAML_INT, where, fallback, NULL, lo, hi, false, false \
    }
#define NUMBER(path, where, fallback, lo, hi) \
    { \
        path, HB_YAML_FLOAT, where, fallback, NULL, lo, hi, false, false \
    }
#define TEXT(path, where, fallback) {path, HB_YAML_STRING, where, fallback, NULL, 0, 0, false, false}
#define FLAG(path, where, fallback) {path, HB_YAML_BOOL, where, fallback, NULL, 0, 0, false, false}
#define CHOICE(path, where, fallback, names) {path, HB_YAML_ENUM, where, fallback, names, 0, 0, false, false}
#define NODE(path, where, fallback) {path, HB_YAML_NODE, where, fallback, NULL, 0, 0, false, false}

/* One table for reading, defaults and writing. */
static const struct hb_yaml_field fields[] = {
    TEXT("run_folder", AT(run_folder), NULL),
    INTEGER("seed", AT(seed), "1", 0, INFINITY),
    CHOICE("numerics", AT(numerics), "canonical", numerics_names),
    INTEGER("numerics_version", AT(numerics_version), "1", HB_NUMERICS_VERSION, HB_NUMERICS_VERSION + 0.5),
    NODE("precision", AT(precision_node), "fp32"),
    TEXT("backend", AT(backend), "cpu"),
    INTEGER("threads", AT(threads), "0", 0, 4096),
    TEXT("init_from", AT(init_from), "null"),

    NODE("data.train", AT(train_node), NULL),
    TEXT("data.held_out", AT(held_out), "null"),
    TEXT("data.tokenizer", AT(tokenizer), NULL),
    INTEGER("data.sequence_length", AT(sequence_length), "256", 1, 1 << 20),
    FLAG("data.cross_documents", AT(cross_documents), "false"),
    FLAG("data.shuffle", AT(shuffle), "true"),

    INTEGER("training.steps", AT(steps), NULL, 1, 1e12),
    INTEGER("training.microbatch", AT(microbatch), "4", 1, 1 << 20),
    INTEGER("training.accumulate", AT(accumulate), "1", 1, 1 << 16),
    NUMBER("training.learning_rate", AT(learning_rate), "3e-4", 0, INFINITY),
    NUMBER("training.warmup", AT(warmup), "0.05", 0, 1),
    NUMBER("training.final_rate", AT(final_rate), "0.1", 0, 1),
    NUMBER("training.beta1", AT(beta1), "0.9", 0, 0.999999),
    NUMBER("training.beta2", AT(beta2), "0.95", 0, 0.999999),
    NUMBER("training.adam_eps", AT(adam_eps), "1e-8", 0, 1),
    NUMBER("training.weight_decay", AT(weight_decay), "0.1", 0, 1e6),
    CHOICE("training.decay", AT(decay), "matrices", decay_names),
    NUMBER("training.clip", AT(clip), "1.0", 0, INFINITY),
    INTEGER("training.digest_every", AT(digest_every), "1", 0, 1e12),
    INTEGER("training.evaluate_every", AT(evaluate_every), "100", 0, 1e12),
    INTEGER("training.evaluate_samples", AT(evaluate_samples), "64", 1, 1e9),
    INTEGER("training.checkpoint_every", AT(checkpoint_every), "500", 0, 1e12),
    INTEGER("training.keep_checkpoints", AT(keep_checkpoints), "2", 1, 1e6),
    FLAG("training.tensorboard", AT(tensorboard), "true"),
    NODE("training.recompute", AT(recompute_node), "none"),
    NODE("training.loss_scale", AT(loss_scale_node), "none"),
    INTEGER("training.stop_after_skips", AT(stop_after_skips), "50", 0, 1e9),
    NODE("training.spikes", AT(spikes_node), "null"),
    NODE("faults", AT(faults_node), "null"),

    INTEGER("parallel.dp", AT(dp), "1", 1, 1 << 20),
    INTEGER("parallel.ep", AT(ep), "1", 1, 1 << 20),
    INTEGER("parallel.pp", AT(pp), "1", 1, 1 << 20),
    INTEGER("parallel.zero", AT(zero), "0", 0, 3),
    TEXT("parallel.schedule", AT(schedule), "1f1b"),
    TEXT("parallel.costs", AT(costs), "null"),
    NUMBER("parallel.timeout", AT(timeout), "1800", 0, INFINITY),
    CHOICE("parallel.transport", AT(transport), "auto", transport_names),

    INTEGER("model.vocab_size", MODEL(vocab_size), "0", 0, 1 << 28),
    INTEGER("model.hidden_size", MODEL(hidden_size), "0", 0, 1 << 24),
    INTEGER("model.num_hidden_layers", MODEL(num_hidden_layers), "0", 0, HB_LAYERS_MAX),
    INTEGER("model.num_attention_heads", MODEL(num_attention_heads), "0", 0, 65536),
    INTEGER("model.num_key_value_heads", MODEL(num_key_value_heads), "0", 0, 65536),
    INTEGER("model.head_dim", MODEL(head_dim), "0", 0, 65536),
    INTEGER("model.intermediate_size", MODEL(intermediate_size), "0", 0, 1 << 24),
    INTEGER("model.max_position_embeddings", MODEL(max_position_embeddings), "32768", 1, 1 << 24),
    NUMBER("model.rms_norm_eps", MODEL(rms_norm_eps), "1e-6", 0, 1),
    NUMBER("model.rope_theta", MODEL(rope_theta), "10000", 1, 1e12),
    NUMBER("model.initializer_range", MODEL(initializer_range), "0.02", 0, 1e3),
    FLAG("model.tie_word_embeddings", MODEL(tie_word_embeddings), "false"),
    INTEGER("model.sliding_window", MODEL(sliding_window), "0", 0, 1 << 24),
    INTEGER("model.max_window_layers", AT(max_window_layers), "0", 0, HB_LAYERS_MAX),
    INTEGER("model.attention_sinks", MODEL(attention_sinks), "0", 0, 1 << 24),
    INTEGER("model.memory_slots", MODEL(memory_slots), "0", 0, 1 << 16),
    CHOICE("model.memory_combine", AT(model_combine), "joint", combine_names),
    INTEGER("model.num_experts", MODEL(num_experts), "0", 0, 65536),
    INTEGER("model.num_experts_per_tok", MODEL(num_experts_per_tok), "0", 0, 65536),
    INTEGER("model.moe_intermediate_size", MODEL(moe_intermediate_size), "0", 0, 1 << 24),
    FLAG("model.norm_topk_prob", MODEL(norm_topk_prob), "true"),
    INTEGER("model.decoder_sparse_step", MODEL(decoder_sparse_step), "1", 1, HB_LAYERS_MAX),
    NODE("model.mlp_only_layers", AT(dense_layers_node), "null"),
    CHOICE("model.balance", AT(model_balance), "hf", balance_names),
    NUMBER("model.router_aux_loss_coef", MODEL(router_aux_loss_coef), "0.001", 0, 1e6),
    NUMBER("model.router_z_loss_coef", MODEL(router_z_loss_coef), "0", 0, 1e6),
    NUMBER("model.balance_bias_rate", MODEL(balance_bias_rate), "0.001", 0, 1e6),
    FLAG("model.router_bias", MODEL(router_bias), "false"),
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static hb_status read_shards(struct hb_run_config *c)
{
    const struct hb_yaml_node *node = c->train_node;
    if (!node)
        return HB_FAIL(HB_EFORMAT, "%s: data.train: must be a shard prefix or a list of them",
                       hb_yaml_place(c->doc, "data"));
    if (node->kind == HB_YAML_SCALAR) {
        c->train_count = 1;
        return hb_yaml_string(node, &c->train[0]);
    }
    if (node->kind != HB_YAML_SEQUENCE || node->count < 1 || node->count > HB_RUN_SHARDS_MAX)
        return hb_yaml_fail(node, "must be a shard prefix or a list of 1 to %d of them", HB_RUN_SHARDS_MAX);
    for (size_t i = 0; i < node->count; i++)
        HB_TRY(hb_yaml_string(node->items[i], &c->train[i]));
    c->train_count = (int64_t)node->count;
    return HB_OK;
}

static hb_status read_dense_layers(struct hb_run_config *c)
{
    const struct hb_yaml_node *node = c->dense_layers_node;
    if (!node)
        return HB_OK;
    if (node->kind != HB_YAML_SEQUENCE)
        return hb_yaml_fail(node, "must be a list of layer numbers, as in [0, 3]");
    for (size_t i = 0; i < node->count; i++) {
        int64_t layer;
        HB_TRY(hb_yaml_int(node->items[i], &layer));
        if (layer < 0 || layer >= c->model.num_hidden_layers)
            return hb_yaml_fail(node->items[i], "must be a layer from 0 to %lld, got %lld",
                                (long long)c->model.num_hidden_layers - 1, (long long)layer);
        c->model.dense_layer[layer] = true;
    }
    return HB_OK;
}

/* A preset's name, or a map: what it does not say is as in its `preset`, fp32 without one. */
static hb_status read_precision(struct hb_run_config *c)
{
    const struct hb_yaml_node *node = c->precision_node;
    const char *text = "fp32";
    hb_status status;
    if (node && node->kind == HB_YAML_SCALAR)
        HB_TRY(hb_yaml_string(node, &text));
    else if (node && node->kind != HB_YAML_MAP)
        return hb_yaml_fail(node, "must be fp32, bf16, fp16, mixed or a map");
    if (node && node->kind == HB_YAML_MAP)
        for (size_t i = 0; i < node->count; i++)
            if (strcmp(node->items[i]->key, "preset") == 0)
                HB_TRY(hb_yaml_string(node->items[i], &text));
    status = hb_precision_preset(text, &c->precision);
    if (status != HB_OK)
        return hb_yaml_fail(node, "%s", hb_error());
    for (size_t i = 0; node && node->kind == HB_YAML_MAP && i < node->count; i++) {
        if (strcmp(node->items[i]->key, "preset") == 0)
            continue;
        HB_TRY(hb_yaml_string(node->items[i], &text));
        status = hb_precision_set(&c->precision, node->items[i]->key, text);
        if (status != HB_OK)
            return hb_yaml_fail(node->items[i], "%s", hb_error());
    }
    return hb_precision_check(&c->precision) == HB_OK ? HB_OK : hb_yaml_fail(node, "%s", hb_error());
}

/* A window longer than the text is full attention, and sinks may be more than the window: both mean what they
 * say. A number of full layers that leaves nothing to slide does not. */
static hb_status read_window(struct hb_run_config *c)
{
    const struct hb_yaml_node *node = hb_yaml_get(c->doc, "model.max_window_layers");
    hb_model_config_slide_from(&c->model, c->max_window_layers);
    if (c->max_window_layers && !c->model.sliding_window)
        return hb_yaml_fail(node, "needs model.sliding_window; without one all layers are full");
    if (c->max_window_layers && c->max_window_layers >= c->model.num_hidden_layers)
        return hb_yaml_fail(node,
                            "must be below model.num_hidden_layers (%lld), or no layer slides; leave out "
                            "model.sliding_window for that",
                            (long long)c->model.num_hidden_layers);
    return HB_OK;
}

static hb_status load(struct hb_run_config *c, const char *const *overrides, int override_count)
{
    for (int i = 0; i < override_count; i++)
        HB_TRY(hb_yaml_set(c->doc, overrides[i]));
    hb_model_config_defaults(&c->model);
    HB_TRY(hb_yaml_bind(c->doc, fields, FIELDS, c));
    c->model.balance = (enum hb_balance_kind)c->model_balance;
    c->model.memory_combine = (enum hb_attention_combine)c->model_combine;
    HB_TRY(read_window(c));
    HB_TRY(read_shards(c));
    HB_TRY(read_precision(c));
    c->model.precision = c->precision;
    HB_TRY(read_dense_layers(c));
    HB_TRY(hb_recompute_read(c->recompute_node, &c->recompute));
    HB_TRY(hb_loss_scale_read(c->loss_scale_node, &c->loss_scale));
    HB_TRY(hb_spikes_read(c->spikes_node, &c->spikes));
    HB_TRY(hb_faults_read(c->faults_node, c->steps, c->faults, &c->fault_count));
    /* Convenient defaults where the shape leaves one answer. */
    if (c->model.num_key_value_heads == 0)
        c->model.num_key_value_heads = c->model.num_attention_heads;
    if (c->model.head_dim == 0 && c->model.num_attention_heads > 0)
        c->model.head_dim = c->model.hidden_size / c->model.num_attention_heads;
    if (c->init_from && hb_yaml_get(c->doc, "model"))
        return hb_yaml_fail(hb_yaml_get(c->doc, "model"),
                            "init_from takes the model's shape from %s; remove this section", c->init_from);
    return HB_OK;
}

hb_status hb_run_config_load(const char *path, const char *const *overrides, int override_count,
                             struct hb_run_config *config)
{
    memset(config, 0, sizeof *config);
    HB_TRY(hb_yaml_load(path, &config->doc));
    hb_status status = load(config, overrides, override_count);
    if (status != HB_OK)
        hb_run_config_release(config);
    return status;
}

void hb_run_config_release(struct hb_run_config *config)
{
    hb_yaml_destroy(config->doc);
    memset(config, 0, sizeof *config);
}

hb_status hb_run_config_check_model(struct hb_run_config *config)
{
    const char *bad_key;
    hb_status status = hb_model_config_check(&config->model, &bad_key);
    if (status == HB_OK || !bad_key)
        return status;
    char path[96];
    snprintf(path, sizeof path, "model.%s", bad_key);
    return hb_fail_in(status, "%s: model", hb_yaml_place(config->doc, path));
}

/* With init_from the model's shape belongs to that folder, not to this file. */
hb_status hb_run_config_text(const struct hb_run_config *config, char **text)
{
    size_t count = 0;
    while (count < FIELDS && !(config->init_from && strncmp(fields[count].path, "model.", 6) == 0))
        count++;
    return hb_yaml_emit(fields, count, config, text);
}

/* Keys under which a run may be continued differently: they change where and
 * how it is computed and reported, never the bits. */
static const char *const free_keys[] = {
    "run_folder",
    "backend",
    "threads",
    "parallel.dp",
    "parallel.ep",
    "parallel.pp",
    "parallel.zero",
    "parallel.schedule",
    "parallel.costs",
    "parallel.timeout",
    "parallel.transport",
    "data.held_out",
    "training.digest_every",
    "training.evaluate_every",
    "training.evaluate_samples",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.tensorboard",
    "training.recompute",
    "training.stop_after_skips",
};

bool hb_run_config_is_free(const char *key)
{
    for (size_t i = 0; i < sizeof free_keys / sizeof free_keys[0]; i++)
        if (strcmp(key, free_keys[i]) == 0)
            return true;
    return false;
}

static void copy_free_keys(struct hb_run_config *to, const struct hb_run_config *from)
{
    static const size_t sizes[] = {
        [HB_YAML_INT] = sizeof(int64_t), [HB_YAML_FLOAT] = sizeof(double), [HB_YAML_BOOL] = sizeof(bool),
        [HB_YAML_STRING] = sizeof(char *), [HB_YAML_ENUM] = sizeof(int), [HB_YAML_NODE] = sizeof(void *),
    };
    for (size_t i = 0; i < FIELDS; i++)
        if (hb_run_config_is_free(fields[i].path))
            memcpy((char *)to + fields[i].offset, (const char *)from + fields[i].offset,
                   sizes[fields[i].type]);
}

/* The first line in which two texts differ, cut to the line, of each. */
static void first_difference(const char *a, const char *b, char line_a[160], char line_b[160])
{
    const char *start_a = a, *start_b = b;
    for (; *a && *a == *b; a++, b++)
        if (*a == '\n') {
            start_a = a + 1;
            start_b = b + 1;
        }
    snprintf(line_a, 160, "%.*s", (int)strcspn(start_a, "\n"), start_a + strspn(start_a, " "));
    snprintf(line_b, 160, "%.*s", (int)strcspn(start_b, "\n"), start_b + strspn(start_b, " "));
    line_a[strcspn(line_a, "\n")] = line_b[strcspn(line_b, "\n")] = '\0';
}

hb_status hb_run_config_same(const struct hb_run_config *config)
{
    char path[4096], *before = NULL, *now = NULL, was[160], is[160];
    struct hb_run_config stored;
    snprintf(path, sizeof path, "%s/config.yaml", config->run_folder);
    HB_TRY(hb_run_config_load(path, NULL, 0, &stored));
    if (stored.init_from)
        stored.model = config->model; /* the folder decides, not the file */
    stored.model.eos_token_id = config->model.eos_token_id;
    copy_free_keys(&stored, config);
    hb_status status;
    HB_TRY_CLEAN(hb_run_config_text(&stored, &before));
    HB_TRY_CLEAN(hb_run_config_text(config, &now));
    if (strcmp(before, now) != 0) {
        first_difference(before, now, was, is);
        status = HB_FAIL(
            HB_EARGUMENT,
            "the run in %s was started with \"%s\", now it is \"%s\": that changes the result; start a "
            "new run for it",
            config->run_folder, was, is);
    }
cleanup:
    free(before);
    free(now);
    hb_run_config_release(&stored);
    return status;
}

struct hb_optimizer_config hb_run_config_optimizer(const struct hb_run_config *c)
{
    return (struct hb_optimizer_config){
        .schedule = {c->learning_rate, c->warmup, c->final_rate, c->steps},
        .beta1 = c->beta1,
        .beta2 = c->beta2,
        .eps = c->adam_eps,
        .weight_decay = c->weight_decay,
        .decay = (enum hb_decay)c->decay,
        .clip = c->clip,
        .seed = (uint64_t)c->seed,
    };
}
