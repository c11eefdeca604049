#include "model/tensor_file.h"

#include <stdlib.h>

enum { PIECE = 1 << 20 }; /* elements on the host at a time */

static struct hb_tensor flat(struct hb_tensor t)
{
    return hb_tensor_1d(t.home, t.data, t.dtype, hb_tensor_count(&t));
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct hb_tensor hb_tensor_part(struct hb_tensor stack, int64_t groups, int64_t g)
{
    int64_t count = hb_tensor_count(&stack) / groups;
    return hb_tensor_rows(flat(stack), g * count, count);
}

static hb_status allocate_piece(int64_t count, const char *name, float **piece)
{
    *piece = malloc((size_t)smaller(count, PIECE) * sizeof **piece + 1);
    return *piece ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for a piece of tensor '%s'", name);
}

hb_status hb_tensor_from_file(struct hb_context *context, const struct hb_safetensors_tensor *from,
                              int64_t begin, struct hb_tensor to)
{
    int64_t count = hb_tensor_count(&to);
    float *piece;
    HB_TRY(allocate_piece(count, from->name, &piece));
    hb_status status = HB_OK;
    for (int64_t i = 0; i < count && status == HB_OK; i += PIECE) {
        int64_t n = smaller(count - i, PIECE);
        struct hb_safetensors_tensor part = *from;
        size_t size = hb_dtype_size(from->dtype);
        part.data = (const char *)from->data + (size_t)(begin + i) * size;
        part.count = n;
        part.bytes = (size_t)n * size;
        status = hb_safetensors_copy_f32(&part, piece);
        if (status == HB_OK)
            status = hb_copy_in_f32(context, hb_tensor_rows(flat(to), i, n), piece);
    }
    free(piece);
    return status;
}

enum hb_dtype hb_tensor_file_dtype(const struct hb_tensor *t)
{
    return t->dtype == HB_BF16 || t->dtype == HB_F16 ? t->dtype : HB_F32;
}

hb_status hb_tensor_to_file(struct hb_context *context, struct hb_tensor from,
                            struct hb_safetensors_writer *writer, const char *name)
{
    int64_t count = hb_tensor_count(&from);
    enum hb_dtype type = hb_tensor_file_dtype(&from);
    float *piece;
    HB_TRY(allocate_piece(count, name, &piece));
    hb_status status = HB_OK;
    for (int64_t i = 0; i < count && status == HB_OK; i += PIECE) {
        int64_t n = smaller(count - i, PIECE);
        struct hb_tensor part = hb_tensor_rows(flat(from), i, n);
        status = type == HB_F32 ? hb_copy_out_f32(context, piece, part) : hb_copy_out(context, piece, part);
        if (status == HB_OK)
            status = hb_safetensors_writer_write(writer, name, piece, (size_t)n * hb_dtype_size(type));
    }
    free(piece);
    return status;
}
