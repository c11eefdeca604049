/* Checkpoints of a run: RUN/checkpoints/step-00000100/ with
 *
 *     model.safetensors, config.json            transformers loads the folder (model/weights.h)
 *     tokenizer.json, tokenizer_config.json     copies
 *     optimizer-RRRRR-of-NNNNN.safetensors      one of each rank that saved it (train/moments.h)
 *     state.json                                train/run_state.h
 *     manifest.json                             sizes and hashes of the others
 *
 * and RUN/checkpoints/latest, a link to the newest. A checkpoint is written into
 * a temporary folder, every file and folder is synced, and one rename makes it
 * a checkpoint: whatever happens while it is written (full disk, kill -9, loss
 * of power), earlier ones stay whole. */
#ifndef HB_TRAIN_CHECKPOINT_H
#define HB_TRAIN_CHECKPOINT_H

#include "train/optimizer.h"
#include "train/run_state.h"

/* Of several ranks, save and load are collective (world); the others are for the
 * first one.
 *
 * Saves checkpoint number state->attempted. `state`: applied and digest are
 * taken from the optimizer, not from here. `tokenizer`: a tokenizer.json or its
 * folder, or NULL. Of the earlier checkpoints the newest keep - 1 stay; 0 keeps
 * all. Only one process at a time may write into a run folder. */
HB_MUST_USE hb_status hb_checkpoint_save(const char *run_folder, struct hb_optimizer *optimizer,
                                         const struct hb_run_state *state, const char *tokenizer, int keep);

/* The path of the newest whole checkpoint: the one that `latest` names, else
 * earlier ones; each damaged one on the way is a warning in the log. `path`
 * becomes "" when there is no checkpoint. HB_EFORMAT when there are some, but
 * none is whole: nobody is to start anew over them in silence. */
HB_MUST_USE hb_status hb_checkpoint_find(const char *run_folder, char *path, size_t size);

/* Reads every byte of a checkpoint. HB_EFORMAT names the file that is not as
 * it was written. */
HB_MUST_USE hb_status hb_checkpoint_verify(const char *path);

/* Verifies and loads a checkpoint into a trained model of the same
 * configuration. Refused by name, with nothing changed: a damaged checkpoint, another
 * numerics version (HB_EUNSUPPORTED), another configuration (HB_EARGUMENT).
 * HB_EINTERNAL if the digest of what was loaded is not the one that was saved. */
HB_MUST_USE hb_status hb_checkpoint_load(const char *path, struct hb_model *model,
                                         struct hb_optimizer *optimizer, struct hb_run_state *state);

/* Removes what an interrupted save left in a run folder. hb_checkpoint_save
 * does so too. Only for who holds the run folder's lock. */
HB_MUST_USE hb_status hb_checkpoint_clean(const char *run_folder);

#endif
