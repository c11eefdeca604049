/* Messages and bytes that a rank sends in a step, and the weights that it gathers for it. */
#include "parallel/plan.h"
#include "parallel/rehearse.h"

enum { ELEMENT = 4 };

static void add(struct hb_plan_rank *rank, enum hb_plan_traffic kind, double messages, double bytes,
                double worst)
{
    rank->messages[kind] += messages;
    rank->sent[kind] += bytes;
    rank->worst_sent[kind] += worst;
}

/* Rows to the experts' ranks, their outputs back, the outputs' gradients, the rows' gradients: 4 times K rows
 * a token, of which even routing leaves 1 / ep at home and the worst one none. */
static void count_experts(const struct hb_plan *plan, int64_t pp_i, struct hb_plan_rank *rank)
{
    const struct hb_plan_request *r = &plan->request;
    double others = (double)(r->shape.ep - 1), mine = (double)plan->mine;
    double rows = (double)(r->sequences * r->length * r->model->num_experts_per_tok);
    double bytes = ELEMENT * rows * (double)r->model->hidden_size;
    for (int s = 0; s < plan->schedule.stages; s++)
        for (int64_t b = plan->stage_begin[s];
             plan->schedule.rank_of[s] == pp_i && b < plan->stage_begin[s + 1]; b++)
            if (b >= 1 && b <= r->model->num_hidden_layers && hb_model_config_is_moe(r->model, b - 1) &&
                others > 0)
                add(rank, HB_PLAN_EXPERTS, 5 * mine * others, 4 * mine * bytes * others / (double)r->shape.ep,
                    4 * mine * bytes);
}

/* What else moves is counted by a rehearsal. */
hb_status hb_plan_traffic(struct hb_plan *plan, int64_t pp_i)
{
    static const enum hb_plan_traffic kinds[3] = {[HB_REHEARSED_STAGES] = HB_PLAN_MESSAGES,
                                                  [HB_REHEARSED_REDUCE] = HB_PLAN_REDUCE,
                                                  [HB_REHEARSED_GATHER] = HB_PLAN_GATHER};
    const struct hb_plan_request *r = &plan->request;
    struct hb_plan_rank *rank = &plan->rank[pp_i];
    struct hb_ranks_options options = {.shape = r->shape,
                                       .zero = r->level,
                                       .schedule = r->schedule,
                                       .microbatches = r->microbatches,
                                       .recompute = r->recompute,
                                       .sequences = r->sequences,
                                       .length = r->length,
                                       .first_block = plan->stage_begin};
    struct hb_rehearsal sent;
    count_experts(plan, pp_i, rank);
    if (plan->ranks == 1)
        return HB_OK;
    HB_TRY(hb_rehearse(r->model, &options, (int)(pp_i * plan->data_ranks + plan->data_rank), &sent));
    for (int i = 0; i < 3; i++)
        add(rank, kinds[i], (double)sent.messages[i], (double)sent.bytes[i], (double)sent.bytes[i]);
    rank->bytes[HB_PLAN_GATHERED] = (double)sent.gathered;
    return HB_OK;
}
