/* A backend: one const struct of typed function pointers.
 *
 * Backends are pure arithmetic. Everything that can be wrong with a call
 * (shapes, dtypes, whose memory it is) is checked once, in src/ops, before a
 * backend sees it. `ref` is complete; another backend may leave an op NULL,
 * which is an error that names backend and op when somebody needs it, or name
 * a `base` whose entries it inherits. Nothing falls back in silence.
 *
 * A float tensor of whose dtype an op's header says nothing may be stored in any
 * type of the backend's `storage`, each tensor of a call in its own: bf16
 * activations, fp16 weights, fp32 gradients. What is read is widened, arithmetic
 * is fp32, and what is stored is rounded once, to nearest even (core/dtype.h;
 * docs/numerics.md rule 8). "fp32" in a header means fp32 and nothing else.
 *
 * Memory belongs to the backend: only copy_in and copy_out cross. Work may be
 * asynchronous: it is ordered as it was asked for, and an error of earlier work
 * may surface at any later call, at the latest at sync. Workspace is the
 * backend's own: it grows in the first step and then stays. */
#ifndef HB_OPS_BACKEND_H
#define HB_OPS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/tensor.h"
#include "ops/adamw.h"
#include "ops/add.h"
#include "ops/attention.h"
#include "ops/balance.h"
#include "ops/cast.h"
#include "ops/clip.h"
#include "ops/column_sum.h"
#include "ops/combine.h"
#include "ops/cross_entropy.h"
#include "ops/digest.h"
#include "ops/dispatch.h"
#include "ops/embedding.h"
#include "ops/finite.h"
#include "ops/fold.h"
#include "ops/product.h"
#include "ops/rmsnorm.h"
#include "ops/rope.h"
#include "ops/router.h"
#include "ops/sum.h"
#include "ops/swiglu.h"

/* What a plug-in was compiled against. It rises with every change of struct hb_backend or
 * of the arguments of an op, optional ones too: an old object would leave them out in silence. */
#define HB_BACKEND_API 3

/* The numerics contract (docs/numerics.md) that this library keeps. */
#define HB_NUMERICS_VERSION 1

enum hb_numerics { HB_CANONICAL, HB_FAST };

struct hb_backend;
struct hb_comm;
struct hb_op_clock;
struct hb_op_trace;

/* An opened backend. Not for two threads at once. */
struct hb_context {
    const struct hb_backend *backend;
    enum hb_numerics numerics;
    int threads;               /* OpenMP threads of CPU backends, >= 1 */
    void *state;               /* the backend's own: workspace, queue, device */
    struct hb_op_clock *clock; /* NULL, or time per op (ops/clock.h) */
    struct hb_op_trace *trace; /* NULL, or a digest of every argument (ops/trace.h) */
};

#define HB_STORAGE(dtype) (1u << (dtype))

/* What a device could do at best: fp32 FMAs (counted 2) and bytes of its memory a second. */
struct hb_limits {
    char device[256];
    double flops, bytes;
};

/* Elements [begin, end) of a gradient whose parts, absent or present, have `size` elements each: a flag for
 * each part that they touch, if only by one element (parallel/absence.h). All in the backend's memory. */
struct hb_parted {
    void *values;
    enum hb_dtype dtype;
    int64_t begin, end, size;
    int32_t *present;
};

struct hb_backend {
    uint32_t api_version; /* HB_BACKEND_API */
    const char *name;     /* "ref", "ref64", "cpu" */
    const char *base;     /* NULL, or the backend whose entries fill the gaps */
    const char *about;    /* one line for `hornbook ops` */
    uint32_t storage;     /* HB_STORAGE bits of the float types its tensors may have */
    bool host_memory;     /* its memory is the host's: bytes move between ranks without a copy */
    bool unpooled;        /* it wants to see every life of a buffer: nobody keeps one for reuse */

    /* life and memory: required */
    hb_status (*open)(struct hb_context *context);
    void (*close)(struct hb_context *context);
    hb_status (*alloc)(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                       void **out);
    void (*free)(struct hb_context *context, void *memory);
    hb_status (*copy_in)(struct hb_context *context, void *to, const void *host, size_t bytes);
    hb_status (*copy_out)(struct hb_context *context, void *host, const void *from, size_t bytes);
    hb_status (*copy)(struct hb_context *context, void *to, const void *from, size_t bytes);
    hb_status (*zero)(struct hb_context *context, void *memory, size_t bytes);
    hb_status (*sync)(struct hb_context *context);
    /* NULL: bytes go to other ranks through the host. A communicator of the ranks of `host`, which outlives
     * it, whose messages lie in this backend's memory and are counted with host's: for messages between two
     * ranks (`pairs`), or for exchanges and gathers of all. HB_EUNSUPPORTED says, on all ranks, what is
     * missing for that. Collective: world, each rank with its own group of the same kind. */
    hb_status (*join)(struct hb_context *context, struct hb_comm *host, bool pairs, struct hb_comm **out);
    /* With join: marks absent parts in what is sent, and reads the marks: the bits of parallel/absence.h. */
    hb_status (*mark_absent)(struct hb_context *context, const struct hb_parted *parted);
    hb_status (*read_absent)(struct hb_context *context, const struct hb_parted *parted);
    hb_status (*limits)(struct hb_context *context, struct hb_limits *out); /* NULL: it is the host */

