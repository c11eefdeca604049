#include "parallel/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "core/fault.h"

/* --- counts --- */

static hb_status no_memory(void)
{
    return HB_FAIL(HB_EMEMORY, "out of memory for an exchange of rows");
}

static hb_status make_arrivals(int64_t ranks, int64_t here, struct hb_arrivals **out)
{
    size_t head = sizeof **out + (size_t)ranks * sizeof(struct hb_arrival);
    size_t sent = (size_t)ranks * sizeof(size_t), offsets = (size_t)(ranks * (here + 1)) * sizeof(int32_t);
    struct hb_arrivals *a = calloc(1, head + sent + offsets);
    if (!a)
        return no_memory();
    a->sources = ranks;
    a->sent = (size_t *)((char *)a + head);
    a->offsets = (int32_t *)((char *)a + head + sent);
    *out = a;
    return HB_OK;
}

/* To each rank: the microbatch, then the rows for each of its experts. */
static hb_status swap_counts(struct hb_expert_exchange *x, const int32_t *offsets, int64_t layer,
                             int64_t microbatch, int64_t *received, size_t *sent_rows)
{
    int64_t ranks = hb_comm_size(x->comm), self = hb_comm_rank(x->comm);
    struct hb_range own = hb_share(x->experts, ranks, self);
    int64_t *counts = malloc((size_t)(x->experts + ranks) * sizeof *counts), *at = counts;
    if (!counts)
        return no_memory();
    for (int64_t r = 0; r < ranks; r++) {
        struct hb_range share = hb_share(x->experts, ranks, r);
        *at++ = microbatch;
        for (int64_t e = share.begin; e < share.end; e++)
            *at++ = offsets[e + 1] - offsets[e];
        sent_rows[r] = (size_t)(offsets[share.end] - offsets[share.begin]);
        x->out[r] = (size_t)(share.end - share.begin + 1) * sizeof *counts;
        x->in[r] = (size_t)(own.end - own.begin + 1) * sizeof *counts;
    }
    hb_status status = hb_comm_exchange(x->comm, counts, x->out, received, x->in);
    free(counts);
    if (x->foretell)
        x->foretell(x->teller, layer, microbatch, received, sent_rows);
    return status;
}

static hb_status meet(struct hb_exchange *exchange, struct hb_tensor offsets, int64_t layer,
                      int64_t microbatch, struct hb_arrivals **arrivals)
{
    struct hb_expert_exchange *x = (struct hb_expert_exchange *)exchange;
    int64_t ranks = hb_comm_size(x->comm);
    struct hb_range own = hb_share(x->experts, ranks, hb_comm_rank(x->comm));
    int64_t here = own.end - own.begin;
    int32_t *host = calloc((size_t)x->experts + 1, sizeof *host);
    int64_t *received = malloc((size_t)(ranks * (here + 1)) * sizeof *received);
    struct hb_arrivals *a = NULL;
    hb_status status = host && received ? make_arrivals(ranks, here, &a) : no_memory();
    if (status == HB_OK)
        status = hb_copy_out(x->context, host, offsets);
    if (status == HB_OK)
        status = swap_counts(x, host, layer, microbatch, received, a->sent);
    for (int64_t r = 0; status == HB_OK && r < ranks; r++) {
        const int64_t *from = received + r * (here + 1);
        int32_t *to = a->offsets + r * (here + 1);
        for (int64_t e = 0; e < here; e++)
            to[e + 1] = to[e] + (int32_t)from[e + 1];
        a->source[r] = (struct hb_arrival){a->rows, to[here], from[0]};
        a->rows += to[here];
    }
    free(host);
    free(received);
    if (status != HB_OK) {
        free(a);
        return status;
    }
    *arrivals = a;
    return HB_OK;
}

/* --- rows --- */

static hb_status move(struct hb_expert_exchange *x, struct hb_tensor from, struct hb_tensor to)
{
    struct hb_comm *comm = x->wire->experts;
    if (hb_wire_is_direct(x->wire)) { /* from where the rows are to where they belong */
        HB_TRY(hb_fault_point(HB_FAULT_EXCHANGE));
        return hb_comm_exchange(comm, from.data, x->out, to.data, x->in);
    }
    HB_TRY(hb_wire_grow(x->wire, &x->send, &x->send_size, hb_tensor_bytes(&from)));
    HB_TRY(hb_wire_grow(x->wire, &x->recv, &x->recv_size, hb_tensor_bytes(&to)));
    HB_TRY(hb_wire_put(x->wire, x->send, from));
    HB_TRY(hb_fault_point(HB_FAULT_EXCHANGE));
    HB_TRY(hb_comm_exchange(comm, x->send, x->out, x->recv, x->in));
    return hb_wire_get(x->wire, to, x->recv);
}

static size_t row_bytes(struct hb_tensor rows)
{
    struct hb_tensor row = hb_tensor_1d(NULL, NULL, rows.dtype, rows.shape[1]);
    return hb_tensor_bytes(&row);
}

static hb_status dispatch(struct hb_exchange *exchange, const struct hb_arrivals *arrivals,
                          struct hb_tensor rows, struct hb_tensor arrived)
{
    struct hb_expert_exchange *x = (struct hb_expert_exchange *)exchange;
    for (int64_t r = 0; r < arrivals->sources; r++) {
        x->out[r] = arrivals->sent[r] * row_bytes(rows);
        x->in[r] = (size_t)arrivals->source[r].rows * row_bytes(rows);
    }
    return move(x, rows, arrived);
}

static hb_status combine(struct hb_exchange *exchange, const struct hb_arrivals *arrivals,
                         struct hb_tensor arrived, struct hb_tensor rows)
{
    struct hb_expert_exchange *x = (struct hb_expert_exchange *)exchange;
    for (int64_t r = 0; r < arrivals->sources; r++) {
        x->out[r] = (size_t)arrivals->source[r].rows * row_bytes(rows);
        x->in[r] = arrivals->sent[r] * row_bytes(rows);
    }
    return move(x, arrived, rows);
}

/* --- life --- */

hb_status hb_expert_exchange_init(struct hb_expert_exchange *exchange, const struct hb_model *model,
                                  const struct hb_mesh *mesh)
{
    size_t ranks = (size_t)hb_comm_size(mesh->experts);
    *exchange = (struct hb_expert_exchange){
        .exchange = {meet, dispatch, combine},
        .context = model->context,
        .comm = mesh->experts,
        .wire = &mesh->wire,
        .experts = model->config.num_experts,
        .out = calloc(ranks, sizeof(size_t)),
        .in = calloc(ranks, sizeof(size_t)),
    };
    return exchange->out && exchange->in ? HB_OK : no_memory();
}

int64_t hb_expert_exchange_bytes(const struct hb_exchange *exchange)
{
    const struct hb_expert_exchange *x = (const struct hb_expert_exchange *)exchange;
    return (int64_t)(x->send_size + x->recv_size);
}

void hb_expert_exchange_release(struct hb_expert_exchange *exchange)
{
    if (exchange->wire) {
        hb_wire_free(exchange->wire, exchange->send);
        hb_wire_free(exchange->wire, exchange->recv);
    }
    free(exchange->out);
    free(exchange->in);
    *exchange = (struct hb_expert_exchange){0};
}
