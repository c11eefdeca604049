#include "model/runs.h"

#define ODD_SIZES                                                                                            \
    .vocab_size = 101, .hidden_size = 40, .num_attention_heads = 3, .num_key_value_heads = 1,                \
    .head_dim = 10, .intermediate_size = 37, .max_position_embeddings = 1024, .rms_norm_eps = 1e-6,          \
    .rope_theta = 10000, .initializer_range = 0.15, .bos_token_id = -1, .eos_token_id = -1

/* The presets of tape/precision.c, as constants. */
#define ALL_OF(type) {type, type, type, type, HB_STORED_AS_CLASS, HB_STORED_FP32, false, false}
#define BF16 ALL_OF(HB_STORED_BF16)
#define FP16 ALL_OF(HB_STORED_FP16)
#define MIXED                                                                                        \
    {HB_STORED_FP16,     HB_STORED_FP16, HB_STORED_BF16, HB_STORED_BF16, HB_STORED_AS_CLASS,          \
     HB_STORED_FP32, false,          false}

const struct run_shape run_shapes[] = {
    {"dense", {ODD_SIZES, .num_hidden_layers = 2}},
    {"dense-tied", {ODD_SIZES, .num_hidden_layers = 1, .tie_word_embeddings = true}},
    {"moe-hf",
     {ODD_SIZES, .num_hidden_layers = 2, .decoder_sparse_step = 1, .num_experts = 5, .num_experts_per_tok = 3,
      .moe_intermediate_size = 37, .norm_topk_prob = true, .balance = HB_BALANCE_HF,
      .router_aux_loss_coef = 0.02, .router_z_loss_coef = 0.003}},
    {"moe-layer-plain",
     {ODD_SIZES, .num_hidden_layers = 3, .decoder_sparse_step = 1, .num_experts = 7, .num_experts_per_tok = 2,
      .moe_intermediate_size = 19, .dense_layer = {[1] = true}, .balance = HB_BALANCE_LAYER,
      .router_aux_loss_coef = 0.05, .router_z_loss_coef = 0.001}},
    {"moe-bias-tied",
     {ODD_SIZES, .num_hidden_layers = 2, .num_experts = 6, .num_experts_per_tok = 2,
      .moe_intermediate_size = 21, .norm_topk_prob = true, .decoder_sparse_step = 2,
      .tie_word_embeddings = true, .balance = HB_BALANCE_BIAS, .balance_bias_rate = 0.01}},
    {"article-gate",
     {ODD_SIZES, .num_hidden_layers = 2, .decoder_sparse_step = 1, .num_experts = 4, .num_experts_per_tok = 4,
      .moe_intermediate_size = 23, .balance = HB_BALANCE_NONE, .router_z_loss_coef = 0.002,
      .router_bias = true}},
    {"window-sinks",
     {ODD_SIZES, .num_hidden_layers = 2, .sliding_window = 4, .sliding_layer = {[1] = true},
      .attention_sinks = 1}},
    {"moe-window-memory",
     {ODD_SIZES, .num_hidden_layers = 1, .decoder_sparse_step = 1, .num_experts = 4, .num_experts_per_tok = 2,
      .moe_intermediate_size = 19, .norm_topk_prob = true, .balance = HB_BALANCE_HF,
      .router_aux_loss_coef = 0.02, .sliding_window = 3, .sliding_layer = {true}, .memory_slots = 2}},
    {"memory-sum", {ODD_SIZES, .num_hidden_layers = 1, .memory_slots = 3, .memory_combine = HB_SUM}},
    {"memory-gated",
     {ODD_SIZES, .num_hidden_layers = 2, .tie_word_embeddings = true, .sliding_window = 70,
      .sliding_layer = {true}, .attention_sinks = 2, .memory_slots = 66, .memory_combine = HB_GATED}},
    {"dense-bf16", {ODD_SIZES, .num_hidden_layers = 2, .precision = BF16}},
    {"moe-fp16-tied",
     {ODD_SIZES, .num_hidden_layers = 2, .decoder_sparse_step = 1, .num_experts = 5, .num_experts_per_tok = 3,
      .moe_intermediate_size = 37, .norm_topk_prob = true, .balance = HB_BALANCE_HF,
      .tie_word_embeddings = true,
      .router_aux_loss_coef = 0.02, .router_bias = true, .precision = FP16}},
    {"moe-mixed",
     {ODD_SIZES, .num_hidden_layers = 2, .decoder_sparse_step = 2, .num_experts = 5, .num_experts_per_tok = 2,
      .moe_intermediate_size = 21, .balance = HB_BALANCE_LAYER, .router_aux_loss_coef = 0.05,
      .router_z_loss_coef = 0.001, .precision = MIXED}},
    {"moe-no-masters", /* every type of storage somewhere; gradients that are not of the values' size */
     {ODD_SIZES, .num_hidden_layers = 1, .decoder_sparse_step = 1, .num_experts = 4, .num_experts_per_tok = 2,
      .moe_intermediate_size = 19, .balance = HB_BALANCE_BIAS, .balance_bias_rate = 0.01, .sliding_window = 3,
      .sliding_layer = {true}, .memory_slots = 2, .memory_combine = HB_GATED,
      .precision = {.weights = HB_STORED_BF16, .activations = HB_STORED_FP16, .residual = HB_STORED_FP32,
                    .gradients = HB_STORED_FP32, .communication = HB_STORED_BF16,
                    .param_grad = HB_STORED_BF16,
                    .no_masters = true, .stochastic = true}}},
};
const int run_shape_count = sizeof run_shapes / sizeof run_shapes[0];

