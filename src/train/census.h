/* The census of a model: all its logical tensors, of all ranks, in bytewise order
 * of names, and their chunks of 4096 elements. Norm and digest are defined over
 * this list (numerics.md rules 21 and 22), so every rank knows it whole.
 *
 * A rank answers for some of the chunks: those of its shards. (A tied matrix
 * that two stages have is answered for by the one with the embedding.) One
 * number per chunk, made where its elements are, becomes one list for all. */
#ifndef HB_TRAIN_CENSUS_H
#define HB_TRAIN_CENSUS_H

#include "model/model.h"
#include "parallel/mesh.h"

struct hb_logical {
    char *name;
    int64_t count;       /* elements */
    int64_t first_chunk; /* in the list of all chunks */
    bool trained;
    int64_t param, group; /* where this rank has it: in the model's list; -1: nowhere */
};

struct hb_census {
    struct hb_logical *logical; /* by name */
    int64_t logical_count, chunk_count;
    /* this rank's chunks, in the order of its parameters and of their chunks */
    int64_t *first_chunk; /* per parameter: of all its chunks, shard or not, in that order */
    int64_t own_count, *own, *place; /* [own_count]: where in that order, and in the list of all */
    /* all ranks' */
    struct hb_comm *world; /* NULL: one rank */
    size_t *bytes;         /* [ranks] */
    int64_t *places;       /* [chunk_count], as gathered */
    uint64_t *gathered;    /* working memory */
};

/* `mesh` NULL: one rank. Collective: world. */
HB_MUST_USE hb_status hb_census_init(struct hb_census *census, const struct hb_model *model,
                                     const struct hb_mesh *mesh);
void hb_census_release(struct hb_census *census);

/* By name; NULL: no such tensor. */
const struct hb_logical *hb_census_find(const struct hb_census *census, const char *name);

/* local: a number of 8 bytes for each chunk in the order of the parameters here;
 * all: one for each chunk in the order of names. Collective: world. */
HB_MUST_USE hb_status hb_census_gather(struct hb_census *census, const uint64_t *local, uint64_t *all);

#endif
