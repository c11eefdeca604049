/* The tape: what a microbatch's forward pass did, so that it can be undone in
 * reverse. Backward is written once per op, in two entries: the gradient of the
 * inputs, and the gradient of the weights, which may be run later (the W part
 * of zero-bubble schedules).
 *
 * Values are variables. Their memory comes from a pool and is reference-counted:
 * the block that made a variable drops it when its forward pass no longer needs
 * it; an entry keeps what its backward needs, and drops it when that has run.
 *
 * Where gradients meet (numerics.md rule 2): consumers in forward program order,
 * the first starts the sum, fp32, rounded once when it is finished. A variable has at most two consumers, so
 * that the order in which the tape meets them cannot matter: a + b is b + a. Layers where more meet (q, k, v;
 * the expert layer) are one entry, which knows its order. */
#ifndef HB_TAPE_TAPE_H
#define HB_TAPE_TAPE_H

#include "ops/trace.h"
#include "tape/gradients.h"
#include "tape/precision.h"

enum { HB_VAR_MAKERS_MAX = 2 };

struct hb_var {
    struct hb_tensor value;
    struct hb_buffer *buffer; /* of value; NULL: the memory is somebody else's, or the value is forgotten */
    int references;
    struct hb_tensor grad;
    struct hb_buffer *grad_buffer; /* NULL: no contribution yet */
    enum hb_dtype grad_dtype;      /* in which the finished gradient is stored */
    bool watched;                  /* its finished gradient is looked at for numbers out of range */
    int consumers;                 /* entries that the gradient comes from */
    int contributions;
    int64_t made_by[HB_VAR_MAKERS_MAX]; /* entries that can make the value again, in order */
    int maker_count;
};

enum { HB_ENTRY_VARS_MAX = 4, HB_ENTRY_SAVED_MAX = 24 };
enum { HB_HEAD_ELEMENTS = 16 << 20 }; /* 64 MB of fp32 */

struct hb_tape;
struct hb_entry;
struct hb_segment;
struct hb_routing;

/* An op's two backward entries, and what makes out[0] once more from what the
 * entry keeps (tape/recompute.h). */
struct hb_entry_kind {
    const char *name;
    hb_status (*backward_input)(struct hb_tape *tape, struct hb_entry *entry);
    hb_status (*backward_weight)(struct hb_tape *tape, struct hb_entry *entry); /* NULL: no weights */
    /* NULL: its value must be kept */
    hb_status (*again)(struct hb_tape *tape, struct hb_entry *entry);
};

struct hb_entry {
    const struct hb_entry_kind *kind;
    struct hb_trace_place place; /* of the block that recorded it */
    struct hb_var *in[HB_ENTRY_VARS_MAX];  /* gradients flow to these; referenced */
    struct hb_var *out[HB_ENTRY_VARS_MAX]; /* from these; referenced */
    struct hb_param *param[HB_ENTRY_VARS_MAX];
    int in_count, out_count, param_count;
    struct hb_buffer *saved[HB_ENTRY_SAVED_MAX]; /* what backward needs besides */
    int saved_count;
    struct hb_tensor tensor[HB_ENTRY_SAVED_MAX]; /* views, the op's own numbering */
    float number[2];
    const void *extra; /* the op's own; owned by the block */
    void *carry;       /* what goes with the microbatch; owned by the carry */
    void *arrivals;    /* of an exchange (tape/exchange.h); owned, free()d */
    struct hb_segment *segment; /* of an entry that runs ops forward again; owned */
    bool input_done, weight_done;
};

struct hb_tape {
    struct hb_context *context;
    struct hb_pool pool;
    struct hb_gradients *gradients; /* where weight gradients go; NULL: forward only */
    int64_t microbatch;             /* number of the microbatch in its step */
    struct hb_trace_place place;    /* the block that runs now, for a trace */
    struct hb_entry *entries;
    int64_t entry_count, entry_capacity;
    int64_t live_vars;     /* for tests: must be 0 after a complete backward */
    int64_t head_elements; /* logits of the head that may exist at a time; no bit depends on it */
    const struct hb_precision *precision; /* the model's; NULL: fp32 */
    bool forgetful;        /* values that are cheap to make again are let go (tape/recompute.h) */
    bool with_weights;     /* the backward that runs now does weights too */
    struct hb_exchange *exchange; /* how rows reach experts elsewhere; NULL: all are here (tape/exchange.h) */
    struct hb_tensor extremes;    /* i64 [2] of watched gradients (ops/finite.h); data NULL: nobody counts */
    void (*between)(const void *whom); /* NULL, or called between ops: what else a rank must look after */
    const void *between_whom;
    struct hb_routing *routing; /* where the expert layer leaves or finds its choices; NULL: nowhere */
};

