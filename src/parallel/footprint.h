/* The memory of a rank by category: what the plan foretells and a run counts. */
#ifndef HB_PARALLEL_FOOTPRINT_H
#define HB_PARALLEL_FOOTPRINT_H

enum hb_footprint {
    HB_FOOTPRINT_PARAMETERS,  /* weights, or the shard that is kept of them; tables of the rotation */
    HB_FOOTPRINT_GRADIENTS,   /* roots of the fold, or their shards; flags of presence */
    HB_FOOTPRINT_OPTIMIZER,   /* masters and moments */
    HB_FOOTPRINT_GATHERED,    /* level 3: weights of which a shard is kept, while they are whole */
    HB_FOOTPRINT_ACTIVATIONS, /* of all microbatches in flight */
    HB_FOOTPRINT_FOLD,        /* leaves and nodes that wait for their sibling */
    HB_FOOTPRINT_EXCHANGE,    /* staging of gradients, weights and rows of experts */
    HB_FOOTPRINT_MESSAGES,    /* between stages, from when they are made until they are through */
    HB_FOOTPRINTS
};
const char *hb_footprint_name(enum hb_footprint which);

#endif
