#include "train/scaler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const preset_names[] = {"none", "torch",   "megatron",       "deepspeed",
                                           "apex", "article", "article-literal"};
static const char *const hysteresis_names[] = {"cumulative", "consecutive"};

#define SINGLE 0x1p-149  /* of a scale that is an fp32 number */
#define DOUBLE 0x1p-1074 /* of one that is a Python float */
#define MOST 0x1p127     /* the largest power of two of fp32 */

/* Sources: torch/amp/grad_scaler.py; megatron/core/optimizer/grad_scaler.py;
 * deepspeed/runtime/fp16/loss_scaler.py; apex/amp/scaler.py. The article names no
 * numbers; its start and cap are apex's. */
struct hb_scaler_rule hb_scaler_rule_of(enum hb_scaler_preset preset)
{
    struct hb_scaler_rule rule = {
        .preset = preset, .initial = 0x1p16, .max = MOST, .backoff = 0.5, .hysteresis = 1, .smallest = DOUBLE,
        .skip = true};
    switch (preset) {
    case HB_SCALER_TORCH:
        rule.growth_interval = 2000;
        rule.smallest = SINGLE;
        break;
    case HB_SCALER_MEGATRON:
        rule.initial = 0x1p32;
        rule.min = 1;
        rule.growth_interval = 1000;
        rule.hysteresis = 2;
        rule.smallest = SINGLE;
        break;
    case HB_SCALER_DEEPSPEED:
        rule.min = 1;
        rule.growth_interval = 1000;
        rule.hysteresis = 2;
        rule.late_growth = true;
        rule.stop_at_min = true;
        break;
    case HB_SCALER_APEX:
        rule.growth_interval = 2000;
        rule.max = 0x1p24;
        break;
    case HB_SCALER_ARTICLE:
    case HB_SCALER_ARTICLE_LITERAL:
        rule.growth_interval = 1;
        rule.max = 0x1p24;
        rule.skip = preset == HB_SCALER_ARTICLE;
        break;
    default:
        rule.initial = 1;
    }
    return rule;
}

const char *hb_scaler_preset_name(enum hb_scaler_preset preset)
{
    return preset_names[preset];
}

const char *hb_scaler_action_name(enum hb_scaler_action action)
{
    static const char *const names[] = {"keep", "grow", "hold", "back-off", "stop"};
    return names[action];
}

hb_status hb_scaler_preset_find(const char *name, enum hb_scaler_preset *preset)
{
    for (int i = 0; i < HB_SCALER_PRESETS; i++)
        if (strcmp(name, preset_names[i]) == 0) {
            *preset = (enum hb_scaler_preset)i;
            return HB_OK;
        }
    return HB_FAIL(HB_EARGUMENT,
                   "must be none, torch, megatron, deepspeed, apex, article or article-literal, got '%.40s'",
                   name);
}

/* "2^16", "65536", "0.5": exactly a power of two, of fp32's normal range. */
static bool read_power(const char *text, double *value)
{
    char *end;
    uint64_t bits;
    if (strncmp(text, "2^", 2) == 0) {
        long exponent = strtol(text + 2, &end, 10);
        if (end == text + 2 || *end || exponent < -126 || exponent > 127)
            return false;
        bits = (uint64_t)(exponent + 1023) << 52;
        memcpy(value, &bits, sizeof bits);
        return true;
    }
    *value = strtod(text, &end);
    memcpy(&bits, value, sizeof bits);
    return end != text && !*end && *value >= 0x1p-126 && *value <= MOST && bits << 12 == 0;
}

static hb_status set_power(double *to, const char *option, const char *text, double lowest, double highest)
{
    double value;
    if (!read_power(text, &value) || value < lowest || value > highest)
        return HB_FAIL(HB_EARGUMENT,
                       "%s%smust be a power of two from %g to %g, as in 65536 or 2^16, got '%.40s'", option,
                       option[0] ? " " : "", lowest, highest, text);
    *to = value;
    return HB_OK;
}

static hb_status set_count(int64_t *to, const char *option, const char *text, int64_t lowest)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < lowest || value > 1000000000)
        return HB_FAIL(HB_EARGUMENT, "%s must be an integer from %lld to 1000000000, got '%.40s'", option,
                       (long long)lowest, text);
    *to = value;
    return HB_OK;
}

hb_status hb_scaler_set_constant(struct hb_scaler_rule *rule, const char *value)
{
    return set_power(&rule->initial, "", value, 0x1p-126, MOST);
}

