/* The exchange of token rows among the ranks that divide the experts. */
#ifndef HB_PARALLEL_EXCHANGE_H
#define HB_PARALLEL_EXCHANGE_H

#include "model/model.h"
#include "parallel/mesh.h"
#include "tape/exchange.h"

struct hb_expert_exchange {
    struct hb_exchange exchange;
    struct hb_context *context;
    struct hb_comm *comm;
    int64_t experts; /* E */
    char *send, *recv;
    size_t send_size, recv_size;
    size_t *out, *in; /* [ranks] */
};

HB_MUST_USE hb_status hb_expert_exchange_init(struct hb_expert_exchange *exchange,
                                              const struct hb_model *model, const struct hb_mesh *mesh);
void hb_expert_exchange_release(struct hb_expert_exchange *exchange);

#endif
