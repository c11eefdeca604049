/* Less memory for activations: what backward needs is made again instead of
 * kept. No bit depends on it, since the same ops see the same bytes.
 *
 * Segments: a piece of the model runs forward without recording and leaves one
 * entry, which keeps the piece's input. Backward runs the piece forward again,
 * this time recorded, and that record backward. The expert layer's choices are
 * kept, never made again: they were counted once, and in a step of many ranks
 * others have acted on them.
 *
 * Forgetting: a value that costs one pass over memory (a normalised or rotated
 * copy, SwiGLU's product) is let go when the forward pass has used it, and made
 * again by the entry that made it. */
#ifndef HB_TAPE_RECOMPUTE_H
#define HB_TAPE_RECOMPUTE_H

#include "tape/tape.h"

/* What the expert layer decided: buffers and views by its own numbering. */
enum { HB_ROUTING_MAX = 8 };
struct hb_routing {
    struct hb_buffer *buffer[HB_ROUTING_MAX]; /* owned references */
    struct hb_tensor tensor[HB_ROUTING_MAX];
    bool kept; /* a first run has filled it */
};

/* A piece of the model: y = forward(x). It takes no reference on x and gives one
 * on y. Called twice when the tape records; `what` and `carry` stay valid until
 * backward. At most one expert layer. */
struct hb_piece {
    hb_status (*forward)(const struct hb_piece *piece, struct hb_tape *tape, struct hb_var *x,
                         struct hb_var **y);
    const void *model, *block;
    void *carry;
};

HB_MUST_USE hb_status hb_tape_segment(struct hb_tape *tape, const struct hb_piece *piece, struct hb_var *x,
                                      struct hb_var **out);

/* --- for layers --- */

/* Says that `entry`, the newest one, can make out[0] again (kind->again). */
void hb_var_made_by(struct hb_tape *tape, struct hb_entry *entry);

/* For blocks, instead of hb_var_drop: drops the reference, and forgets the value
 * if the tape is forgetful and knows how to make it again. */
void hb_var_forget(struct hb_tape *tape, struct hb_var *var);

/* Before a backward function reads a value that may be forgotten. */
HB_MUST_USE hb_status hb_var_remember(struct hb_tape *tape, struct hb_var *var);

/* --- for the tape --- */

/* NULL is allowed. */
void hb_segment_destroy(struct hb_tape *tape, struct hb_segment *segment);

#endif
