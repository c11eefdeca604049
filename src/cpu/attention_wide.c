/* Attention on 16-bit tensors: through fp32 copies of all of them. */
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/row.h"
#include "cpu/wide.h"

enum { TENSORS = 32 };

struct copies {
    void *memory[TENSORS];
};

/* Replaces the 16-bit tensors of a call by fp32 copies. */
static hb_status widen(struct hb_context *context, const struct hb_op_entry *op, char *args, struct copies *copies)
{
    for (int i = 0; i < op->tensor_count; i++) {
        struct hb_tensor t, narrow;
        memcpy(&narrow, args + op->tensors[i].offset, sizeof narrow);
        if (!narrow.data || (narrow.dtype != HB_BF16 && narrow.dtype != HB_F16))
            continue;
        t = narrow;
        t.dtype = HB_F32;
        HB_TRY(hb_memory_alloc(HB_MEMORY_WORKSPACE, hb_tensor_bytes(&t), &copies->memory[i]));
        t.data = copies->memory[i];
        if (op->tensors[i].use & HB_READS)
            HB_TRY(HB_CPU(cast)(context, &(struct hb_cast_args){.x = narrow, .out = t}));
        memcpy(args + op->tensors[i].offset, &t, sizeof t);
    }
    return HB_OK;
}

static hb_status narrow(struct hb_context *context, const struct hb_op_entry *op, const char *args, const char *wide,
                        const struct copies *copies)
{
    for (int i = 0; i < op->tensor_count; i++)
        if (copies->memory[i] && (op->tensors[i].use & HB_WRITES)) {
            struct hb_cast_args cast;
            memcpy(&cast.x, wide + op->tensors[i].offset, sizeof cast.x);
            memcpy(&cast.out, args + op->tensors[i].offset, sizeof cast.out);
            HB_TRY(HB_CPU(cast)(context, &cast));
        }
    return HB_OK;
}

#define THROUGH_FLOATS(name)                                                                                   \
    hb_status HB_CPU(name##_any)(struct hb_context *context, const struct hb_##name##_args *args)              \
    {                                                                                                          \
        const struct hb_op_entry *op = hb_op_find(#name);                                                      \
        struct hb_##name##_args wide = *args;                                                                  \
        struct copies copies = {{NULL}};                                                                       \
        hb_status status = widen(context, op, (char *)&wide, &copies);                                         \
        if (status == HB_OK)                                                                                   \
            status = HB_CPU(name)(context, &wide);                                                             \
        if (status == HB_OK)                                                                                   \
            status = narrow(context, op, (const char *)args, (const char *)&wide, &copies);                    \
        for (int i = 0; i < TENSORS; i++)                                                                      \
            hb_memory_free(copies.memory[i]);                                                                  \
        return status;                                                                                         \
    }
THROUGH_FLOATS(attention_forward)
THROUGH_FLOATS(attention_backward)
