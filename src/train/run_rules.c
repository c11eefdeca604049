#include "train/run_rules.h"

#include <string.h>

hb_status hb_recompute_read(const struct hb_yaml_node *node, struct hb_recompute *recompute)
{
    static const char *const words[] = {
        [HB_RECOMPUTE_NONE] = "none", [HB_RECOMPUTE_SELECTIVE] = "selective", [HB_RECOMPUTE_FULL] = "full"};
    *recompute = (struct hb_recompute){.kind = HB_RECOMPUTE_NONE};
    if (!node)
        return HB_OK;
    const struct hb_yaml_node *every = hb_yaml_child(node, "every");
    if (node->kind == HB_YAML_MAP && every && node->count == 1) {
        recompute->kind = HB_RECOMPUTE_EVERY;
        HB_TRY(hb_yaml_int(every, &recompute->every));
        return recompute->every >= 1 ? HB_OK : hb_yaml_fail(every, "must be at least 1, got %s", every->text);
    }
    for (size_t i = 0; node->kind == HB_YAML_SCALAR && i < sizeof words / sizeof words[0]; i++)
        if (words[i] && strcmp(node->text, words[i]) == 0) {
            recompute->kind = (enum hb_recompute_kind)i;
            return HB_OK;
        }
    return hb_yaml_fail(node,
                        "must be none, selective, full, or a map with the one key every, as in {every: 2}");
}

/* Puts the place before the last message. */
static hb_status at(const struct hb_yaml_node *node)
{
    return hb_yaml_fail(node, "%s", hb_error());
}

static hb_status read_preset(const struct hb_yaml_node *node, struct hb_scaler_rule *rule)
{
    const char *name;
    enum hb_scaler_preset preset;
    HB_TRY(hb_yaml_string(node, &name));
    if (hb_scaler_preset_find(name, &preset) != HB_OK)
        return at(node);
    *rule = hb_scaler_rule_of(preset);
    return HB_OK;
}

static bool is_number(const char *text)
{
    return text[0] && strchr("0123456789.+-", text[0]);
}

hb_status hb_loss_scale_read(const struct hb_yaml_node *node, struct hb_scaler_rule *rule)
{
    *rule = hb_scaler_rule_of(HB_SCALER_NONE);
    if (!node)
        return HB_OK;
    if (node->kind == HB_YAML_SCALAR && is_number(node->text))
        return hb_scaler_set_constant(rule, node->text) == HB_OK ? HB_OK : at(node);
    if (node->kind == HB_YAML_SCALAR)
        return read_preset(node, rule);
    const struct hb_yaml_node *preset = hb_yaml_child(node, "preset");
    if (node->kind != HB_YAML_MAP || !preset)
        return hb_yaml_fail(
            node, "must be a preset (none, torch, megatron, deepspeed, apex, article, article-literal), "
                  "a number, or a map with preset and options");
    HB_TRY(read_preset(preset, rule));
    for (size_t i = 0; i < node->count; i++) {
        const struct hb_yaml_node *item = node->items[i];
        const char *value;
        if (item == preset)
            continue;
        HB_TRY(hb_yaml_string(item, &value));
        if (hb_scaler_set(rule, item->key, value) != HB_OK)
            return at(item);
    }
    return hb_scaler_check(rule) == HB_OK ? HB_OK : at(node);
}

hb_status hb_spikes_read(const struct hb_yaml_node *node, struct hb_spike_rule *rule)
{
    *rule = (struct hb_spike_rule){0};
    if (!node)
        return HB_OK;
    if (node->kind != HB_YAML_MAP)
        return hb_yaml_fail(node, "must be a map, as in {window: 128, loss: 6, grad_norm: 6}");
    rule->window = 128;
    for (size_t i = 0; i < node->count; i++) {
        const struct hb_yaml_node *item = node->items[i];
        if (strcmp(item->key, "window") == 0) {
            HB_TRY(hb_yaml_int(item, &rule->window));
            if (rule->window < 2 || rule->window > HB_SPIKE_WINDOW_MAX)
                return hb_yaml_fail(item, "must be from 2 to %d, got %s", HB_SPIKE_WINDOW_MAX, item->text);
            continue;
        }
        double *limit = strcmp(item->key, "loss") == 0        ? &rule->loss
                        : strcmp(item->key, "grad_norm") == 0 ? &rule->grad_norm
                                                              : NULL;
        if (!limit)
            return hb_yaml_fail(item, "unknown key; there are window, loss and grad_norm");
        HB_TRY(hb_yaml_float(item, limit));
        if (!(*limit > 0))
            return hb_yaml_fail(item, "must be above 0, got %s", item->text);
    }
    if (rule->loss == 0 && rule->grad_norm == 0)
        return hb_yaml_fail(node, "needs a limit for loss or grad_norm; leave the key out for no rule");
    return HB_OK;
}
