/* A parameter: one tensor of weights, or a stack of equal ones (the experts of
 * a layer), with its gradient. Weights are stored [out, in] as in PyTorch.
 *
 * A stack of G experts holds G logical tensors, named one by one as Hugging
 * Face names them; everything that goes by name (checkpoint, norm, digest,
 * initialisation) sees those. */
#ifndef HB_TAPE_PARAM_H
#define HB_TAPE_PARAM_H

#include "tape/pool.h"

enum { HB_PARAM_USES_MAX = 2, HB_PARAM_NAME_MAX = 160 };

struct hb_range {
    int64_t begin, end;
};

/* A node [begin, end) of the fold tree over microbatches that has been summed
 * but whose sibling has not arrived (numerics.md rule 18). */
struct hb_fold_node {
    int64_t begin, end;
    struct hb_buffer *buffer;         /* NULL: the sum is in the use's own root tensor (begin == 0) */
    struct hb_buffer *present_buffer; /* NULL: root_present, or no flags */
    struct hb_buffer *wide;           /* a leaf that is made in fp32 and will be rounded; NULL: none */
};

/* One place of the model that uses a parameter, with its own fold. */
struct hb_param_use {
    struct hb_tensor root;    /* fp32 or bf16 (param_grad), shape of the parameter */
    struct hb_tensor present; /* i32, a flag per part; data NULL: none needed */
    struct hb_fold_node *nodes; /* owned while there are any */
    int node_count;
};

struct hb_param {
    /* The logical name; of a stack, the text before and after the expert's
     * number: "model.layers.3.mlp.experts." and ".up_proj.weight". */
    char name[HB_PARAM_NAME_MAX];
    char name_after[HB_PARAM_NAME_MAX]; /* "" unless a stack */
    int64_t groups;                     /* logical tensors here: 1, or of a stack G or a rank's share */
    int64_t first_group, all_groups;    /* which of how many of the model's */
    int64_t block;                      /* of the model, to which it belongs */
    /* Of several ranks that share it, each keeps a run of whole chunks: these
     * elements of the flat tensor; a rank alone keeps all. `level` is the ZeRO
     * level at which it is shared: from 1 on masters and moments, from 2 on the
     * gradient's root too, and at 3 the value, exist for these elements only.
     * A unit is what is shared as one list of chunks: the dense parameters of a
     * block, its experts, a tied embedding. */
    struct hb_range shard;
    int level;
    int64_t unit_first, unit_chunks; /* chunks of its unit before it; all */
    bool decay;                         /* weight decay applies */
    bool trained;                       /* false: moved by a rule (selection bias), not by a gradient */
    struct hb_tensor value;             /* [..] or [G, ..]; at level 3 without memory until it is gathered */
    struct hb_tensor kept;              /* level 3: the shard, flat */
    struct hb_tensor master;            /* fp32 of 16-bit weights; data NULL: the weights are their own */
    struct hb_tensor m, v;              /* moments, fp32 */
    int64_t present_parts;              /* flags a use needs: experts of a stack, rows of an embedding, 0 */
    int use_count;
    struct hb_param_use use[HB_PARAM_USES_MAX];
};

/* Elements of one logical tensor; of all. */
int64_t hb_param_part_count(const struct hb_param *param);
int64_t hb_param_count(const struct hb_param *param);
/* Chunks of 4096 elements; every logical tensor begins a new one. */
int64_t hb_param_chunks(const struct hb_param *param);
/* Where chunk number `chunk` of the parameter begins, as an element; chunk == all
 * of them: the end. */
int64_t hb_param_chunk_begin(const struct hb_param *param, int64_t chunk);

/* Elements `range` of the flat parameter in `t`, which holds all of them or
 * those of the shard; flat, or `t` itself where nothing is a shard. */
struct hb_tensor hb_param_elements(const struct hb_param *param, struct hb_tensor t, struct hb_range range);

/* An extent: a run of whole chunks in a form that ops take: `groups` equal logical tensors,
 * or one piece of one. */
struct hb_extent {
    struct hb_range range;
    int64_t groups;
    int64_t group;       /* the first logical tensor it has elements of */
    int64_t first_chunk; /* of that one */
};
enum { HB_EXTENTS_MAX = 3 };
int hb_param_extents(const struct hb_param *param, struct hb_range range,
                     struct hb_extent extents[HB_EXTENTS_MAX]);

/* "model.layers.3.mlp.experts.*.up_proj.weight": the name of a stack, of anything else the logical one. */
const char *hb_param_whole_name(const struct hb_param *param, char *text, size_t size);

/* Gives the memory of the weights its name in a trace, under which every logical tensor
 * has its own if the trace looks for what is not finite. */
HB_MUST_USE hb_status hb_param_call(struct hb_context *context, const struct hb_param *param);

/* Sets the weights that are here from all values of the parameter. */
HB_MUST_USE hb_status hb_param_set(struct hb_context *context, struct hb_param *param, const float *values);

/* Name of logical tensor first_group + g into `text` (HB_PARAM_NAME_MAX * 2 bytes are enough). */
const char *hb_param_logical_name(const struct hb_param *param, int64_t g, char *text, size_t size);

#endif
