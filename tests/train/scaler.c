/* The loss scaler: traces of the systems that the presets stand for, to the
 * step; steady states that follow from the rules; refused options. */
#include "train/scaler.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/scratch.h"

/* The rule of a golden trace: "torch initial 1024.0 growth_interval 7". */
static struct hb_scaler_rule read_rule(char *line)
{
    enum hb_scaler_preset preset;
    char *save, *word = strtok_r(line, " \n", &save);
    OK(hb_scaler_preset_find(word, &preset));
    struct hb_scaler_rule rule = hb_scaler_rule_of(preset);
    while ((word = strtok_r(NULL, " \n", &save))) {
        char *value = strtok_r(NULL, " \n", &save);
        assert_non_null(value);
        OK(hb_scaler_set(&rule, word, value));
    }
    OK(hb_scaler_check(&rule));
    return rule;
}

/* Returns the number of steps. */
static int64_t replay(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[256];
    int64_t step = 0;
    do
        assert_non_null(fgets(line, sizeof line, file));
    while (line[0] == '#');
    struct hb_scaler_rule rule = read_rule(line);
    struct hb_scaler scaler;
    hb_scaler_init(&scaler, &rule);
    while (fgets(line, sizeof line, file)) {
        if (strcmp(line, "stop\n") == 0) {
            step++;
            if (hb_scaler_update(&scaler, true) != HB_SCALER_STOP)
                fail_msg("%s: step %lld must stop", path, (long long)step);
            continue;
        }
        long long count, found;
        double scale;
        assert_int_equal(sscanf(line, "%lld %lld %lf", &count, &found, &scale), 3);
        for (long long i = 0; i < count; i++) {
            step++;
            enum hb_scaler_action action = hb_scaler_update(&scaler, found);
            if (!(scaler.scale == scale) || action == HB_SCALER_STOP)
                fail_msg("%s: scale %g after step %lld, must be %g", path, scaler.scale, (long long)step,
                         scale);
        }
    }
    fclose(file);
    return step;
}

static void test_golden_traces(void **state)
{
    (void)state;
    char pattern[4096];
    glob_t found;
    const char *root = getenv("HB_SRCDIR");
    snprintf(pattern, sizeof pattern, "%s/golden/scaler/*.txt", root ? root : ".");
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 20);
    int64_t steps = 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        steps += replay(found.gl_pathv[i]);
    assert_true(steps > 40000);
    globfree(&found);
}

/* Gradients of constant size that overflow above scale 2^13: overflows among `steps` steps. */
static int64_t overflows(struct hb_scaler_rule rule, int64_t warm_up, int64_t steps)
{
    struct hb_scaler scaler;
    int64_t count = 0;
    hb_scaler_init(&scaler, &rule);
    for (int64_t i = 0; i < warm_up + steps; i++) {
        bool found = scaler.scale > 0x1p13;
        count += i >= warm_up && found;
        hb_scaler_update(&scaler, found);
    }
    return count;
}

static struct hb_scaler_rule with_interval(enum hb_scaler_preset preset, int64_t interval)
{
    struct hb_scaler_rule rule = hb_scaler_rule_of(preset);
    rule.growth_interval = interval;
    return rule;
}

/* At the edge every rule repeats one cycle: N clean steps (DeepSpeed N + 1), then
 * as many overflows as its hysteresis counts. */
static void test_steady_states(void **state)
{
    (void)state;
    assert_int_equal(overflows(hb_scaler_rule_of(HB_SCALER_ARTICLE), 100, 10000), 5000);
    assert_int_equal(overflows(with_interval(HB_SCALER_TORCH, 7), 1000, 8 * 1000), 1000);       /* 12.5 % */
    assert_int_equal(overflows(with_interval(HB_SCALER_TORCH, 42), 1000, 43 * 1000), 1000);     /* 2.33 % */
    assert_int_equal(overflows(with_interval(HB_SCALER_APEX, 42), 1000, 43 * 1000), 1000);
    /* 2 / (N + 2) */
    assert_int_equal(overflows(with_interval(HB_SCALER_MEGATRON, 10), 1000, 12 * 1000), 2000);
    /* 2 / (N + 3) */
    assert_int_equal(overflows(with_interval(HB_SCALER_DEEPSPEED, 10), 1000, 13 * 1000), 2000);
    struct hb_scaler_rule once = with_interval(HB_SCALER_TORCH, 0);
    assert_int_equal(overflows(once, 100, 10000), 0); /* never grows again */
}

