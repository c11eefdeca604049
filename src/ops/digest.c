#include "ops/digest.h"

#include "core/hash.h"
#include "ops/check.h"

hb_status hb_digest(struct hb_context *context, const struct hb_digest_args *args)
{
    HB_TRY(hb_check_tensor(context, "digest", "x", &args->x, HB_FLOATS, 0));
    int64_t count = hb_tensor_count(&args->x);
    if (args->groups < 1 || count % args->groups != 0)
        return HB_FAIL(HB_ESHAPE, "digest: x (%lld elements) must divide into %lld groups", (long long)count,
                       (long long)args->groups);
    int64_t each = count / args->groups;
    HB_TRY(hb_check_tensor(context, "digest", "chunk_hash", &args->chunk_hash, HB_ONLY(HB_I64), 1));
    HB_TRY(hb_check_size("digest", "chunk_hash", &args->chunk_hash, 0,
                         args->groups * ((each + HB_CHUNK - 1) / HB_CHUNK)));
    HB_DISPATCH(context, digest, args, 0);
}
