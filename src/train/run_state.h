/* state.json of a checkpoint: where a run stands, besides its tensors. */
#ifndef HB_TRAIN_RUN_STATE_H
#define HB_TRAIN_RUN_STATE_H

#include <stdint.h>

#include "core/hash.h"
#include "train/spikes.h"

struct hb_run_state {
    uint64_t seed;
    int64_t attempted; /* steps so far; also the checkpoint's number */
    int64_t applied;   /* updates so far: as optimizer->applied */
    int64_t samples;   /* global number of the next sample */
    int64_t tokens;    /* trained on so far */
    /* of the loss scaler (train/scaler.h), for the next step */
    double scale;
    int64_t scaler_clean, scaler_patience;
    int64_t skips; /* steps in a row, up to the last one, whose update was skipped or not finite */
    struct hb_spike_window spike_loss, spike_grad_norm; /* train/spikes.h */
    char digest[HB_DIGEST_TEXT + 1];
};

HB_MUST_USE hb_status hb_run_state_write(const char *path, const struct hb_run_state *state);

/* HB_EFORMAT names a key that is missing or impossible; HB_EUNSUPPORTED: the
 * state of another numerics version, which would go on with other bits. */
HB_MUST_USE hb_status hb_run_state_read(const char *path, struct hb_run_state *state);

#endif
