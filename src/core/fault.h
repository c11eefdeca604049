/* Faults on request, to prove that nothing is lost when a process dies or hangs.
 *
 * A plan of faults is a list of words, one for each attempt at a run:
 *
 *     fold@3/1          rank 1 kills itself (SIGKILL) where it folds gradients in step 3
 *     hang:exchange@2   rank 0 sleeps for ever in its first exchange of step 2
 *     fail:forward@2/3  rank 3 reports an error in its first forward pass of step 2
 *     -                 no fault in this attempt
 *
 * Separated by spaces. Steps count from 1. Unarmed, which is the rule, a fault
 * point is one comparison. */
#ifndef HB_CORE_FAULT_H
#define HB_CORE_FAULT_H

#include <stdint.h>

#include "core/status.h"

enum hb_fault_phase {
    HB_FAULT_NONE,
    HB_FAULT_FORWARD,
    HB_FAULT_EXCHANGE,  /* rows of experts, messages of a pipeline */
    HB_FAULT_FOLD,      /* gradients of the step become one */
    HB_FAULT_OPTIMIZER, /* some parameters are updated, others not */
    HB_FAULT_WRITE,     /* some files of a checkpoint are written, others not */
    HB_FAULT_SHARD,     /* half of the file with a rank's own moments is written */
    HB_FAULT_RENAME,    /* the checkpoint has its name, `latest` points to the one before */
    HB_FAULT_PHASES
};

/* Arms the word number `attempt` (from 0; behind the last: none) for a process of this rank. `text` NULL:
 * none. */
HB_MUST_USE hb_status hb_fault_arm(const char *text, int64_t attempt, int rank);

/* Arms what HB_FAULT says, for attempt number HB_ATTEMPT (0), for the rank that a launcher gave this
 * process. */
HB_MUST_USE hb_status hb_fault_arm_from_environment(void);

/* The step that runs now, from 1. */
void hb_fault_step(int64_t step);

/* Where a fault may happen; HB_EIO if it is an error that was asked for. */
HB_MUST_USE hb_status hb_fault_point(enum hb_fault_phase phase);

#endif
