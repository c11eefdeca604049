/* Where the traces of two runs of different layouts part. What a rank calls depends on the layout: experts
 * have the rows of several microbatches, gradients are folded in other places, updates are of shards. What is
 * the same is what every block hands to the next one: the output of the last call of its forward pass, and of
 * its input gradient, of every microbatch (of the head, only the latter). So these are compared. */
#ifndef HB_TRAIN_TRACE_BLOCKS_H
#define HB_TRAIN_TRACE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct hb_trace_blocks {
    int64_t equal;                 /* results that both have, equal, up to the first that differs */
    int64_t first_step, last_step; /* of those that both have; -1: none */
    int64_t step;                  /* the first that differs; -1: none */
    int64_t microbatch;
    char block[32], pass[32];  /* "decoder 2", "forward" */
    char a[48], b[48];         /* digests */
};

/* Has the run a trace: of one rank (RUN/trace.jsonl), of several (RUN/trace/rank-NNNNN.jsonl)? */
bool hb_trace_is_of_one(const char *run);
bool hb_trace_is_of_several(const char *run);
/* All of them; the caller frees the paths and the list. */
HB_MUST_USE hb_status hb_trace_files(const char *run, char ***paths, size_t *count);

/* HB_EFORMAT for a line that is no trace's; last lines cut short are passed over. */
HB_MUST_USE hb_status hb_trace_blocks_compare(const char *run_a, const char *run_b,
                                              struct hb_trace_blocks *out);

#endif
