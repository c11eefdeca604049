/* What every dispatcher of src/ops needs: checks of tensors, and the call.
 *
 * A dispatcher checks a call once, so that backends can assume the contract:
 *   HB_TRY(hb_check_tensor(context, "rmsnorm", "x", &args->x, HB_FLOATS, 2));
 * Messages name op, argument and what it is against what it must be. */
#ifndef HB_OPS_CHECK_H
#define HB_OPS_CHECK_H

#include <stdbool.h>

#include "ops/backend.h"
#include "ops/clock.h"
#include "ops/table.h"
#include "ops/trace.h"

/* Sets of dtypes for hb_check_tensor; HB_FLOATS are the backend's storage types. */
#define HB_FLOATS 0u
#define HB_ONLY(dtype) HB_STORAGE(dtype)
/* The type of sums and statistics: fp32, or fp64 on the double form of ref. */
#define HB_REAL (1u << 31)

/* Home, dtype and rank (0: any) of one argument; data must be there unless the
 * tensor is empty. */
hb_status hb_check_tensor(const struct hb_context *context, const char *op, const char *argument,
                          const struct hb_tensor *t, uint32_t dtypes, int rank);

/* One dimension of one argument. */
hb_status hb_check_size(const char *op, const char *argument, const struct hb_tensor *t, int dimension,
                        int64_t expected);

/* Same dtype and same shape as another argument. */
hb_status hb_check_like(const char *op, const char *argument, const struct hb_tensor *t, const char *other,
                        const struct hb_tensor *like);

/* Same shape as another argument, each in a storage type of its own. */
hb_status hb_check_shape(const char *op, const char *argument, const struct hb_tensor *t, const char *other,
                         const struct hb_tensor *like);

/* Two arguments that must not share memory. */
hb_status hb_check_apart(const char *op, const char *first, const struct hb_tensor *a, const char *second,
                         const struct hb_tensor *b);

/* The result `a` may take the place of `b`, element for element of one size, but not lie across it. */
hb_status hb_check_over(const char *op, const char *first, const struct hb_tensor *a, const char *second,
                        const struct hb_tensor *b);

static inline bool hb_given(const struct hb_tensor *t)
{
    return t->data != NULL;
}

hb_status hb_missing_op(const struct hb_context *context, const char *op);

/* The call itself: `op` is the member of struct hb_backend, `label` what the clock calls it. */
#define HB_DISPATCH(context, op, args, flops) HB_DISPATCH_AS(context, op, #op, args, flops)
#define HB_DISPATCH_AS(context, op, label, args, flops)                            \
    do {                                                                           \
        if (!(context)->backend->op)                                               \
            return hb_missing_op((context), #op);                                  \
        if (!(context)->clock && !(context)->trace)                                \
            return (context)->backend->op((context), (args));                      \
        if ((context)->trace)                                                      \
            HB_TRY(hb_trace_before((context), #op, (args)));                       \
        double hb_start_ = hb_clock_now();                                         \
        hb_status hb_status_ = (context)->backend->op((context), (args));          \
        if ((context)->clock && (context)->clock->waits && hb_status_ == HB_OK)    \
            hb_status_ = hb_sync((context));                                       \
        double hb_seconds_ = hb_clock_now() - hb_start_;                           \
        if ((context)->clock)                                                      \
            hb_op_clock_add((context)->clock, (label), hb_seconds_, (flops),       \
                            hb_op_bytes(#op, (args)));                             \
        if ((context)->trace && hb_status_ == HB_OK)                               \
            hb_status_ = hb_trace_after((context), #op, (args));                   \
        return hb_status_;                                                         \
    } while (0)

#endif