/* Segments of 1 to 9 rows. */
static int64_t cut(int32_t *segments, int64_t rows, const int32_t *lengths)
{
    int64_t count = 0, at = 0;
    segments[0] = 0;
    while (at < rows) {
        at += 1 + lengths[count];
        segments[++count] = (int32_t)(at < rows ? at : rows);
    }
    return count;
}

void run_data_make(struct run_data *data, uint64_t seed, int64_t vocabulary, int64_t rows)
{
    int64_t all = RUN_MICROBATCHES * rows;
    int32_t *lengths = th_integers(seed + 1, all, 9), *ignored = th_integers(seed + 2, all, 8);
    data->ids = th_integers(seed, all, (int32_t)vocabulary);
    data->labels = th_integers(seed + 3, all, (int32_t)vocabulary);
    data->segments = th_integers(seed, all + RUN_MICROBATCHES, 1);
    for (int64_t i = 0; i < all; i++)
        if (ignored[i] == 0)
            data->labels[i] = -100;
    for (int64_t m = 0; m < RUN_MICROBATCHES; m++) {
        int32_t *segments = data->segments + m * (rows + 1);
        data->batch[m] = (struct hb_batch){.tokens = rows,
                                           .ids = data->ids + m * rows,
                                           .labels = data->labels + m * rows,
                                           .segments = segments,
                                           .segment_count = cut(segments, rows, lengths + m * rows)};
    }
    free(lengths);
    free(ignored);
}

void run_data_release(struct run_data *data)
{
    free(data->ids);
    free(data->labels);
    free(data->segments);
}

void run_open(struct run *run, const struct run_shape *shape, const struct hb_backend *backend, int threads,
              int64_t rows)
{
    static const struct hb_optimizer_config training = {
        .schedule = {.peak = 0.01, .warmup = 0.25, .final = 0.1, .updates = 8},
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .weight_decay = 0.1,
        .clip = 1,
    };
    TH_OK(hb_context_open(backend, HB_CANONICAL, threads, &run->context));
    TH_OK(hb_model_create(&run->context, &shape->config, rows, true, &run->model));
    TH_OK(hb_model_initialise(run->model, 20));
    TH_OK(hb_optimizer_init(&run->optimizer, run->model, &training));
    TH_OK(hb_stepper_init(&run->stepper, run->model, &run->optimizer, RUN_MICROBATCHES, rows));
}

void run_close(struct run *run)
{
    assert_int_equal(run->stepper.tape.live_vars, 0);
    hb_stepper_release(&run->stepper);
    hb_optimizer_release(&run->optimizer);
    hb_model_destroy(run->model);
    hb_context_close(&run->context);
}

void run_step(struct run *run, int64_t step, int64_t M, struct hb_step_report *report)
{
    struct run_data data;
    run_data_make(&data, 1000 * (uint64_t)(step + 1), run->model->config.vocab_size, RUN_ROWS);
    TH_OK(hb_step(&run->stepper, data.batch, M, 1, true, report));
    run_data_release(&data);
}

int64_t run_labels(const struct run_data *data, int64_t M)
{
    int64_t labels = 0;
    for (int64_t m = 0; m < M; m++)
        for (int64_t i = 0; i < data->batch[m].tokens; i++)
            labels += data->batch[m].labels[i] >= 0;
    return labels;
}

void run_begin(struct run *run, int64_t M, int64_t labels)
{
    const struct hb_model_config *config = &run->model->config;
    struct hb_stepper *s = &run->stepper;
    bool aux = config->balance == HB_BALANCE_HF || config->balance == HB_BALANCE_LAYER;
    s->carry.loss_factor = (float)(1 / (double)labels);
    s->carry.balance.aux_factor = aux ? (float)(config->router_aux_loss_coef / (double)M) : 0;
    s->carry.balance.z_factor = (float)(config->router_z_loss_coef / (double)M);
    hb_gradients_begin(&s->gradients, M, run->model->params, run->model->param_count);
}

void run_microbatch(struct run *run, const struct hb_batch *batch, int64_t m, bool postponed)
{
    struct hb_stepper *s = &run->stepper;
    hb_tape_begin(&s->tape, &s->gradients, m);
    TH_OK(hb_carry_load(&s->carry, batch, run->model->cosine, run->model->sine));
    TH_OK(hb_model_forward(run->model, &s->tape, &s->carry));
    TH_OK(hb_tape_backward_input(&s->tape, 0, s->tape.entry_count, !postponed));
    TH_OK(hb_tape_backward_weight(&s->tape, 0, s->tape.entry_count));
    assert_int_equal(s->tape.live_vars, 0);
}

void run_end(struct run *run)
{
    TH_OK(hb_gradients_close(&run->stepper.gradients, run->model->params, run->model->param_count));
}
