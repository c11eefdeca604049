/* Parts of a model: together they have every parameter of the whole once, under the same names and
 * numbers. */
#include "backends/registry.h"
#include "model/runs.h"

static int64_t place_of(const struct hb_model *whole, const char *name)
{
    int64_t place = 0;
    for (int64_t p = 0; p < whole->param_count; p++)
        for (int64_t g = 0; g < whole->params[p]->groups; g++, place++) {
            char text[2 * HB_PARAM_NAME_MAX];
            if (strcmp(hb_param_logical_name(whole->params[p], g, text, sizeof text), name) == 0)
                return place;
        }
    fail_msg("the whole model has no '%s'", name);
    return -1;
}

static void count(const struct hb_model *whole, const struct hb_model *part, int *seen)
{
    for (int64_t p = 0; p < part->param_count; p++)
        for (int64_t g = 0; g < part->params[p]->groups; g++) {
            char text[2 * HB_PARAM_NAME_MAX];
            seen[place_of(whole, hb_param_logical_name(part->params[p], g, text, sizeof text))]++;
            assert_true(hb_model_has_block(part, part->params[p]->block) ||
                        part->params[p] == part->embedding);
        }
}

/* Blocks dealt to three stages, experts to two ranks of uneven shares. */
static void check_shape(const struct run_shape *shape)
{
    struct hb_context context;
    struct hb_model *whole;
    const struct hb_backend *backend;
    int64_t E = shape->config.num_experts, blocks = shape->config.num_hidden_layers + 2;
    int seen[200] = {0}, dense = 0;
    TH_OK(hb_backend_find("ref", &backend));
    TH_OK(hb_context_open(backend, HB_CANONICAL, 1, &context));
    TH_OK(hb_model_outline(&context, &shape->config, NULL, &whole));
    assert_int_equal(whole->block_count, blocks);
    for (int stage = 0; stage < 3; stage++)
        for (int share = 0; share < 2; share++) {
            bool own[8] = {false};
            for (int64_t b = 0; b < blocks; b++)
                own[b] = b % 3 == stage;
            int64_t first = share ? E / 3 : 0;
            struct hb_model_part part = {own, first, share ? E - first : E / 3};
            struct hb_model *model;
            TH_OK(hb_model_outline(&context, &shape->config, &part, &model));
            count(whole, model, seen);
            hb_model_destroy(model);
        }
    int64_t place = 0;
    for (int64_t p = 0; p < whole->param_count; p++)
        for (int64_t g = 0; g < whole->params[p]->groups; g++, place++) {
            const struct hb_param *param = whole->params[p];
            bool twice = shape->config.tie_word_embeddings && param == whole->embedding &&
                         (blocks - 1) % 3 != 0;
            assert_int_equal(seen[place], (param->name_after[0] ? 1 : 2) * (twice ? 2 : 1));
            dense += !param->name_after[0];
        }
    assert_true(dense > 0);
    hb_model_destroy(whole);
    hb_context_close(&context);
}

static void every_parameter_once(void **state)
{
    (void)state;
    for (int s = 0; s < run_shape_count; s++)
        check_shape(&run_shapes[s]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_parameter_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
