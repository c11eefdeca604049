#include "ops/table.h"

#include <string.h>

#define OFFSET(op) offsetof(struct hb_backend, op)

const struct hb_op_entry hb_op_table[] = {
    {"embedding_forward", "embedding", OFFSET(embedding_forward)},
    {"embedding_backward", "embedding", OFFSET(embedding_backward)},
    {"product", "product", OFFSET(product)},
    {"rmsnorm_forward", "rmsnorm", OFFSET(rmsnorm_forward)},
    {"rmsnorm_backward_input", "rmsnorm", OFFSET(rmsnorm_backward_input)},
    {"rmsnorm_backward_weight", "rmsnorm", OFFSET(rmsnorm_backward_weight)},
    {"rope", "rope", OFFSET(rope)},
    {"attention_forward", "attention", OFFSET(attention_forward)},
    {"attention_backward", "attention", OFFSET(attention_backward)},
    {"router_forward", "router", OFFSET(router_forward)},
    {"router_backward", "router", OFFSET(router_backward)},
    {"balance_loss", "balance", OFFSET(balance_loss)},
    {"balance_bias", "balance", OFFSET(balance_bias)},
    {"dispatch_plan", "dispatch", OFFSET(dispatch_plan)},
    {"dispatch_forward", "dispatch", OFFSET(dispatch_forward)},
    {"dispatch_backward", "dispatch", OFFSET(dispatch_backward)},
    {"combine_forward", "combine", OFFSET(combine_forward)},
    {"combine_backward", "combine", OFFSET(combine_backward)},
    {"swiglu_forward", "swiglu", OFFSET(swiglu_forward)},
    {"swiglu_backward", "swiglu", OFFSET(swiglu_backward)},
    {"add", "add", OFFSET(add)},
    {"cross_entropy", "cross_entropy", OFFSET(cross_entropy)},
    {"column_sum", "column_sum", OFFSET(column_sum)},
    {"fold_merge", "fold", OFFSET(fold_merge)},
    {"fold_close", "fold", OFFSET(fold_close)},
    {"sum", "sum", OFFSET(sum)},
    {"clip", "clip", OFFSET(clip)},
    {"finite", "finite", OFFSET(finite)},
    {"adamw", "adamw", OFFSET(adamw)},
    {"cast", "cast", OFFSET(cast)},
    {"digest", "digest", OFFSET(digest)},
};
const int hb_op_count = sizeof hb_op_table / sizeof hb_op_table[0];

#define ONE(op) +1
_Static_assert(sizeof hb_op_table / sizeof hb_op_table[0] == 0 HB_FOR_EACH_OP(ONE),
               "hb_op_table and HB_FOR_EACH_OP must list the same ops");

/* Op pointers have different types but one representation; they are moved as bytes. */
typedef void (*any_function)(void);

bool hb_backend_has(const struct hb_backend *backend, const struct hb_op_entry *entry)
{
    any_function f;
    memcpy(&f, (const char *)backend + entry->offset, sizeof f);
    return f != NULL;
}

void hb_backend_inherit(const struct hb_backend *backend, const struct hb_backend *base, struct hb_backend *out)
{
    *out = *backend;
    for (int i = 0; i < hb_op_count; i++)
        if (!hb_backend_has(backend, &hb_op_table[i]))
            memcpy((char *)out + hb_op_table[i].offset, (const char *)base + hb_op_table[i].offset,
                   sizeof(any_function));
}
