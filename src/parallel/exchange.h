/* The exchange of token rows among the ranks that divide the experts. */
#ifndef HB_PARALLEL_EXCHANGE_H
#define HB_PARALLEL_EXCHANGE_H

#include "model/model.h"
#include "parallel/mesh.h"
#include "tape/exchange.h"

struct hb_expert_exchange {
    struct hb_exchange exchange;
    struct hb_context *context;
    struct hb_comm *comm; /* for counts */
    const struct hb_wire *wire; /* for rows */
    int64_t experts; /* E */
    char *send, *recv;
    size_t send_size, recv_size;
    size_t *out, *in; /* [ranks] */
    /* In a rehearsal (parallel/rehearse.h): says what the others would have said. To be filled in, for a
     * layer of a microbatch: `received` from each rank its microbatch (-1: none) and the rows for each
     * expert here, `sent` rows to each rank. NULL: the others are asked. */
    void (*foretell)(void *teller, int64_t layer, int64_t microbatch, int64_t *received, size_t *sent);
    void *teller;
};

HB_MUST_USE hb_status hb_expert_exchange_init(struct hb_expert_exchange *exchange,
                                              const struct hb_model *model, const struct hb_mesh *mesh);
/* Bytes of staging memory; it grows with the largest exchange so far. */
int64_t hb_expert_exchange_bytes(const struct hb_exchange *exchange);
void hb_expert_exchange_release(struct hb_expert_exchange *exchange);

#endif