/* The patience: given back by any clean step, or only by growth. */
static void test_hysteresis(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct hb_scaler_rule rule = with_interval(HB_SCALER_MEGATRON, 100);
        struct hb_scaler scaler;
        rule.hysteresis_kind = (enum hb_hysteresis)kind;
        hb_scaler_init(&scaler, &rule);
        assert_int_equal(hb_scaler_update(&scaler, true), HB_SCALER_HOLD);
        assert_int_equal(hb_scaler_update(&scaler, false), HB_SCALER_KEEP);
        assert_int_equal(hb_scaler_update(&scaler, true),
                         kind == HB_HYSTERESIS_CUMULATIVE ? HB_SCALER_BACK_OFF : HB_SCALER_HOLD);
        assert_int_equal(hb_scaler_update(&scaler, true), HB_SCALER_BACK_OFF);
        assert_true(scaler.scale == (kind == HB_HYSTERESIS_CUMULATIVE ? 0x1p30 : 0x1p31));
    }
}

static void test_none_is_constant(void **state)
{
    (void)state;
    struct hb_scaler_rule rule = hb_scaler_rule_of(HB_SCALER_NONE);
    struct hb_scaler scaler;
    OK(hb_scaler_set(&rule, "initial", "2^-3"));
    hb_scaler_init(&scaler, &rule);
    for (int i = 0; i < 100; i++) {
        hb_scaler_update(&scaler, i % 3 == 0);
        assert_true(scaler.scale == 0.125);
    }
}

static void test_usable(void **state)
{
    (void)state;
    struct hb_scaler_rule rule = hb_scaler_rule_of(HB_SCALER_TORCH);
    struct hb_scaler scaler;
    hb_scaler_init(&scaler, &rule);
    for (int i = 0; i < 143; i++) {
        OK(hb_scaler_usable(&scaler));
        hb_scaler_update(&scaler, true);
    }
    OK(hb_scaler_usable(&scaler)); /* 2^-127, whose inverse is 2^127 */
    hb_scaler_update(&scaler, true);
    REFUSED(hb_scaler_usable(&scaler), HB_EARGUMENT, "the loss scale has fallen");
}

static void refused(const char *option, const char *value, const char *part)
{
    struct hb_scaler_rule rule = hb_scaler_rule_of(HB_SCALER_TORCH), before = rule;
    REFUSED(hb_scaler_set(&rule, option, value), HB_EARGUMENT, part);
    assert_true(rule.initial == before.initial && rule.min == before.min &&
                rule.hysteresis == before.hysteresis);
}

static void test_refused(void **state)
{
    (void)state;
    enum hb_scaler_preset preset;
    REFUSED(hb_scaler_preset_find("Torch", &preset), HB_EARGUMENT, "none, torch, megatron");
    refused("initial", "1000", "power of two");
    refused("initial", "2^", "power of two");
    refused("initial", "2^200", "power of two");
    refused("initial", "nan", "power of two");
    refused("initial", "-2", "power of two");
    refused("initial", "0", "power of two");
    refused("min", "3", "power of two");
    refused("backoff", "1", "power of two");
    refused("growth_interval", "-1", "integer from 0");
    refused("growth_interval", "7 steps", "integer from 0");
    refused("hysteresis", "0", "integer from 1");
    refused("hysteresis_kind", "sometimes", "cumulative or consecutive");
    refused("skip", "maybe", "true or false");
    refused("window", "7", "unknown option window");
    struct hb_scaler_rule rule = hb_scaler_rule_of(HB_SCALER_TORCH);
    OK(hb_scaler_set(&rule, "min", "2^17"));
    REFUSED(hb_scaler_check(&rule), HB_EARGUMENT, "initial (65536) must be from min (131072)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_traces), cmocka_unit_test(test_steady_states),
        cmocka_unit_test(test_hysteresis),    cmocka_unit_test(test_none_is_constant),
        cmocka_unit_test(test_usable),        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
