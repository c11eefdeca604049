/* A trace: the place and the digest of every tensor of every call of an op, so
 * that two runs can be compared call by call (docs/diff.md).
 *
 * When a context carries a trace, every call through src/ops appends a line of
 * JSON to it:
 *     {"step": 3, "call": 57, "microbatch": 1, "block": "decoder 0", "pass": "forward", "op": "product",
 *      "with": {"form": "NT", "epilogue": "STORE"},
 *      "in": {"a": ["f32[37,40]", "0123456789abcdef"], "b": [..., ..., "weights of lm_head.weight"]},
 *      "out": {"out": [...]}}
 * A digest is XXH3-64 of the little-endian values, every NaN taken as the one of
 * core/dtype.h, parts that are flagged absent as zeros; "in" is before the call,
 * "out" after it. Where the bits are canonical, the lines do not depend on
 * backend, threads or memory. */
#ifndef HB_OPS_TRACE_H
#define HB_OPS_TRACE_H

#include <stdio.h>
#include <string.h>

#include "ops/backend.h"
#include "ops/table.h"

/* Where in the model a call belongs; layer -1: none. */
struct hb_trace_place {
    const char *block;
    int64_t layer;
};

/* A tensor kept on the host. */
struct hb_trace_value {
    char name[48];           /* "in.x" */
    struct hb_tensor tensor; /* home NULL; data malloc'd */
};

struct hb_trace_name {
    const void *data; /* NULL: a free entry */
    const char *what; /* "weights of" */
    char *name;       /* owned */
    bool part;        /* of a stack of tensors the one that begins here */
};

enum { HB_TRACE_VALUES_MAX = 32 };

struct hb_nonfinite;

struct hb_op_trace {
    struct hb_nonfinite *seek; /* not NULL: nothing is written, but this is looked for (ops/nonfinite.h) */
    FILE *out;
    char path[4096];
    /* the next call's place */
    int64_t step, call, microbatch; /* microbatch -1: none */
    struct hb_trace_place place;
    const char *pass; /* "forward", "input gradient", "weight gradient", "fold", "update" */
    int64_t turn;     /* calls since the block, the direction or the microbatch changed */
    /* memory that has a name */
    struct hb_trace_name *names;
    int64_t name_count, name_capacity;
    /* keeping the tensors themselves */
    char values_folder[4096];
    int64_t values_step, values_call;                  /* step -1: none; call -1: all of the step */
    struct hb_trace_value values[HB_TRACE_VALUES_MAX]; /* of the current call */
    int value_count;
};

/* Appends to the file at `path`. Values, if asked for afterwards, go to files
 * step-00000003-call-000057.safetensors in `values_folder`: tensors "in.a", "out.out", ... */
HB_MUST_USE hb_status hb_trace_open(struct hb_op_trace *trace, const char *path, const char *values_folder);
/* HB_EIO when not everything could be written. */
HB_MUST_USE hb_status hb_trace_flush(struct hb_op_trace *trace);
void hb_trace_close(struct hb_op_trace *trace);

/* Counts calls from 0 again. */
void hb_trace_begin_step(struct hb_op_trace *trace, int64_t step);

/* The name of a values file, without its folder. */
void hb_trace_values_name(int64_t step, int64_t call, char text[64]);

/* All these do nothing on a context without a trace. */
static inline void hb_trace_microbatch(struct hb_context *context, int64_t microbatch)
{
    if (context->trace) {
        context->trace->microbatch = microbatch;
        context->trace->turn = 0;
    }
}

/* The next calls, in the midst of a block, are about rows of this microbatch. */
static inline void hb_trace_rows_of(struct hb_context *context, int64_t microbatch)
{
    if (context->trace)
        context->trace->microbatch = microbatch;
}

static inline void hb_trace_at(struct hb_context *context, struct hb_trace_place place, const char *pass)
{
    struct hb_op_trace *trace = context->trace;
    if (!trace)
        return;
    bool same = trace->place.block && strcmp(trace->place.block, place.block) == 0 &&
                trace->place.layer == place.layer &&
                (strcmp(trace->pass, "forward") == 0) == (strcmp(pass, "forward") == 0);
    trace->turn = same ? trace->turn : 0;
    trace->place = place;
    trace->pass = pass;
}

/* The memory at `data` gets a name ("weights of", "lm_head.weight"), in place of an
 * older one; `what` must outlive the trace. NULL for `data` is allowed. */
HB_MUST_USE hb_status hb_trace_call_it(struct hb_context *context, const void *data, const char *what,
                                       const char *name);
/* The same for one tensor of a stack. */
HB_MUST_USE hb_status hb_trace_call_part(struct hb_context *context, const void *data, const char *what,
                                         const char *name);
bool hb_trace_is_part(const struct hb_op_trace *trace, const void *data);
void hb_trace_forget(struct hb_context *context, const void *data);

/* "weights of lm_head.weight", "" for memory without a name. */
void hb_trace_name_of(const struct hb_op_trace *trace, const void *data, char *text, size_t size);

/* A copy of an argument on the host in the form that is hashed; free(*data). */
HB_MUST_USE hb_status hb_trace_fetch(struct hb_context *context, const void *args,
                                     const struct hb_op_tensor *which, char **data);

/* Around a call; only with a trace. */
HB_MUST_USE hb_status hb_trace_before(struct hb_context *context, const char *op, const void *args);
HB_MUST_USE hb_status hb_trace_after(struct hb_context *context, const char *op, const void *args);

#endif
