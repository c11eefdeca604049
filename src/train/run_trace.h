/* The trace of a run (ops/trace.h): RUN/trace.jsonl for some of its steps, and
 * on request the tensors themselves in RUN/trace-values/. Each of several ranks
 * writes what it did into RUN/trace/rank-NNNNN.jsonl and RUN/trace-values/rank-NNNNN/.
 * No bit of the run depends on it. */
#ifndef HB_TRAIN_RUN_TRACE_H
#define HB_TRAIN_RUN_TRACE_H

#include "model/model.h"
#include "ops/trace.h"

/* What to trace: steps from .. to, counted from 1 as in metrics.jsonl. */
struct hb_trace_request {
    int64_t from, to;
    int64_t values_step,
        values_call; /* keep the tensors of this step, -1: of none; of this call, -1: of all */
};

struct hb_run_trace {
    struct hb_trace_request request;
    struct hb_context *context;
    struct hb_op_trace trace;
};

/* Gives the model's memory its names in the trace of its context. */
HB_MUST_USE hb_status hb_run_trace_names(const struct hb_model *model);

/* Removes lines after step `keep_steps` from all traces of the run, before any is opened. */
HB_MUST_USE hb_status hb_run_trace_trim(const char *run_folder, int64_t keep_steps);

/* Opens the trace for appending. `rank` -1: the run has only one. The model's memory gets its names. */
HB_MUST_USE hb_status hb_run_trace_create(const char *run_folder, int rank,
                                          const struct hb_trace_request *request, struct hb_model *model,
                                          struct hb_run_trace **out);
/* NULL is allowed, here and below. */
void hb_run_trace_destroy(struct hb_run_trace *trace);

/* Around step number `step`: its calls are traced if it was asked for. */
void hb_run_trace_begin(struct hb_run_trace *trace, int64_t step);
HB_MUST_USE hb_status hb_run_trace_end(struct hb_run_trace *trace);

#endif
