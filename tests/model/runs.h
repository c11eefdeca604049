/* Small models of every kind, odd in every size, and data for them: what the
 * tests of whole training steps run. */
#ifndef HB_TESTS_MODEL_RUNS_H
#define HB_TESTS_MODEL_RUNS_H

#include "ops/harness.h"
#include "train/step.h"

enum { RUN_MICROBATCHES = 9, RUN_ROWS = 37 };

struct run_shape {
    const char *name;
    struct hb_model_config config;
};
extern const struct run_shape run_shapes[];
extern const int run_shape_count;

/* Microbatches with many short segments and some ignored labels. */
struct run_data {
    struct hb_batch batch[RUN_MICROBATCHES];
    int32_t *ids, *labels, *segments; /* owned */
};
/* `rows` of each microbatch; a function of `seed`. */
void run_data_make(struct run_data *data, uint64_t seed, int64_t vocabulary, int64_t rows);
void run_data_release(struct run_data *data);

struct run {
    struct hb_context context;
    struct hb_model *model;
    struct hb_optimizer optimizer;
    struct hb_stepper stepper;
};
/* Opened and initialised, for microbatches of up to `rows`. */
void run_open(struct run *run, const struct run_shape *shape, const struct hb_backend *backend, int threads,
              int64_t rows);
void run_close(struct run *run);

/* Step number `step` (from 0) on M microbatches of data made for that step. */
void run_step(struct run *run, int64_t step, int64_t M, struct hb_step_report *report);

/* One microbatch of a step that gradients_begin started: forward and backward,
 * all weight entries after all input entries if `postponed`. */
void run_microbatch(struct run *run, const struct hb_batch *batch, int64_t m, bool postponed);

/* The factors of a step of M microbatches with `labels` labels, and no leaves. */
void run_begin(struct run *run, int64_t M, int64_t labels);
/* Folds are complete: the roots. */
void run_end(struct run *run);

int64_t run_labels(const struct run_data *data, int64_t M);

#endif
