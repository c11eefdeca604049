#include "ops/check.h"

hb_status hb_check_tensor(const struct hb_context *context, const char *op, const char *argument,
                          const struct hb_tensor *t, uint32_t dtypes, int rank)
{
    char text[96];
    uint32_t allowed = dtypes;
    if (dtypes == HB_FLOATS)
        allowed = context->backend->storage;
    else if (dtypes & HB_REAL)
        allowed = (dtypes & ~HB_REAL) | HB_STORAGE(hb_real_dtype(context));
    if (t->rank < 1 || t->rank > HB_RANK_MAX || (rank && t->rank != rank))
        return HB_FAIL(HB_ESHAPE, "%s: %s has rank %d, must be %d", op, argument, t->rank, rank);
    if ((unsigned)t->dtype >= HB_DTYPE_COUNT || !(allowed & HB_STORAGE(t->dtype)))
        return HB_FAIL(HB_ESHAPE, "%s: %s has a dtype that backend %s does not take here (%s)", op, argument,
                       context->backend->name, hb_tensor_describe(t, text, sizeof text));
    for (int d = 0; d < t->rank; d++)
        if (t->shape[d] < 0)
            return HB_FAIL(HB_ESHAPE, "%s: %s has a negative size (%s)", op, argument,
                           hb_tensor_describe(t, text, sizeof text));
    if (t->home != context)
        return HB_FAIL(HB_EARGUMENT, "%s: %s does not live on this backend (%s); copy it in first", op,
                       argument, context->backend->name);
    if (!t->data && hb_tensor_count(t) != 0)
        return HB_FAIL(HB_EARGUMENT, "%s: %s is missing", op, argument);
    return HB_OK;
}

hb_status hb_check_size(const char *op, const char *argument, const struct hb_tensor *t, int dimension,
                        int64_t expected)
{
    char text[96];
    if (t->shape[dimension] != expected)
        return HB_FAIL(HB_ESHAPE, "%s: %s is %s, dimension %d must be %lld", op, argument,
                       hb_tensor_describe(t, text, sizeof text), dimension, (long long)expected);
    return HB_OK;
}

hb_status hb_check_like(const char *op, const char *argument, const struct hb_tensor *t, const char *other,
                        const struct hb_tensor *like)
{
    char a[96], b[96];
    if (t->dtype != like->dtype || !hb_tensor_same_shape(t, like))
        return HB_FAIL(HB_ESHAPE, "%s: %s is %s, must be as %s, %s", op, argument,
                       hb_tensor_describe(t, a, sizeof a), other, hb_tensor_describe(like, b, sizeof b));
    return HB_OK;
}

hb_status hb_check_shape(const char *op, const char *argument, const struct hb_tensor *t, const char *other,
                         const struct hb_tensor *like)
{
    char a[96], b[96];
    if (!hb_tensor_same_shape(t, like))
        return HB_FAIL(HB_ESHAPE, "%s: %s is %s, must have the shape of %s, %s", op, argument,
                       hb_tensor_describe(t, a, sizeof a), other, hb_tensor_describe(like, b, sizeof b));
    return HB_OK;
}

hb_status hb_check_apart(const char *op, const char *first, const struct hb_tensor *a, const char *second,
                         const struct hb_tensor *b)
{
    uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    if (a0 < b0 + hb_tensor_bytes(b) && b0 < a0 + hb_tensor_bytes(a))
        return HB_FAIL(HB_EARGUMENT, "%s: %s and %s share memory; give them separate tensors", op, first,
                       second);
    return HB_OK;
}

hb_status hb_check_over(const char *op, const char *first, const struct hb_tensor *a, const char *second,
                        const struct hb_tensor *b)
{
    if (a->data == b->data && hb_dtype_size(a->dtype) == hb_dtype_size(b->dtype))
        return HB_OK;
    return hb_check_apart(op, first, a, second, b);
}

hb_status hb_missing_op(const struct hb_context *context, const char *op)
{
    return HB_FAIL(HB_EUNSUPPORTED, "backend %s has no op %s; choose another backend", context->backend->name,
                   op);
}