hb_status hb_scaler_set(struct hb_scaler_rule *rule, const char *option, const char *value)
{
    if (strcmp(option, "initial") == 0)
        return set_power(&rule->initial, option, value, 0x1p-126, MOST);
    if (strcmp(option, "max") == 0)
        return set_power(&rule->max, option, value, 0x1p-126, MOST);
    if (strcmp(option, "min") == 0 && strcmp(value, "0") == 0) {
        rule->min = 0;
        return HB_OK;
    }
    if (strcmp(option, "min") == 0)
        return set_power(&rule->min, option, value, 0x1p-126, MOST);
    if (strcmp(option, "backoff") == 0)
        return set_power(&rule->backoff, option, value, 0x1p-16, 0.5);
    if (strcmp(option, "growth_interval") == 0)
        return set_count(&rule->growth_interval, option, value, 0);
    if (strcmp(option, "hysteresis") == 0)
        return set_count(&rule->hysteresis, option, value, 1);
    if (strcmp(option, "hysteresis_kind") == 0) {
        for (int i = 0; i < 2; i++)
            if (strcmp(value, hysteresis_names[i]) == 0) {
                rule->hysteresis_kind = (enum hb_hysteresis)i;
                return HB_OK;
            }
        return HB_FAIL(HB_EARGUMENT, "hysteresis_kind must be cumulative or consecutive, got '%.40s'", value);
    }
    if (strcmp(option, "skip") == 0) {
        rule->skip = strcmp(value, "true") == 0;
        if (!rule->skip && strcmp(value, "false") != 0)
            return HB_FAIL(HB_EARGUMENT, "skip must be true or false, got '%.40s'", value);
        return HB_OK;
    }
    return HB_FAIL(HB_EARGUMENT,
                   "unknown option %.40s; there are initial, growth_interval, backoff, hysteresis, "
                   "hysteresis_kind, min, "
                   "max and skip",
                   option);
}

hb_status hb_scaler_check(const struct hb_scaler_rule *rule)
{
    if (rule->initial < rule->min || rule->initial > rule->max)
        return HB_FAIL(HB_EARGUMENT, "initial (%g) must be from min (%g) to max (%g)", rule->initial,
                       rule->min, rule->max);
    return HB_OK;
}

void hb_scaler_init(struct hb_scaler *scaler, const struct hb_scaler_rule *rule)
{
    *scaler = (struct hb_scaler){.rule = *rule, .scale = rule->initial, .patience = rule->hysteresis};
}

static enum hb_scaler_action overflow(struct hb_scaler *s)
{
    const struct hb_scaler_rule *rule = &s->rule;
    s->clean = 0;
    if (s->patience > 1) {
        s->patience--;
        return HB_SCALER_HOLD;
    }
    if (rule->stop_at_min && s->scale == rule->min)
        return HB_SCALER_STOP;
    s->scale = s->scale * rule->backoff;
    if (s->scale < rule->smallest)
        s->scale = 0;
    if (s->scale < rule->min)
        s->scale = rule->min;
    return HB_SCALER_BACK_OFF;
}

static enum hb_scaler_action clean(struct hb_scaler *s)
{
    const struct hb_scaler_rule *rule = &s->rule;
    if (rule->hysteresis_kind == HB_HYSTERESIS_CONSECUTIVE)
        s->patience = rule->hysteresis;
    bool due = rule->growth_interval > 0 && (rule->late_growth
                                                 ? s->clean > 0 && s->clean % rule->growth_interval == 0
                                                 : s->clean + 1 == rule->growth_interval);
    s->clean = due && !rule->late_growth ? 0 : s->clean + 1;
    if (!due)
        return HB_SCALER_KEEP;
    s->patience = rule->hysteresis;
    if (s->scale * 2 > rule->max)
        return HB_SCALER_KEEP;
    s->scale = s->scale * 2;
    return HB_SCALER_GROW;
}

enum hb_scaler_action hb_scaler_update(struct hb_scaler *scaler, bool found_nonfinite)
{
    if (scaler->rule.preset == HB_SCALER_NONE)
        return found_nonfinite ? HB_SCALER_HOLD : HB_SCALER_KEEP;
    return found_nonfinite ? overflow(scaler) : clean(scaler);
}

hb_status hb_scaler_usable(const struct hb_scaler *scaler)
{
    if (scaler->scale >= 0x1p-127 && scaler->scale <= MOST)
        return HB_OK;
    return HB_FAIL(HB_EARGUMENT,
                   "the loss scale has fallen to %g, whose inverse is no fp32 number; give loss_scale a min, "
                   "or look for "
                   "what is not finite",
                   scaler->scale);
}
