/* The loss scaler: a state machine that turns "a gradient of this step was not
 * finite" into the loss scale of the next step. Powers of two only, so that
 * scaling and unscaling are exact (docs/loss-scaling.md).
 *
 * The losses of a step are multiplied by `scale`, its gradients by 1 / scale
 * before anybody looks at them. A step whose gradients are not finite is skipped:
 * parameters, moments, masters, learning-rate step and selection bias stay, the
 * data moves on.
 *
 * One decision for the world: `found` is the maximum over all ranks, and every
 * rank updates its own copy with it. */
#ifndef HB_TRAIN_SCALER_H
#define HB_TRAIN_SCALER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum hb_scaler_preset {
    HB_SCALER_NONE,      /* the scale stays as it is */
    HB_SCALER_TORCH,     /* torch.amp.GradScaler */
    HB_SCALER_MEGATRON,  /* Megatron-LM, DynamicGradScaler */
    HB_SCALER_DEEPSPEED, /* DeepSpeed, DynamicLossScaler */
    HB_SCALER_APEX,      /* apex.amp.LossScaler */
    HB_SCALER_ARTICLE,   /* the article's rule, applied to the gradients */
    HB_SCALER_ARTICLE_LITERAL, /* the article's code as it is written: it tests the loss and trains nothing */
    HB_SCALER_PRESETS
};

/* What gives the patience back after overflows that did not lower the scale. */
enum hb_hysteresis {
    HB_HYSTERESIS_CUMULATIVE, /* only a growth of the scale */
    HB_HYSTERESIS_CONSECUTIVE /* any clean step */
};

struct hb_scaler_rule {
    enum hb_scaler_preset preset;
    double initial, min, max;     /* of the scale; min 0: none */
    double backoff;               /* factor after an overflow */
    int64_t growth_interval;      /* clean steps after which the scale doubles; 0: never */
    int64_t hysteresis;           /* the n-th overflow lowers the scale; 1: every one */
    enum hb_hysteresis hysteresis_kind;
    bool late_growth; /* DeepSpeed's count: the first growth after an overflow comes a step later */
    bool stop_at_min; /* an overflow at the minimum ends the run */
    double smallest;  /* a scale below it becomes 0: the smallest number of the system's type */
    bool skip;        /* false: updates are applied even if they are not finite */
};

struct hb_scaler {
    struct hb_scaler_rule rule;
    /* what a checkpoint keeps */
    double scale;
    int64_t clean;    /* clean steps since the last overflow, or (but late_growth) since the last growth */
    int64_t patience; /* overflows left before the scale is lowered */
};

enum hb_scaler_action {
    HB_SCALER_KEEP,     /* a clean step */
    HB_SCALER_GROW,     /* a clean step, and the scale has doubled */
    HB_SCALER_HOLD,     /* an overflow that leaves the scale, by hysteresis or as it is constant */
    HB_SCALER_BACK_OFF, /* an overflow; the scale is lower, or at its minimum */
    HB_SCALER_STOP      /* an overflow at the minimum: the run ends */
};

/* The rule of a system, with that system's defaults. */
struct hb_scaler_rule hb_scaler_rule_of(enum hb_scaler_preset preset);
const char *hb_scaler_preset_name(enum hb_scaler_preset preset);
const char *hb_scaler_action_name(enum hb_scaler_action action);
/* HB_EARGUMENT lists the names. */
HB_MUST_USE hb_status hb_scaler_preset_find(const char *name, enum hb_scaler_preset *preset);

/* Sets one option from text: initial, min, max, backoff (a power of two, as 65536,
 * 2^16 or 0.5), growth_interval, hysteresis, hysteresis_kind, skip. HB_EARGUMENT
 * says what it must be. */
HB_MUST_USE hb_status hb_scaler_set(struct hb_scaler_rule *rule, const char *option, const char *value);
/* A scale alone: `initial`, but the message names no option, since nobody wrote one. */
HB_MUST_USE hb_status hb_scaler_set_constant(struct hb_scaler_rule *rule, const char *value);
/* Do the options fit together? */
HB_MUST_USE hb_status hb_scaler_check(const struct hb_scaler_rule *rule);

void hb_scaler_init(struct hb_scaler *scaler, const struct hb_scaler_rule *rule);

/* After a step: scaler->scale is that of the next one. */
enum hb_scaler_action hb_scaler_update(struct hb_scaler *scaler, bool found_nonfinite);

/* Can a step run at this scale? 1 / scale must be an fp32 number. */
HB_MUST_USE hb_status hb_scaler_usable(const struct hb_scaler *scaler);

#endif
