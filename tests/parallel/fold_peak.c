/* Counted buffers of a fold against the fold itself (tape/gradients.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/registry.h"
#include "core/philox.h"
#include "parallel/fold_peak.h"
#include "tape/gradients.h"

#define OK(call)                                                  \
    do {                                                          \
        if ((call) != HB_OK)                                      \
            fail_msg("line %d: %s: %s", __LINE__, #call, hb_error()); \
    } while (0)

enum { COUNT = 5, MOST = 21 };

/* Folds leaves in this order and says how many buffers the pool gave out at most. */
static int64_t measured(struct hb_context *context, const int64_t *leaves, int64_t total, bool flags)
{
    struct hb_gradients gradients;
    float root[COUNT];
    int32_t present[COUNT];
    struct hb_param param = {.name = "w", .trained = true, .use_count = 1, .groups = 1};
    struct hb_param *params[] = {&param};
    param.value = param.use[0].root = hb_tensor_1d(context, root, HB_F32, COUNT);
    if (flags)
        param.use[0].present = hb_tensor_1d(context, present, HB_I32, COUNT);
    hb_gradients_init(&gradients, context);
    hb_gradients_begin(&gradients, total, params, 1);
    for (int64_t i = 0; i < total; i++) {
        struct hb_leaf leaf;
        OK(hb_leaf_begin(&gradients, &param, 0, leaves[i], true, &leaf));
        OK(hb_zero(context, leaf.out));
        OK(hb_leaf_end(&gradients, &param, 0, &leaf));
    }
    OK(hb_gradients_close(&gradients, params, 1));
    int64_t bytes = COUNT * 4 * (flags ? 2 : 1), peak = gradients.pool.in_use_peak;
    hb_gradients_release(&gradients);
    assert_int_equal(peak % bytes, 0);
    return peak / bytes;
}

static void test_against_the_fold(void **state)
{
    (void)state;
    struct hb_context context;
    const struct hb_backend *ref;
    OK(hb_backend_find("ref", &ref));
    OK(hb_context_open(ref, HB_CANONICAL, 1, &context));
    struct hb_random random = hb_random_stream(5, HB_PURPOSE_TEST, 0, 0);
    uint64_t draw = 0;
    for (int64_t total = 1; total <= MOST; total++)
        for (int order = 0; order < 12; order++) {
            int64_t leaves[MOST], peak, nodes;
            for (int64_t i = 0; i < total; i++)
                leaves[i] = order == 1 ? total - 1 - i : i;
            for (int64_t i = total - 1; i > 0 && order > 1; i--) {
                int64_t j = (int64_t)(hb_random_u64(&random, draw++) % (uint64_t)(i + 1)), kept = leaves[i];
                leaves[i] = leaves[j];
                leaves[j] = kept;
            }
            for (int flags = 0; flags < 2; flags++) {
                OK(hb_fold_peak(leaves, total, total, flags, &peak));
                assert_int_equal(peak, measured(&context, leaves, total, flags));
            }
            OK(hb_fold_remaining(leaves, total, total, &nodes));
            assert_int_equal(nodes, 1);
        }
    hb_context_close(&context);
}

static void test_remaining(void **state)
{
    (void)state;
    static const int64_t leaves[] = {3, 4, 5, 6, 7};
    int64_t nodes;
    OK(hb_fold_remaining(leaves, 5, 12, &nodes)); /* [3,4) and [4,8) */
    assert_int_equal(nodes, 2);
    OK(hb_fold_remaining(leaves, 4, 12, &nodes)); /* [3,4) [4,6) [6,7) */
    assert_int_equal(nodes, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_fold),
        cmocka_unit_test(test_remaining),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
