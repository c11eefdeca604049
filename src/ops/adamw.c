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

hb_status hb_adamw(struct hb_context *context, const struct hb_adamw_args *args)
{
    const char *op = "adamw";
    HB_TRY(hb_check_tensor(context, op, "param", &args->param, HB_REAL, 0));
    HB_TRY(hb_check_tensor(context, op, "grad", &args->grad, HB_REAL, 0));
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
    if (hb_given(&args->chunk_hash))
        HB_TRY(check_hash(context, args));
    HB_DISPATCH(context, adamw, args, 0);
}
