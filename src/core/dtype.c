#include "core/dtype.h"

static const struct {
    const char *name;
    size_t size;
} table[HB_DTYPE_COUNT] = {
    [HB_F64] = {"f64", 8}, [HB_F32] = {"f32", 4}, [HB_BF16] = {"bf16", 2}, [HB_F16] = {"f16", 2},
    [HB_I64] = {"i64", 8}, [HB_I32] = {"i32", 4}, [HB_U8] = {"u8", 1},
};

size_t hb_dtype_size(enum hb_dtype dtype)
{
    return table[dtype].size;
}

const char *hb_dtype_name(enum hb_dtype dtype)
{
    return table[dtype].name;
}
