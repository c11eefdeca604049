/* examples/one-file/train.c does by hand what the product does through tape,
 * blocks and optimizer: both must print the same digests, on every backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/registry.h"
#include "train/step.h"

/* The shapes and settings of the example. */
enum { STEPS = 6, M = 2, S = 2, T = 24, N = S * T, LINE = 256 };

static const struct hb_model_config shape = {
    .vocab_size = 256,
    .hidden_size = 32,
    .num_hidden_layers = 2,
    .num_attention_heads = 4,
    .num_key_value_heads = 2,
    .head_dim = 16,
    .max_position_embeddings = T,
    .rms_norm_eps = 1e-6,
    .rope_theta = 10000,
    .initializer_range = 0.02,
    .num_experts = 4,
    .num_experts_per_tok = 2,
    .moe_intermediate_size = 24,
    .norm_topk_prob = true,
    .decoder_sparse_step = 1,
    .balance = HB_BALANCE_HF,
    .router_aux_loss_coef = 0.01f,
};

/* The poem, as the example's source has it: read from there, so that there is
 * one text. C string pieces become bytes. */
static char *read_poem(size_t *size)
{
    char path[4096];
    const char *source = getenv("HB_SRCDIR");
    snprintf(path, sizeof path, "%s/examples/one-file/train.c", source ? source : ".");
    FILE *file = fopen(path, "r");
    char *poem = calloc(1, 1 << 16), line[LINE];
    bool inside = false;
    assert_non_null(poem);
    if (!file)
        fail_msg("%s cannot be read", path);
    *size = 0;
    while (fgets(line, sizeof line, file)) {
        if (strstr(line, "static const char poem[]"))
            inside = true;
        for (const char *c = strchr(line, '"'); inside && c && *++c && *c != '"';)
            poem[(*size)++] = *c != '\\' ? *c : (c++, '\n');
        if (inside && strstr(line, "\";"))
            break;
    }
    fclose(file);
    return poem;
}

static FILE *run_example(void)
{
    char command[4300];
    const char *build = getenv("HB_BUILDDIR");
    snprintf(command, sizeof command, "'%s/examples/one-file/train' %d", build ? build : ".", STEPS);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    return pipe;
}

static void next_digest(FILE *pipe, char digest[HB_DIGEST_TEXT + 1])
{
    char line[LINE];
    if (!fgets(line, sizeof line, pipe))
        fail_msg("the example printed too few lines; is examples/one-file/train built?");
    const char *found = strstr(line, "digest ");
    assert_non_null(found);
    snprintf(digest, HB_DIGEST_TEXT + 1, "%.32s", found + strlen("digest "));
}

static void same_digests(const char *backend_name, int threads)
{
    const struct hb_backend *backend;
    struct hb_context context;
    struct hb_model *model;
    struct hb_optimizer optimizer;
    struct hb_stepper stepper;
    struct hb_optimizer_config training = {.schedule = {0.003, 0, 1, STEPS},
                                           .beta1 = 0.9,
                                           .beta2 = 0.95,
                                           .eps = 1e-8,
                                           .weight_decay = 0.1,
                                           .clip = 1};
    char expected[HB_DIGEST_TEXT + 1], got[HB_DIGEST_TEXT + 1];
    size_t size;
    char *poem = read_poem(&size);
    FILE *pipe = run_example();
    assert_int_equal(hb_backend_find(backend_name, &backend), HB_OK);
    assert_int_equal(hb_context_open(backend, HB_CANONICAL, threads, &context), HB_OK);
    assert_int_equal(hb_model_create(&context, &shape, T, true, &model), HB_OK);
    assert_int_equal(hb_model_initialise(model, 7), HB_OK);
    assert_int_equal(hb_optimizer_init(&optimizer, model, &training), HB_OK);
    assert_int_equal(hb_stepper_init(&stepper, model, &optimizer, M, N), HB_OK);
    assert_int_equal(hb_optimizer_digest(&optimizer, true, got), HB_OK);
    next_digest(pipe, expected);
    assert_string_equal(got, expected);
    int64_t samples = ((int64_t)size - 1) / T;
    assert_true(samples > M * S);
    for (int64_t step = 0; step < STEPS; step++) {
        int32_t ids[M * N], labels[M * N], segments[S + 1] = {0, T, 2 * T};
        struct hb_batch batches[M];
        struct hb_step_report report;
        for (int64_t j = 0; j < M * S; j++)
            for (int64_t t = 0; t < T; t++) {
                int64_t at = (step * M * S + j) % samples * T + t;
                ids[j * T + t] = (unsigned char)poem[at];
                labels[j * T + t] = (unsigned char)poem[at + 1];
            }
        for (int64_t m = 0; m < M; m++)
            batches[m] = (struct hb_batch){N, ids + m * N, labels + m * N, segments, S};
        if (hb_step(&stepper, batches, M, 1, true, &report) != HB_OK)
            fail_msg("%s", hb_error());
        next_digest(pipe, expected);
        assert_string_equal(report.digest, expected);
        assert_int_equal(stepper.tape.live_vars, 0);
    }
    assert_int_equal(pclose(pipe), 0);
    hb_stepper_release(&stepper);
    hb_optimizer_release(&optimizer);
    hb_model_destroy(model);
    hb_context_close(&context);
    free(poem);
}

static void test_ref(void **state)
{
    (void)state;
    same_digests("ref", 1);
}

static void test_cpu(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++)
        same_digests("cpu", threads);
}

static void test_strict(void **state)
{
    (void)state;
    same_digests("strict", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_strict)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
