#include "model/carry.h"

#include <stdlib.h>
#include <string.h>

/* One block of memory, cut into tensors; sizes are rounded up so that each
 * starts on a cache line. */
struct cutter {
    char *base;
    size_t used;
};

static struct hb_tensor cut(struct cutter *cutter, const struct hb_context *context, enum hb_dtype dtype,
                            int64_t n0, int64_t n1)
{
    void *data = cutter->base ? cutter->base + cutter->used : NULL;
    struct hb_tensor t = n1 ? hb_tensor_2d(context, data, dtype, n0, n1)
                            : hb_tensor_1d(context, data, dtype, n0);
    cutter->used += (hb_tensor_bytes(&t) + 63) / 64 * 64;
    return t;
}

static void lay_out(struct hb_carry *carry, struct cutter *cutter, int64_t n)
{
    struct hb_context *context = carry->context;
    struct hb_balance *b = &carry->balance;
    enum hb_dtype real = hb_real_dtype(context);
    carry->ids = cut(cutter, context, HB_I32, n, 0);
    carry->labels = cut(cutter, context, HB_I32, n, 0);
    carry->positions.begin = cut(cutter, context, HB_I32, n + 1, 0);
    carry->positions.k_begin = cut(cutter, context, HB_I32, n + 1, 0);
    carry->positions.place = cut(cutter, context, HB_I32, n, 0);
    carry->loss = cut(cutter, context, real, n, 0);
    carry->loss_sum = cut(cutter, context, HB_F64, 1, 0);
    if (!b->layers)
        return;
    b->counts = cut(cutter, context, HB_I64, b->layers, b->experts);
    b->prob_sum = cut(cutter, context, real, b->experts, 0);
    b->fraction = cut(cutter, context, real, b->layers, b->experts);
    b->aux = cut(cutter, context, real, b->layers, 0);
    b->z_squares = cut(cutter, context, HB_F64, b->layers, 0);
}

hb_status hb_carry_init(struct hb_carry *carry, struct hb_context *context,
                        const struct hb_model_config *config, int64_t tokens)
{
    *carry = (struct hb_carry){.context = context, .capacity = tokens};
    carry->balance.kind = config->balance;
    carry->balance.experts = config->num_experts;
    carry->balance.layers = hb_model_config_moe_layers(config);
    struct cutter cutter = {0};
    lay_out(carry, &cutter, tokens);
    HB_TRY(hb_alloc(context, HB_MEMORY_ACTIVATIONS, cutter.used, &carry->memory));
    cutter = (struct cutter){.base = carry->memory};
    lay_out(carry, &cutter, tokens);
    return HB_OK;
}

void hb_carry_release(struct hb_carry *carry)
{
    if (carry->context)
        hb_free(carry->context, carry->memory);
    *carry = (struct hb_carry){0};
}

/* Views of the first rows. */
static struct hb_tensor first(struct hb_tensor t, int64_t count)
{
    return hb_tensor_rows(t, 0, count);
}

hb_status hb_carry_load(struct hb_carry *carry, const struct hb_batch *batch, struct hb_tensor cosine,
                        struct hb_tensor sine)
{
    int64_t n = batch->tokens, S = batch->segment_count, cached = carry->cache ? carry->cache->length : 0;
    if (n < 0 || n > carry->capacity)
        return HB_FAIL(HB_EINTERNAL, "a microbatch of %lld tokens in a carry for %lld", (long long)n,
                       (long long)carry->capacity);
    if (carry->cache && (S != 1 || cached + n > carry->cache->capacity))
        return HB_FAIL(HB_EARGUMENT, "%lld tokens do not fit behind %lld in a cache of %lld positions",
                       (long long)n, (long long)cached, (long long)carry->cache->capacity);
    int32_t *place = malloc((size_t)n * sizeof *place + 1);
    if (!place)
        return HB_FAIL(HB_EMEMORY, "out of memory for the positions of %lld tokens", (long long)n);
    struct hb_positions *positions = &carry->positions;
    positions->longest = 0;
    for (int64_t s = 0; s < S; s++) {
        int64_t length = batch->segments[s + 1] - batch->segments[s];
        if (cached + length > positions->longest)
            positions->longest = cached + length;
        for (int64_t i = 0; i < length; i++)
            place[batch->segments[s] + i] = (int32_t)(cached + i);
    }
    hb_status status;
    /* The carry's views shrink to this microbatch: lay them out anew. */
    struct cutter cutter = {.base = carry->memory};
    lay_out(carry, &cutter, carry->capacity);
    carry->ids = first(carry->ids, n);
    carry->labels = first(carry->labels, n);
    carry->loss = first(carry->loss, n);
    positions->place = first(positions->place, n);
    positions->begin = first(positions->begin, S + 1);
    positions->k_begin = first(positions->k_begin, S + 1);
    positions->cosine = cosine;
    positions->sine = sine;
    if (positions->longest > cosine.shape[0]) {
        status = HB_FAIL(HB_EARGUMENT, "a segment of %lld positions, the model was opened for %lld",
                         (long long)positions->longest, (long long)cosine.shape[0]);
        goto cleanup;
    }
    HB_TRY_CLEAN(hb_copy_in(carry->context, carry->ids, batch->ids));
    if (batch->labels)
        HB_TRY_CLEAN(hb_copy_in(carry->context, carry->labels, batch->labels));
    HB_TRY_CLEAN(hb_copy_in(carry->context, positions->place, place));
    HB_TRY_CLEAN(hb_copy_in(carry->context, positions->begin, batch->segments));
    int32_t cached_keys[2] = {0, (int32_t)(cached + n)};
    HB_TRY_CLEAN(
        hb_copy_in(carry->context, positions->k_begin, carry->cache ? cached_keys : batch->segments));
    HB_TRY_CLEAN(hb_balance_begin(carry->context, &carry->balance));
cleanup:
    free(place);
    return status;
}
