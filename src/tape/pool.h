/* Buffers on a backend, reference-counted and reused.
 *
 * A training step asks for the same sizes again and again. The pool keeps what
 * was released and hands it out for the next request of that size (rounded up by
 * less than a sixteenth), so that a step that holds no more at a time than one
 * before it allocates nothing. (A backend that is `unpooled` gets everything back
 * at once, and is asked for exact sizes.) */
#ifndef HB_TAPE_POOL_H
#define HB_TAPE_POOL_H

#include "ops/backend.h"

struct hb_buffer {
    void *data;
    size_t bytes; /* capacity */
    size_t asked; /* of them wanted by who has it */
    int references;
    struct hb_buffer *next; /* in the pool's free list */
};

struct hb_pool {
    struct hb_context *context;
    enum hb_memory_category category;
    struct hb_buffer *idle;
    struct hb_pool *lender; /* NULL, or the pool whose buffers this one hands out */
    int64_t in_use; /* bytes asked for and not yet dropped, and their peak: what the step really needs */
    int64_t in_use_peak;
};

void hb_pool_init(struct hb_pool *pool, struct hb_context *context, enum hb_memory_category category);
/* Several users of one stock: what one gives back the other takes. `lender`
 * lives longer. */
void hb_pool_init_shared(struct hb_pool *pool, struct hb_pool *lender);
/* All buffers must have come back. */
void hb_pool_release(struct hb_pool *pool);

/* A buffer of at least `bytes` with one reference, content undefined. */
HB_MUST_USE hb_status hb_pool_take(struct hb_pool *pool, size_t bytes, struct hb_buffer **out);
struct hb_buffer *hb_buffer_share(struct hb_buffer *buffer);
/* Drops a reference; the last one returns the buffer. NULL is allowed. */
void hb_pool_drop(struct hb_pool *pool, struct hb_buffer *buffer);

#endif
