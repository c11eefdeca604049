/* Generation: a cached forward has the bits of the full one, wherever the text
 * is cut; the same seed writes the same text; sampling keeps what it says. */
#include "model/generate.h"

#include <math.h>

#include "cpu/select.h"
#include "model/runs.h"
#include "ref/backend.h"

enum { LENGTH = 150 }; /* more than two tiles of keys */

static const struct hb_backend *cpu(void)
{
    const struct hb_backend *backend;
    TH_OK(hb_cpu_select(&backend));
    return backend;
}

static void open_model(struct hb_context *context, const struct hb_backend *backend, int threads, int shape,
                       struct hb_model **model)
{
    TH_OK(hb_context_open(backend, HB_CANONICAL, threads, context));
    TH_OK(hb_model_create(context, &run_shapes[shape].config, LENGTH, false, model));
    TH_OK(hb_model_initialise(*model, 3));
}

/* Logits after every token, in one forward. */
static float *full_logits(struct hb_model *model, const int32_t *ids, int64_t n)
{
    int64_t V = model->config.vocab_size;
    struct hb_tape tape;
    struct hb_carry carry;
    int32_t segments[] = {0, (int32_t)n};
    struct hb_batch batch = {.tokens = n, .ids = ids, .segments = segments, .segment_count = 1};
    float *host = malloc((size_t)(n * V) * sizeof *host);
    assert_non_null(host);
    hb_tape_init(&tape, model->context);
    TH_OK(hb_carry_init(&carry, model->context, &model->config, n));
    carry.logits = th_2d(model->context, hb_real_dtype(model->context), n, V, NULL);
    hb_tape_begin(&tape, NULL, 0);
    TH_OK(hb_carry_load(&carry, &batch, model->cosine, model->sine));
    TH_OK(hb_model_forward(model, &tape, &carry));
    TH_OK(hb_copy_out_f32(model->context, host, carry.logits));
    th_free(model->context, &carry.logits);
    hb_carry_release(&carry);
    hb_tape_release(&tape);
    return host;
}

/* Feeds the text in pieces of `piece` to a generator that takes `chunk` at a time. */
static void check_cached(struct hb_model *model, const int32_t *ids, const float *full, int64_t piece,
                         int64_t chunk)
{
    int64_t V = model->config.vocab_size;
    struct hb_generator generator;
    float *logits = malloc((size_t)V * sizeof *logits);
    assert_non_null(logits);
    TH_OK(hb_generator_init(&generator, model, LENGTH, chunk));
    for (int64_t at = 0; at < LENGTH; at += piece) {
        int64_t count = LENGTH - at < piece ? LENGTH - at : piece;
        TH_OK(hb_generator_feed(&generator, ids + at, count, logits));
        if (memcmp(logits, full + (at + count - 1) * V, (size_t)V * sizeof *logits) != 0)
            fail_msg("pieces of %lld in chunks of %lld: logits after token %lld differ from the full forward",
                     (long long)piece, (long long)chunk, (long long)(at + count - 1));
    }
    assert_int_equal(hb_generator_feed(&generator, ids, 1, logits), HB_EARGUMENT);
    hb_generator_release(&generator);
    free(logits);
}

static void test_cached_is_full(void **state)
{
    (void)state;
    static const int64_t cuts[][2] = {{1, 1}, {7, 7}, {LENGTH, LENGTH}, {LENGTH, 64}, {63, 5}};
    const struct hb_backend *backends[] = {&hb_backend_ref, cpu()};
    for (int shape = 0; shape < run_shape_count; shape++)
        for (int b = 0; b < 2; b++) {
            struct hb_context context;
            struct hb_model *model;
            if (b == 0 && shape != 2) /* ref is slow, and equal to cpu by other tests */
                continue;
            open_model(&context, backends[b], 1 + b, shape, &model);
            int32_t *ids = th_integers(9, LENGTH, (int32_t)model->config.vocab_size);
            float *full = full_logits(model, ids, LENGTH);
            for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++)
                check_cached(model, ids, full, cuts[c][0], cuts[c][1]);
            free(full);
            free(ids);
            hb_model_destroy(model);
            hb_context_close(&context);
        }
}

