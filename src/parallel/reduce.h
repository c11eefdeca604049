/* The fold of gradients across ranks (numerics.md rules 18 and 19).
 *
 * Every rank folds the leaves of its own microbatches as far as they are
 * siblings. What remains, nodes of the tree, is cut along the shards, each piece
 * goes to the rank that keeps the shard, and the fold is finished there. Bytes
 * move; nothing is added on the way. Absent parts are marked (parallel/absence.h).
 *
 * Levels 0 and 1: one reduction at the end of the step. Levels 2 and 3: one in
 * every round, so that no whole gradient outlives it. */
#ifndef HB_PARALLEL_REDUCE_H
#define HB_PARALLEL_REDUCE_H

#include "parallel/shard.h"
#include "tape/gradients.h"

/* A node of a shard's fold; the one that begins at 0 lies in the root itself. */
struct hb_shard_node {
    int64_t begin, end;
    struct hb_buffer *buffer, *present; /* NULL: in the root; no flags */
};

/* Ranks hold runs of microbatches, and these come in order: what waits is logarithmic. */
enum { HB_SHARD_NODES_MAX = 64 };

struct hb_shard_fold {
    struct hb_shard_node nodes[HB_SHARD_NODES_MAX];
    int count;
};

struct hb_reducer {
    struct hb_sharding *sharding;
    struct hb_gradients *gradients;
    const struct hb_wire *wire;
    /* rank in the pipe that has the other use of a tied embedding; -1: it is here, or there is none */
    int tied_peer;
    int64_t microbatches;
    struct hb_shard_fold *folds; /* [parameters * uses] */
    int32_t *present; /* flags of a piece that is packed or unpacked, on the host */
};

HB_MUST_USE hb_status hb_reducer_init(struct hb_reducer *reducer, struct hb_sharding *sharding,
                                      struct hb_gradients *gradients, int tied_peer);
void hb_reducer_release(struct hb_reducer *reducer);

/* Is the microbatch of a rank reduced in its round (levels 2, 3)? */
bool hb_reducer_scattered(const struct hb_reducer *reducer);

/* Starts a step of M microbatches, as hb_gradients_begin. */
void hb_reduce_begin(struct hb_reducer *reducer, int64_t M);

/* Levels 2 and 3, when the weight gradients of a block are made in a round: sends
 * the nodes that the ranks hold of it to the keepers of the shards. Collective: data. */
HB_MUST_USE hb_status hb_reduce_block(struct hb_reducer *reducer, int64_t block, int64_t round);

/* After the last leaf: reduces what is left (levels 0, 1), makes absent parts +0,
 * adds the uses of a tied matrix. Leaves this rank's shard, at level 0 the whole,
 * of every gradient in use[0].root. Collective: world. */
HB_MUST_USE hb_status hb_reduce_close(struct hb_reducer *reducer);

#endif
