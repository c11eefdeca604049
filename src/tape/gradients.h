/* Gradients of a step: leaves of microbatches, folded along the canonical tree.
 *
 * A weight gradient of one microbatch is a leaf. Whoever makes it asks where to
 * put it, writes it with the epilogue that it is told, and says that it is
 * done; the fold merges what has become siblings. Leaves may come in any order.
 * When all M microbatches are in, close() leaves the roots in param->use[0].root. */
#ifndef HB_TAPE_GRADIENTS_H
#define HB_TAPE_GRADIENTS_H

#include "tape/param.h"

struct hb_gradients {
    struct hb_context *context;
    struct hb_pool pool; /* pending nodes */
    int64_t microbatches; /* M of this step */
};

/* Where a leaf goes. */
struct hb_leaf {
    /* fp32, shape of the parameter; rounded at the end if nodes are bf16 */
    struct hb_tensor out;
    struct hb_tensor present;          /* flags, data NULL: none */
    enum hb_product_epilogue epilogue; /* STORE, or ADD onto the sibling that waits there */
    int node;                          /* index in the use's list; -1: a leaf of no microbatch */
    struct hb_buffer *buffer[2];       /* of such a leaf, which nobody wants */
};

void hb_gradients_init(struct hb_gradients *gradients, struct hb_context *context);
void hb_gradients_release(struct hb_gradients *gradients);

/* Starts a step of M microbatches: no parameter has a leaf; the pool's peak begins anew. */
void hb_gradients_begin(struct hb_gradients *gradients, int64_t microbatches, struct hb_param *const *params,
                        int64_t count);

/* Microbatch -1: a rank takes part without one of its own; the leaf goes nowhere.
 * `whole`: the leaf comes from one call and may be added onto its sibling
 * (an unflagged one); otherwise it gets a buffer of its own and STORE. With
 * flags the epilogue is always ADD, onto absent parts where nothing waits. */
HB_MUST_USE hb_status hb_leaf_begin(struct hb_gradients *gradients, struct hb_param *param, int use,
                                    int64_t microbatch, bool whole, struct hb_leaf *leaf);
HB_MUST_USE hb_status hb_leaf_end(struct hb_gradients *gradients, struct hb_param *param, int use,
                                  const struct hb_leaf *leaf);

/* --- of several ranks (parallel/reduce.h) --- */

/* The node [begin, end) of a use: HB_EINTERNAL if it is not there. */
HB_MUST_USE hb_status hb_gradients_node(struct hb_gradients *gradients, const struct hb_param *param, int use,
                                        int64_t begin, int64_t end, struct hb_tensor *value,
                                        struct hb_tensor *present);
/* Lets go of a use's nodes within [begin, end). */
void hb_gradients_drop(struct hb_gradients *gradients, struct hb_param *param, int use, int64_t begin,
                       int64_t end);
/* Checks that a use's fold is complete, and turns absent parts into +0. */
HB_MUST_USE hb_status hb_gradients_close_use(struct hb_gradients *gradients, struct hb_param *param, int use);

/* --- of one rank --- */

/* Ends the step: checks that every fold is complete, turns absent parts into
 * +0 and adds the roots of tied uses in block order. */
HB_MUST_USE hb_status hb_gradients_close(struct hb_gradients *gradients, struct hb_param *const *params,
                                         int64_t count);

#endif