    /* ops: required for a training step */
    hb_status (*embedding_forward)(struct hb_context *, const struct hb_embedding_forward_args *);
    hb_status (*embedding_backward)(struct hb_context *, const struct hb_embedding_backward_args *);
    hb_status (*product)(struct hb_context *, const struct hb_product_args *);
    hb_status (*rmsnorm_forward)(struct hb_context *, const struct hb_rmsnorm_forward_args *);
    hb_status (*rmsnorm_backward_input)(struct hb_context *, const struct hb_rmsnorm_backward_input_args *);
    hb_status (*rmsnorm_backward_weight)(struct hb_context *, const struct hb_rmsnorm_backward_weight_args *);
    hb_status (*rope)(struct hb_context *, const struct hb_rope_args *);
    hb_status (*attention_forward)(struct hb_context *, const struct hb_attention_forward_args *);
    hb_status (*attention_backward)(struct hb_context *, const struct hb_attention_backward_args *);
    hb_status (*router_forward)(struct hb_context *, const struct hb_router_forward_args *);
    hb_status (*router_backward)(struct hb_context *, const struct hb_router_backward_args *);
    hb_status (*balance_loss)(struct hb_context *, const struct hb_balance_loss_args *);
    hb_status (*balance_bias)(struct hb_context *, const struct hb_balance_bias_args *);
    hb_status (*dispatch_plan)(struct hb_context *, const struct hb_dispatch_plan_args *);
    hb_status (*dispatch_forward)(struct hb_context *, const struct hb_dispatch_forward_args *);
    hb_status (*dispatch_backward)(struct hb_context *, const struct hb_dispatch_backward_args *);
    hb_status (*combine_forward)(struct hb_context *, const struct hb_combine_forward_args *);
    hb_status (*combine_backward)(struct hb_context *, const struct hb_combine_backward_args *);
    hb_status (*swiglu_forward)(struct hb_context *, const struct hb_swiglu_forward_args *);
    hb_status (*swiglu_backward)(struct hb_context *, const struct hb_swiglu_backward_args *);
    hb_status (*add)(struct hb_context *, const struct hb_add_args *);
    hb_status (*cross_entropy)(struct hb_context *, const struct hb_cross_entropy_args *);
    hb_status (*column_sum)(struct hb_context *, const struct hb_column_sum_args *);
    hb_status (*fold_merge)(struct hb_context *, const struct hb_fold_merge_args *);
    hb_status (*fold_close)(struct hb_context *, const struct hb_fold_close_args *);
    hb_status (*sum)(struct hb_context *, const struct hb_sum_args *);
    hb_status (*clip)(struct hb_context *, const struct hb_clip_args *);
    hb_status (*finite)(struct hb_context *, const struct hb_finite_args *);
    hb_status (*adamw)(struct hb_context *, const struct hb_adamw_args *);
    hb_status (*cast)(struct hb_context *, const struct hb_cast_args *);
    hb_status (*digest)(struct hb_context *, const struct hb_digest_args *);
};

/* Opens a backend for use; `threads` 0 means the processors at hand. */
HB_MUST_USE hb_status hb_context_open(const struct hb_backend *backend, enum hb_numerics numerics,
                                      int threads, struct hb_context *out);
void hb_context_close(struct hb_context *context);

/* Memory of the context, through its backend. */
HB_MUST_USE hb_status hb_alloc(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                               void **out);
void hb_free(struct hb_context *context, void *memory);
HB_MUST_USE hb_status hb_copy_in(struct hb_context *context, struct hb_tensor to, const void *host);
HB_MUST_USE hb_status hb_copy_out(struct hb_context *context, void *host, struct hb_tensor from);
HB_MUST_USE hb_status hb_copy(struct hb_context *context, struct hb_tensor to, struct hb_tensor from);
HB_MUST_USE hb_status hb_zero(struct hb_context *context, struct hb_tensor t);
HB_MUST_USE hb_status hb_sync(struct hb_context *context);

/* The dtype of sums, statistics and master weights on this backend: fp32, or
 * fp64 on the double form of ref, which has no other. */
enum hb_dtype hb_real_dtype(const struct hb_context *context);

/* Between fp32 numbers on the host and a float tensor: rounded into bf16 and fp16,
 * and from fp64; else exact. */
HB_MUST_USE hb_status hb_copy_in_f32(struct hb_context *context, struct hb_tensor to, const float *host);
HB_MUST_USE hb_status hb_copy_out_f32(struct hb_context *context, float *host, struct hb_tensor from);

#endif
