#include "tape/pool.h"

#include <stdlib.h>

void hb_pool_init(struct hb_pool *pool, struct hb_context *context, enum hb_memory_category category)
{
    *pool = (struct hb_pool){.context = context, .category = category};
}

void hb_pool_init_shared(struct hb_pool *pool, struct hb_pool *lender)
{
    *pool = (struct hb_pool){.context = lender->context, .category = lender->category, .lender = lender};
}

void hb_pool_release(struct hb_pool *pool)
{
    while (pool->idle) {
        struct hb_buffer *buffer = pool->idle;
        pool->idle = buffer->next;
        hb_free(pool->context, buffer->data);
        free(buffer);
    }
}

/* Sizes are rounded up by less than a sixteenth, to 256 bytes at least: a device
 * gives no less. Only requests of one rounded size share buffers, so a step
 * needs as many of each as it holds at a time, whatever the step before it left
 * idle. (Handing out the nearest larger one, as it comes, would not do: a small
 * request takes a buffer that a later, larger one then lacks.) */
static size_t rounded(size_t bytes)
{
    size_t unit = 256;
    while (unit < bytes / 32)
        unit *= 2;
    return (bytes + unit - 1) / unit * unit;
}

static struct hb_buffer *take_idle(struct hb_pool *pool, size_t size)
{
    for (struct hb_buffer **b = &pool->idle; *b; b = &(*b)->next)
        if ((*b)->bytes == size) {
            struct hb_buffer *buffer = *b;
            *b = buffer->next;
            return buffer;
        }
    return NULL;
}

hb_status hb_pool_take(struct hb_pool *pool, size_t bytes, struct hb_buffer **out)
{
    if (pool->lender)
        return hb_pool_take(pool->lender, bytes, out);
    size_t size = pool->context->backend->unpooled ? bytes : rounded(bytes);
    struct hb_buffer *buffer = take_idle(pool, size);
    if (!buffer) {
        buffer = calloc(1, sizeof *buffer);
        if (!buffer)
            return HB_FAIL(HB_EMEMORY, "out of memory for a buffer's header");
        hb_status status = hb_alloc(pool->context, pool->category, size, &buffer->data);
        if (status != HB_OK) {
            free(buffer);
            return status;
        }
        buffer->bytes = size;
    }
    buffer->references = 1;
    buffer->next = NULL;
    buffer->asked = bytes;
    pool->in_use += (int64_t)bytes;
    if (pool->in_use > pool->in_use_peak)
        pool->in_use_peak = pool->in_use;
    *out = buffer;
    return HB_OK;
}

struct hb_buffer *hb_buffer_share(struct hb_buffer *buffer)
{
    buffer->references++;
    return buffer;
}

void hb_pool_drop(struct hb_pool *pool, struct hb_buffer *buffer)
{
    if (!buffer || --buffer->references > 0)
        return;
    if (pool->lender)
        pool = pool->lender;
    pool->in_use -= (int64_t)buffer->asked;
    if (pool->context->backend->unpooled) {
        hb_free(pool->context, buffer->data);
        free(buffer);
        return;
    }
    buffer->next = pool->idle;
    pool->idle = buffer;
}
