/* The folders in RUN/checkpoints:
 *
 *     step-00000100/   a checkpoint, complete since the moment it had this name
 *     latest           symbolic link to the checkpoint written last
 *     .step-*          leftovers of a process that was stopped while it wrote:
 *                      .tmp unfinished, .old put aside for a new one of the
 *                      same number, .gone being removed
 *
 * Names only change by rename, and each change is synced before the next. One
 * process at a time may change them (the lock of the run folder). */
#ifndef HB_TRAIN_CHECKPOINT_FOLDERS_H
#define HB_TRAIN_CHECKPOINT_FOLDERS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { HB_CHECKPOINT_PATH = 4096 };

/* RUN/checkpoints into `path`; HB_EARGUMENT when it would be too long. */
HB_MUST_USE hb_status hb_checkpoint_root(const char *run_folder, char path[HB_CHECKPOINT_PATH]);

/* ROOT/step-N, or with a suffix ROOT/.step-N.SUFFIX. */
HB_MUST_USE hb_status hb_checkpoint_path(const char *root, int64_t step, const char *suffix,
                                         char path[HB_CHECKPOINT_PATH]);

/* The checkpoints there are, whole or not, in the order of preference: the one
 * that `latest` names, then earlier ones from the newest back, then later ones
 * (of a run that was taken back to an earlier step) likewise. free(*steps) is
 * the caller's; NULL when there is none. */
HB_MUST_USE hb_status hb_checkpoint_list(const char *root, int64_t **steps, size_t *count);

/* Puts back what was put aside and removes the other leftovers. */
HB_MUST_USE hb_status hb_checkpoint_remove_leftovers(const char *root);

/* Gives ROOT/.step-N.tmp, complete and synced, its name and points `latest` to it. */
HB_MUST_USE hb_status hb_checkpoint_publish(const char *root, int64_t step);

/* Removes all but the first `keep` of hb_checkpoint_list; never the first. */
HB_MUST_USE hb_status hb_checkpoint_prune(const char *root, int keep);

#endif
