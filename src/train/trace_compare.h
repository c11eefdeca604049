/* Where the traces of two runs part (ops/trace.h). */
#ifndef HB_TRAIN_TRACE_COMPARE_H
#define HB_TRAIN_TRACE_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum hb_trace_verdict {
    HB_TRACE_MISSING,    /* at least one run has no trace */
    HB_TRACE_APART,      /* no step is traced in both */
    HB_TRACE_EQUAL,      /* all calls of all steps that both have traced */
    HB_TRACE_DIFFERENT,  /* a call with other numbers or digests */
    HB_TRACE_OTHER_WORK, /* another op, shape or place, or a call that one run lacks */
};

/* A tensor or number of the call. */
struct hb_trace_item {
    char side[8];      /* "with", "in", "out" */
    char name[40];     /* of the argument */
    char called[320];  /* "weights of lm_head.weight", "" if it has no name */
    char shape[96];    /* of A; "" for a number */
    char shape_b[96];  /* of B where it is another, else "" */
    char a[40], b[40]; /* digest, or the number's text; "" where missing */
    bool equal;
};

enum { HB_TRACE_ITEMS_MAX = 48 };

struct hb_trace_difference {
    enum hb_trace_verdict verdict;
    bool has_a, has_b;             /* is there a trace */
    int64_t first_step, last_step; /* that both have, as far as was read */
    int64_t calls;                 /* equal ones, over all steps */
    int64_t calls_in_step;         /* equal ones of the step that differs */
    /* the first call that differs */
    int64_t step, call, microbatch;  /* microbatch -1: none */
    char place_a[160], place_b[160]; /* "microbatch 1, decoder 0, forward, product"; "nothing more" */
    char op[40];
    struct hb_trace_item items[HB_TRACE_ITEMS_MAX];
    int item_count;
};

/* HB_EFORMAT for a line that is no trace's; a last line cut short is passed over. */
HB_MUST_USE hb_status hb_trace_compare(const char *run_a, const char *run_b, struct hb_trace_difference *out);

#endif