/* The reference in double writes too, and close to what fp32 says. */
static void test_in_double(void **state)
{
    (void)state;
    struct hb_context context, truth;
    struct hb_model *model, *model64;
    open_model(&context, cpu(), 1, 2, &model);
    open_model(&truth, &hb_backend_ref64, 1, 2, &model64);
    int32_t *ids = th_integers(9, 12, (int32_t)model->config.vocab_size);
    float *got = full_logits(model, ids, 12), *exact = full_logits(model64, ids, 12);
    double largest = 0;
    for (int64_t i = 0; i < 12 * model->config.vocab_size; i++)
        largest = fmax(largest, fabs((double)exact[i]));
    for (int64_t i = 0; i < 12 * model->config.vocab_size; i++)
        assert_true(fabs((double)got[i] - (double)exact[i]) <= 1e-4 * largest);
    assert_true(largest > 0.1);
    free(got);
    free(exact);
    free(ids);
    hb_model_destroy(model);
    hb_model_destroy(model64);
    hb_context_close(&context);
    hb_context_close(&truth);
}

static void write_text(const struct hb_backend *backend, int threads, uint64_t seed, int32_t *text,
                       int64_t count)
{
    struct hb_context context;
    struct hb_model *model;
    struct hb_generator generator;
    struct hb_sampling sampling = {.temperature = 1.3, .top_k = 50, .top_p = 0.95, .seed = seed};
    float logits[101];
    int32_t order[101];
    open_model(&context, backend, threads, 2, &model);
    assert_int_equal(model->config.vocab_size, 101);
    TH_OK(hb_generator_init(&generator, model, LENGTH, 4));
    TH_OK(hb_generator_feed(&generator, (int32_t[]){5, 6, 7, 8, 9}, 5, logits));
    for (int64_t i = 0; i < count; i++) {
        text[i] = hb_sample_token(logits, 101, &sampling, 5 + i, order);
        TH_OK(hb_generator_feed(&generator, &text[i], 1, logits));
    }
    hb_generator_release(&generator);
    hb_model_destroy(model);
    hb_context_close(&context);
}

static void test_same_seed_same_text(void **state)
{
    (void)state;
    int32_t once[40], again[40], other[40];
    write_text(&hb_backend_ref, 1, 17, once, 40);
    for (int threads = 1; threads <= 3; threads++) {
        write_text(cpu(), threads, 17, again, 40);
        assert_memory_equal(once, again, sizeof once);
    }
    write_text(cpu(), 1, 18, other, 40);
    assert_memory_not_equal(once, other, sizeof once);
}

/* --- sampling --- */

/* Probabilities 0.4, 0.3, 0.2, 0.1 of tokens 3, 0, 4, 1; almost none of token 2. */
static const float some_logits[] = {-1.2039728f, -2.3025851f, -60, -0.91629073f, -1.6094379f};
static const double some_probabilities[] = {0.3, 0.1, 0, 0.4, 0.2};
enum { SOME = 5, DRAWS = 40000 };

static void draw(const struct hb_sampling *sampling, int counts[SOME])
{
    int32_t order[SOME];
    memset(counts, 0, SOME * sizeof *counts);
    for (int64_t position = 0; position < DRAWS; position++) {
        int32_t token = hb_sample_token(some_logits, SOME, sampling, position, order);
        assert_in_range(token, 0, SOME - 1);
        counts[token]++;
    }
}

/* Each count within 5 standard deviations of what `probability` says. */
static void assert_distribution(const int *counts, const double *probability)
{
    for (int i = 0; i < SOME; i++) {
        double wanted = DRAWS * probability[i], spread = sqrt(wanted * (1 - probability[i]));
        if (!(fabs(counts[i] - wanted) <= 5 * spread))
            fail_msg("token %d was drawn %d times, expected %.0f", i, counts[i], wanted);
    }
}

