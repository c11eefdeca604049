/* Planned faults: what goes wrong in a training run, on purpose and at a known
 * step, so that it can be studied what a loss scaler makes of it.
 *
 *   overflow  the losses of the step are multiplied by `factor`: a batch whose
 *             gradients are that much larger
 *   nan       a number of the embedding row of the step's first token is NaN in
 *             this step: an input that is not finite
 *   spike     the step's labels are wrong ones: a finite jump of the loss
 *   weight    element 0 of `tensor` becomes NaN and stays it
 *
 * In every layout the same: each rank that holds the number changes it. */
#ifndef HB_TRAIN_FAULTS_H
#define HB_TRAIN_FAULTS_H

#include "core/yaml.h"
#include "train/batches.h"
#include "train/step.h"

enum hb_fault_kind { HB_FAULT_OVERFLOW, HB_FAULT_NAN, HB_FAULT_SPIKE, HB_FAULT_WEIGHT, HB_FAULT_KINDS };

struct hb_fault {
    int64_t step; /* attempted steps, from 1 */
    enum hb_fault_kind kind;
    double factor;      /* of overflow */
    const char *tensor; /* of weight: a tensor's name; of experts, * for the number means the first */
};

enum { HB_FAULTS_MAX = 1024 };

struct hb_faults {
    const struct hb_fault *list; /* the configuration's */
    int64_t count;
    bool poisoned; /* a number is to be put back after the step, here or on another rank */
    struct hb_tensor where; /* the number; data NULL: not here */
    unsigned char was[8];
};

/* The list under `faults` of a run of `steps`: maps with step, kind and, by kind, factor or tensor. */
HB_MUST_USE hb_status hb_faults_read(const struct hb_yaml_node *node, int64_t steps, struct hb_fault *list,
                                     int64_t *count);

/* HB_EARGUMENT: a weight's tensor is not the model's. Collective, before the first step. */
HB_MUST_USE hb_status hb_faults_check(const struct hb_faults *faults, const struct hb_stepper *stepper);

/* Around step number `step`, whose batches are filled. Collective: the stepper's ranks. */
HB_MUST_USE hb_status hb_faults_begin(struct hb_faults *faults, int64_t step, struct hb_batches *batches,
                                      struct hb_stepper *stepper);
HB_MUST_USE hb_status hb_faults_end(struct hb_faults *faults, struct hb_stepper *stepper);

#endif
