/* Where two runs part, by what their folders say: config.yaml and metrics.jsonl. */
#ifndef HB_TRAIN_RUN_COMPARE_H
#define HB_TRAIN_RUN_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* --- configuration --- */

struct hb_config_difference {
    char key[128];
    char a[256], b[256]; /* the values as text, "" where the key is missing */
    bool free;           /* no bit depends on it */
};

struct hb_config_differences {
    struct hb_config_difference *list; /* in the order of the files; owned */
    int64_t count;
};

/* HB_EIO, HB_EFORMAT when a config.yaml cannot be read. */
HB_MUST_USE hb_status hb_config_compare(const char *run_a, const char *run_b,
                                        struct hb_config_differences *out);
void hb_config_differences_release(struct hb_config_differences *differences);

/* --- steps --- */

enum { HB_RUN_FIELDS_MAX = 16 };

/* One entry of a step's line that both runs have. */
struct hb_run_field {
    char name[32];
    char a[48], b[48]; /* values as text */
    bool number;
    double x, y; /* if so */
    bool equal;
};

struct hb_run_steps {
    int64_t first, last, count; /* of the lines; 0 without any */
    int64_t digests;            /* lines that have one */
};

struct hb_run_comparison {
    struct hb_run_steps a, b;
    int64_t common;       /* steps that both have, up to the first that differs */
    int64_t equal;        /* of these: steps in which everything that both have is equal */
    int64_t digests;      /* of these: steps in which both have a digest */
    int64_t last_proved;  /* the last step before the first difference whose digests are equal; -1: none */
    int64_t first_common; /* -1: no step in common */
    int64_t parts;        /* the first step that differs; -1: none */
    struct hb_run_field fields[HB_RUN_FIELDS_MAX]; /* of that step */
    int field_count;
};

/* Lines are compared up to the first step that differs: loss, aux_loss, z_loss,
 * experts_used and what else is said of experts, grad_norm, lr, loss_scale,
 * skipped, tokens, held_out_loss and digest, each where both have it. A last
 * line cut short is passed over. */
HB_MUST_USE hb_status hb_run_compare(const char *run_a, const char *run_b, struct hb_run_comparison *out);

#endif
