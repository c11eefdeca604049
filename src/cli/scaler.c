#include "cli/scaler.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "core/status.h"
#include "train/scaler.h"

static const char usage[] =
    "usage: hornbook scaler PRESET [option...] < TRACE\n"
    "\n"
    "Replays a trace through a loss scaler. TRACE holds a 0 or a 1 for every step: 1, a\n"
    "gradient was not finite (article-literal: the loss was not finite). White space\n"
    "between them does not matter. Prints for each step the scale that it ran with, what\n"
    "the scaler did after it, and what became of the update.\n"
    "\n"
    "PRESET: none, torch, megatron, deepspeed, apex, article, article-literal.\n"
    "The trace of a run, from its metrics:\n"
    "  jq -r 'if .nonfinite then 1 else 0 end' RUN/metrics.jsonl | hornbook scaler torch\n"
    "\n"
    "  --initial X           the first scale, a power of two: 65536 or 2^16\n"
    "  --growth-interval N   clean steps after which the scale doubles; 0: never\n"
    "  --backoff X           factor after an overflow, a power of two below 1\n"
    "  --hysteresis N        the N-th overflow lowers the scale\n"
    "  --hysteresis-kind K   cumulative: patience comes back when the scale grows;\n"
    "                        consecutive: with any clean step\n"
    "  --min X, --max X      bounds of the scale\n"
    "  --help                this text\n";

static const char *update_text(const struct hb_scaler_rule *rule, bool found)
{
    if (rule->preset == HB_SCALER_ARTICLE_LITERAL)
        return found ? "applied, not finite" : "no backward";
    if (!found)
        return "applied";
    return rule->skip ? "skipped" : "applied, not finite";
}

static hb_status replay(struct hb_scaler *scaler)
{
    int64_t step = 0, found_steps = 0;
    printf("%-8s %-5s %-24s %-9s %s\n", "step", "found", "scale", "action", "update");
    for (int c; (c = getchar()) != EOF;) {
        if (c != 0 && strchr(" \t\r\n", c))
            continue;
        step++;
        if (c != '0' && c != '1')
            return HB_FAIL(HB_EFORMAT, "step %" PRId64 " of the trace is '%c', must be 0 or 1", step,
                           c >= ' ' && c < 127 ? c : '?');
        bool found = c == '1';
        found_steps += found;
        double scale = scaler->scale;
        enum hb_scaler_action action = hb_scaler_update(scaler, found);
        printf("%-8" PRId64 " %-5d %-24.17g %-9s %s\n", step, found, scale, hb_scaler_action_name(action),
               update_text(&scaler->rule, found));
        if (action == HB_SCALER_STOP)
            return HB_FAIL(HB_EARGUMENT,
                           "step %" PRId64 ": the scale is at its minimum of %g and cannot fall; "
                           "%s ends the run",
                           step, scale, hb_scaler_preset_name(scaler->rule.preset));
    }
    if (ferror(stdin))
        return HB_FAIL(HB_EIO, "cannot read the trace from standard input: %s", strerror(errno));
    printf("# %" PRId64 " steps, %" PRId64 " not finite (%.4g %%), next scale %.17g\n", step, found_steps,
           step ? 100 * (double)found_steps / (double)step : 0, scaler->scale);
    return HB_OK;
}

int hb_cli_scaler(int argc, char **argv)
{
    enum { OPTIONS = 7 };
    static const char *const names[OPTIONS] = {"initial", "growth_interval", "backoff", "hysteresis",
                                               "hysteresis_kind", "min", "max"};
    const char *value[OPTIONS] = {NULL};
    const struct hb_option options[OPTIONS] = {
        {"--initial", HB_OPTION_TEXT, &value[0], 0, 0},
        {"--growth-interval", HB_OPTION_TEXT, &value[1], 0, 0},
        {"--backoff", HB_OPTION_TEXT, &value[2], 0, 0},    {"--hysteresis", HB_OPTION_TEXT, &value[3], 0, 0},
        {"--hysteresis-kind", HB_OPTION_TEXT, &value[4], 0, 0}, {"--min", HB_OPTION_TEXT, &value[5], 0, 0},
        {"--max", HB_OPTION_TEXT, &value[6], 0, 0},
    };
    int rest, code;
    if (!hb_options_read(argc, argv, options, OPTIONS, usage, &rest, &code))
        return code;
    if (rest != 1)
        return hb_wrong_usage("scaler", rest ? "only one preset, please" : "the preset is missing");
    enum hb_scaler_preset preset;
    if (hb_scaler_preset_find(argv[1], &preset) != HB_OK)
        return hb_wrong_usage("scaler", "PRESET %s", hb_error());
    struct hb_scaler_rule rule = hb_scaler_rule_of(preset);
    for (int i = 0; i < OPTIONS; i++)
        if (value[i] && hb_scaler_set(&rule, names[i], value[i]) != HB_OK)
            return hb_wrong_usage("scaler", "%s: %s", options[i].name, hb_error());
    if (hb_scaler_check(&rule) != HB_OK)
        return hb_wrong_usage("scaler", "%s", hb_error());
    struct hb_scaler scaler;
    hb_scaler_init(&scaler, &rule);
    return hb_finish("scaler", replay(&scaler));
}
