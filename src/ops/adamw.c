#include "ops/adamw.h"

#include "core/hash.h"
#include "ops/check.h"

static hb_status check_hash(const struct hb_context *context, const struct hb_adamw_args *args)
{
    int64_t each = hb_tensor_count(&args->param) / args->groups;
    HB_TRY(hb_check_tensor(context, "adamw", "chunk_hash", &args->chunk_hash, HB_ONLY(HB_I64), 1));
    return hb_check_size("adamw", "chunk_hash", &args->chunk_hash, 0,
                         args->groups * ((each + HB_CHUNK - 1) / HB_CHUNK));
}

/* Where 16-bit weights come in: a copy of fp32 masters, or param itself. */
static hb_status check_storage(const struct hb_context *context, const struct hb_adamw_args *args)
{
    const char *op = "adamw";
    bool wide = args->param.dtype == hb_real_dtype(context);
    if (hb_given(&args->stored)) {
        HB_TRY(hb_check_tensor(context, op, "stored", &args->stored, HB_FLOATS, 0));
        HB_TRY(hb_check_shape(op, "stored", &args->stored, "param", &args->param));
        if (!wide)
            return HB_FAIL(HB_EARGUMENT, "adamw: stored is a copy of fp32 masters; param is %s",
                           hb_dtype_name(args->param.dtype));
        HB_TRY(hb_check_apart(op, "stored", &args->stored, "param", &args->param));
        HB_TRY(hb_check_apart(op, "stored", &args->stored, "grad", &args->grad));
        HB_TRY(hb_check_apart(op, "stored", &args->stored, "m", &args->m));
        HB_TRY(hb_check_apart(op, "stored", &args->stored, "v", &args->v));
    }
    if (args->first < 0 || args->first % HB_CHUNK != 0)
        return HB_FAIL(HB_EARGUMENT, "adamw: first (%lld) must be a multiple of %d", (long long)args->first,
                       HB_CHUNK);
    if (!hb_given(&args->names))
        return HB_OK;
    if (wide)
        return HB_FAIL(HB_EARGUMENT,
                       "adamw: names asks for stochastic rounding of a param that is not rounded");
    HB_TRY(hb_check_tensor(context, op, "names", &args->names, HB_ONLY(HB_I64), 1));
    return hb_check_size(op, "names", &args->names, 0, args->groups);
}

hb_status hb_adamw(struct hb_context *context, const struct hb_adamw_args *args)
{
    const char *op = "adamw";
    HB_TRY(hb_check_tensor(context, op, "param", &args->param, HB_FLOATS, 0));
    HB_TRY(hb_check_tensor(context, op, "grad", &args->grad, HB_FLOATS, 0));
    HB_TRY(hb_check_tensor(context, op, "m", &args->m, HB_REAL, 0));
    HB_TRY(hb_check_tensor(context, op, "v", &args->v, HB_REAL, 0));
    int64_t count = hb_tensor_count(&args->param);
    if (hb_tensor_count(&args->grad) != count || hb_tensor_count(&args->m) != count ||
        hb_tensor_count(&args->v) != count)
        return HB_FAIL(HB_ESHAPE, "adamw: param has %lld elements, grad %lld, m %lld, v %lld; must be equal",
                       (long long)count, (long long)hb_tensor_count(&args->grad),
                       (long long)hb_tensor_count(&args->m), (long long)hb_tensor_count(&args->v));
    HB_TRY(hb_check_apart(op, "param", &args->param, "grad", &args->grad));
    HB_TRY(hb_check_apart(op, "param", &args->param, "m", &args->m));
    HB_TRY(hb_check_apart(op, "param", &args->param, "v", &args->v));
    HB_TRY(hb_check_apart(op, "m", &args->m, "v", &args->v));
    HB_TRY(hb_check_apart(op, "m", &args->m, "grad", &args->grad));
    HB_TRY(hb_check_apart(op, "v", &args->v, "grad", &args->grad));
    HB_TRY(hb_check_tensor(context, op, "coef", &args->coef, HB_REAL, 1));
    HB_TRY(hb_check_size(op, "coef", &args->coef, 0, 1));
    HB_TRY(hb_check_tensor(context, op, "found", &args->found, HB_ONLY(HB_I32), 1));
    HB_TRY(hb_check_size(op, "found", &args->found, 0, 1));
    if (args->groups < 1 || count % args->groups != 0)
        return HB_FAIL(HB_ESHAPE, "adamw: param (%lld elements) must divide into %lld groups",
                       (long long)count, (long long)args->groups);
    HB_TRY(check_storage(context, args));
    if (hb_given(&args->chunk_hash))
        HB_TRY(check_hash(context, args));
    HB_DISPATCH(context, adamw, args, 0);
}
