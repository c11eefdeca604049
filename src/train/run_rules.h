/* Keys of the run configuration that are a word or a map: what to recompute, how
 * the loss is scaled, what counts as a spike. A node of NULL (an absent key) gives
 * the default. HB_EFORMAT with the place in the file. */
#ifndef HB_TRAIN_RUN_RULES_H
#define HB_TRAIN_RUN_RULES_H

#include "core/yaml.h"
#include "model/model.h"
#include "train/scaler.h"
#include "train/spikes.h"

/* none, selective, full, or {every: k}. */
HB_MUST_USE hb_status hb_recompute_read(const struct hb_yaml_node *node, struct hb_recompute *recompute);

/* A preset; a number: that scale, constant; or {preset: torch, growth_interval: 100, ...}. */
HB_MUST_USE hb_status hb_loss_scale_read(const struct hb_yaml_node *node, struct hb_scaler_rule *rule);

/* {window: 128, loss: 6, grad_norm: 6}, at least one of the limits. */
HB_MUST_USE hb_status hb_spikes_read(const struct hb_yaml_node *node, struct hb_spike_rule *rule);

#endif
