/* Who keeps what: ZeRO levels 0 to 3 (Rajbhandari et al. 2020, arXiv 1910.02054).
 *
 * Ranks that have the same parameters share them: the D data ranks of a stage its
 * dense parameters, the dp replicas their experts. A *unit* (the dense parameters
 * of a block, its experts, a tied embedding) is a list of chunks of 4096 elements,
 * of which rank r keeps the r-th share. The level says what exists as a shard only:
 *
 *     level   masters, moments   roots of gradients   weights
 *       0     whole              whole                whole
 *       1     shard              whole                whole
 *       2     shard              shard                whole
 *       3     shard              shard                shard, gathered for use
 *
 * At every level a rank folds, checks and reports its shard of the gradients. */
#ifndef HB_PARALLEL_SHARD_H
#define HB_PARALLEL_SHARD_H

#include "model/model.h"
#include "parallel/mesh.h"

/* Parameters [first, first + count) of the model's list. */
struct hb_unit {
    int64_t first, count;
    int64_t block;
    bool experts;
    struct hb_comm *group; /* who shares it; of the mesh's wire */
    /* level 3, the gathered weights */
    int holders;                /* how many want them */
    bool ahead, under_way;      /* one of these is hb_blocks_ahead's; they have not all come */
    struct hb_buffer *gathered; /* their memory; NULL: nobody wants them */
    struct hb_comm_pending pending;
    char *staging; /* while they are under way; NULL where tensors travel themselves */
};

struct hb_sharding {
    struct hb_model *model;
    const struct hb_mesh *mesh;
    int level;
    struct hb_unit *units;
    int64_t unit_count;
    char *send, *recv; /* memory of the wire; grows */
    size_t send_size, recv_size;
    struct hb_pool pool; /* gathered weights, level 3 */
};

/* Divides the parameters of a rank's part, which has no memory yet: sets level and
 * shard of each. Not collective. */
HB_MUST_USE hb_status hb_sharding_init(struct hb_sharding *sharding, struct hb_model *model,
                                       const struct hb_mesh *mesh, int level);
void hb_sharding_release(struct hb_sharding *sharding);

/* The elements of a parameter that rank r of `ranks` keeps. */
struct hb_range hb_shard_of(const struct hb_param *param, int64_t ranks, int64_t r);

/* Memory of the wire of at least so many bytes. */
HB_MUST_USE hb_status hb_sharding_stage(struct hb_sharding *sharding, size_t send, size_t recv);

/* What a gather fills: the weights from their shards, or the roots of gradients. */
enum hb_gathered { HB_GATHER_WEIGHTS, HB_GATHER_ROOTS };
/* Every rank's shard to every rank, for the trained parameters of a unit.
 * Collective: the unit's group. */
HB_MUST_USE hb_status hb_gather_unit(struct hb_sharding *sharding, const struct hb_unit *unit,
                                     enum hb_gathered what);

/* Level 3: the weights of blocks [begin, end), also of the tied embedding if the
 * head is among them, are there from hb_blocks_gather to hb_blocks_release, which
 * may be nested. Without shards nothing happens. Collective: data. */
HB_MUST_USE hb_status hb_blocks_gather(struct hb_sharding *sharding, int64_t begin, int64_t end);
void hb_blocks_release(struct hb_sharding *sharding, int64_t begin, int64_t end);
/* Begins a gather that hb_blocks_gather of the same blocks will end, while others
 * are at work. Weights that are there anyway stay for it. Collective: data. */
HB_MUST_USE hb_status hb_blocks_ahead(struct hb_sharding *sharding, int64_t begin, int64_t end);

/* For hb_sharding_release: lets go of all that is held. */
void hb_unshard_release(struct hb_sharding *sharding);

#endif