void hb_tape_init(struct hb_tape *tape, struct hb_context *context);
void hb_tape_release(struct hb_tape *tape);

/* Starts a microbatch. Without gradients nothing is recorded. Whatever an
 * earlier, failed microbatch left is dropped. */
void hb_tape_begin(struct hb_tape *tape, struct hb_gradients *gradients, int64_t microbatch);
bool hb_tape_recording(const struct hb_tape *tape);
/* Lets go of all entries, run or not. */
void hb_tape_drop_entries(struct hb_tape *tape);

/* Runs backward_input of entries [begin, end) from the last to the first, and
 * with `weights` each one's backward_weight right after it. */
HB_MUST_USE hb_status hb_tape_backward_input(struct hb_tape *tape, int64_t begin, int64_t end, bool weights);
/* The postponed weight entries of [begin, end), from the last to the first. */
HB_MUST_USE hb_status hb_tape_backward_weight(struct hb_tape *tape, int64_t begin, int64_t end);

/* --- for ops --- */

/* A variable with fresh memory, stored as its class is; one reference (the caller's). */
HB_MUST_USE hb_status hb_var_create(struct hb_tape *tape, enum hb_class which, int rank, const int64_t *shape,
                                    struct hb_var **out);
struct hb_var *hb_var_share(struct hb_var *var);
void hb_var_drop(struct hb_tape *tape, struct hb_var *var);

/* A new entry; NULL when the tape does not record. References are taken on
 * `in` and `out`. (Out of memory is an error.) */
HB_MUST_USE hb_status hb_tape_record(struct hb_tape *tape, const struct hb_entry_kind *kind, int in_count,
                                     struct hb_var *const *in, int out_count, struct hb_var *const *out,
                                     struct hb_entry **entry);
/* Takes over a reference on `buffer` for the entry's backward. */
void hb_entry_save(struct hb_entry *entry, struct hb_buffer *buffer);

/* Memory for a gradient contribution to `var`, shaped as its value: fp32 if another
 * one will be added, else of the gradient's dtype. The contribution is written to it
 * with STORE; hb_var_contribute then takes the reference over, on failure too, adds
 * to an earlier one if there is one, and rounds what is finished. */
enum hb_dtype hb_var_contribution_dtype(const struct hb_tape *tape, const struct hb_var *var);
HB_MUST_USE hb_status hb_var_grad_buffer(struct hb_tape *tape, const struct hb_var *var,
                                         struct hb_buffer **buffer, struct hb_tensor *grad);
HB_MUST_USE hb_status hb_var_contribute(struct hb_tape *tape, struct hb_var *var, enum hb_dtype dtype,
                                        struct hb_buffer *buffer);

/* The same for all inputs of an entry: memory for each, on failure for none;
 * then their contribution or, if `status` says that the op failed, the memory's
 * return. The first failure comes back. */
HB_MUST_USE hb_status hb_entry_grad_buffers(struct hb_tape *tape, const struct hb_entry *entry,
                                            struct hb_buffer **buffer, struct hb_tensor *grad);
HB_MUST_USE hb_status hb_entry_contribute(struct hb_tape *tape, const struct hb_entry *entry,
                                          struct hb_buffer *const *buffer, hb_status status);

/* A finished sum in *t, in *buffer, becomes one of `dtype`: rounded into fresh memory,
 * unless it is of that type already. On failure both stay as they are. */
HB_MUST_USE hb_status hb_tape_round(struct hb_tape *tape, enum hb_dtype dtype, struct hb_buffer **buffer,
                                    struct hb_tensor *t);

/* Temporary tensors of the pool. */
HB_MUST_USE hb_status hb_tape_scratch(struct hb_tape *tape, enum hb_dtype dtype, int rank,
                                      const int64_t *shape, struct hb_buffer **buffer, struct hb_tensor *out);

#endif
