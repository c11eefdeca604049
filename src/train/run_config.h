/* The run configuration: what a YAML file says, checked, with every default
 * filled in. docs/configuration.md lists the keys. */
#ifndef HB_TRAIN_RUN_CONFIG_H
#define HB_TRAIN_RUN_CONFIG_H

#include "comm/comm.h"
#include "core/yaml.h"
#include "model/model.h"
#include "train/faults.h"
#include "train/optimizer.h"
#include "train/run_rules.h"

enum { HB_RUN_SHARDS_MAX = 64 };

struct hb_run_config {
    /* As bound from the file; strings belong to the document. */
    const char *run_folder;
    int64_t seed;
    int numerics; /* enum hb_numerics */
    int64_t numerics_version;
    const char *backend;
    int64_t threads;
    const char *init_from; /* NULL: fresh weights */

    const struct hb_yaml_node *train_node; /* string or list */
    const char *held_out;                  /* NULL: no evaluation */
    const char *tokenizer;
    int64_t sequence_length; /* T */
    bool cross_documents, shuffle;

    int64_t steps, microbatch, accumulate;
    double learning_rate, warmup, final_rate;
    double beta1, beta2, adam_eps, weight_decay, clip;
    int decay; /* enum hb_decay */

    int64_t digest_every, evaluate_every, evaluate_samples, checkpoint_every, keep_checkpoints;
    bool tensorboard;

    int64_t dp, ep, pp, zero; /* parallel/mesh.h, parallel/shard.h */
    const char *schedule;     /* parallel/schedule.h */
    const char *costs;        /* NULL, or a file (parallel/block_costs.h) */
    double timeout;           /* seconds to wait for another rank; 0: for ever */
    int transport;            /* enum hb_transport_choice (parallel/wire.h) */

    const struct hb_yaml_node *recompute_node, *loss_scale_node, *spikes_node, *faults_node;
    struct hb_recompute recompute;
    struct hb_scaler_rule loss_scale;
    int64_t stop_after_skips; /* 0: never */
    struct hb_spike_rule spikes;
    struct hb_fault faults[HB_FAULTS_MAX];
    int64_t fault_count;

    struct hb_model_config model;
    int model_balance; /* enum hb_balance_kind, as bound */
    int model_combine; /* enum hb_attention_combine, as bound */
    int64_t max_window_layers;
    const struct hb_yaml_node *dense_layers_node;
    const struct hb_yaml_node *precision_node; /* a name or a map */
    struct hb_precision precision;             /* what it says */

    const char *train[HB_RUN_SHARDS_MAX];
    int64_t train_count;
    struct hb_yaml *doc; /* owned */
    struct hb_comm *world; /* not from the file: the ranks of the job; NULL: one */
};

/* Reads the file, merges `overrides` ("a.b=c"), checks everything that needs no
 * other file. The vocabulary may be left to the tokenizer (model.vocab_size 0). */
HB_MUST_USE hb_status hb_run_config_load(const char *path, const char *const *overrides, int override_count,
                                         struct hb_run_config *config);
void hb_run_config_release(struct hb_run_config *config);

/* Checks the model's shape, once vocab_size is known; messages say file and line. */
HB_MUST_USE hb_status hb_run_config_check_model(struct hb_run_config *config);

/* The resolved configuration as YAML; the caller free()s it. */
HB_MUST_USE hb_status hb_run_config_text(const struct hb_run_config *config, char **text);

/* For a resumed run: the configuration that RUN/config.yaml holds must be the
 * same in every key that changes the bits; the first that differs is named. */
HB_MUST_USE hb_status hb_run_config_same(const struct hb_run_config *config);

/* "training.steps": may it change while the run goes on, because no bit depends on it? */
bool hb_run_config_is_free(const char *key);

/* Optimizer settings out of it. */
struct hb_optimizer_config hb_run_config_optimizer(const struct hb_run_config *config);

#endif