static void test_distribution(void **state)
{
    (void)state;
    int counts[SOME];
    draw(&(struct hb_sampling){.temperature = 1, .top_p = 1, .seed = 1}, counts);
    assert_distribution(counts, some_probabilities);
    draw(&(struct hb_sampling){.temperature = 1, .top_p = 1, .top_k = 1000, .seed = 2}, counts);
    assert_distribution(counts, some_probabilities);
    /* Temperature 2: square roots, normalised. */
    double warm[SOME], sum = 0;
    for (int i = 0; i < SOME; i++)
        sum += warm[i] = sqrt(some_probabilities[i]);
    for (int i = 0; i < SOME; i++)
        warm[i] /= sum;
    draw(&(struct hb_sampling){.temperature = 2, .top_p = 1, .top_k = 4, .seed = 3}, counts);
    assert_distribution(counts, warm);
}

static void test_top_k_and_top_p(void **state)
{
    (void)state;
    int counts[SOME];
    draw(&(struct hb_sampling){.temperature = 1, .top_p = 1, .top_k = 2, .seed = 4}, counts);
    assert_distribution(counts, (double[]){3 / 7.0, 0, 0, 4 / 7.0, 0});
    /* 0.4 + 0.3 reaches 0.69; 0.4 alone reaches 0.39. */
    draw(&(struct hb_sampling){.temperature = 1, .top_p = 0.69, .seed = 5}, counts);
    assert_distribution(counts, (double[]){3 / 7.0, 0, 0, 4 / 7.0, 0});
    draw(&(struct hb_sampling){.temperature = 1, .top_p = 0.39, .seed = 6}, counts);
    assert_distribution(counts, (double[]){0, 0, 0, 1, 0});
    /* top_p is of what top_k kept: 0.5 of 0.7 is 0.35. */
    draw(&(struct hb_sampling){.temperature = 1, .top_p = 0.5, .top_k = 2, .seed = 7}, counts);
    assert_distribution(counts, (double[]){0, 0, 0, 1, 0});
}

static void test_most_probable(void **state)
{
    (void)state;
    static const struct hb_sampling greedy[] = {
        {.temperature = 0, .top_p = 1, .seed = 1},      {.temperature = 5, .top_p = 1, .top_k = 1, .seed = 1},
        {.temperature = 5, .top_p = 1e-9, .seed = 1},   {.temperature = 5, .top_p = 0, .seed = 1},
        {.temperature = 1e-300, .top_p = 1, .seed = 1}, {.temperature = -1, .top_p = 1, .seed = 1},
    };
    static const float ties[] = {-3, 7, 1, 7, -INFINITY, 7};
    int32_t order[6];
    for (size_t g = 0; g < sizeof greedy / sizeof greedy[0]; g++)
        for (int64_t position = 0; position < 200; position++) {
            assert_int_equal(hb_sample_token(some_logits, SOME, &greedy[g], position, order), 3);
            if (greedy[g].temperature != 1e-300) /* there all of the equals are as probable */
                assert_int_equal(hb_sample_token(ties, 6, &greedy[g], position, order), 1);
        }
    assert_int_equal(hb_sample_token(ties, 1, &(struct hb_sampling){.temperature = 1, .top_p = 1}, 0, order),
                     0);
}

static void test_seed_and_position(void **state)
{
    (void)state;
    int32_t order[SOME];
    int by_seed = 0, by_position = 0;
    for (int64_t i = 0; i < 300; i++) {
        struct hb_sampling a = {.temperature = 1, .top_p = 1, .seed = 7}, b = a;
        b.seed = 8;
        int32_t token = hb_sample_token(some_logits, SOME, &a, i, order);
        assert_int_equal(hb_sample_token(some_logits, SOME, &a, i, order), token);
        by_seed += hb_sample_token(some_logits, SOME, &b, i, order) != token;
        by_position += hb_sample_token(some_logits, SOME, &a, i + 1, order) != token;
    }
    assert_true(by_seed > 100 && by_position > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cached_is_full),      cmocka_unit_test(test_in_double),
        cmocka_unit_test(test_same_seed_same_text), cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_top_k_and_top_p),     cmocka_unit_test(test_most_probable),
        cmocka_unit_test(test_seed_and_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
