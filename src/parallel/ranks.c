#include "parallel/ranks.h"

#include <stdlib.h>
#include <string.h>

#include "parallel/dry_run.h"

/* --- the cut --- */

static hb_status cut_blocks(struct hb_ranks *r, const struct hb_model_config *config)
{
    const struct hb_ranks_options *o = &r->options;
    struct hb_stages *s = &r->stages;
    int64_t blocks = config->num_hidden_layers + 2;
    s->count = r->schedule.stages;
    if (s->count > blocks)
        return HB_FAIL(HB_EARGUMENT,
                       "schedule %s has %d stages, the model %lld blocks (embedding, layers, head); take "
                       "fewer ranks in the pipe or a schedule with fewer chunks",
                       r->schedule.name, s->count, (long long)blocks);
    s->first_block = calloc((size_t)s->count + 1, sizeof *s->first_block);
    s->rank_of = calloc((size_t)s->count, sizeof *s->rank_of);
    r->blocks = calloc((size_t)blocks, sizeof *r->blocks);
    if (!s->first_block || !s->rank_of || !r->blocks)
        return HB_FAIL(HB_EMEMORY, "out of memory for the stages of a pipeline");
    if (o->first_block)
        memcpy(s->first_block, o->first_block, ((size_t)s->count + 1) * sizeof *s->first_block);
    else if (o->costs)
        HB_TRY(hb_block_costs_cut(o->costs, s->count, s->first_block));
    else
        HB_TRY(hb_cut_stages(config, o->recompute, o->sequences, o->length, s->count, s->first_block));
    for (int i = 0; i < s->count; i++) {
        s->rank_of[i] = r->schedule.rank_of[i];
        for (int64_t b = s->first_block[i]; b < s->first_block[i + 1]; b++)
            r->blocks[b] = s->rank_of[i] == (int)r->mesh.pp_i;
    }
    return HB_OK;
}

static hb_status open(struct hb_ranks *r, struct hb_comm *world, const struct hb_model_config *config)
{
    const struct hb_ranks_options *o = &r->options;
    int64_t blocks = config->num_hidden_layers + 2, pp = o->shape.pp;
    HB_TRY(hb_mesh_check(o->shape, hb_comm_size(world), config->num_experts, blocks));
    HB_TRY(o->mirrored ? hb_mesh_mirror(world, o->shape, &r->mesh)
                       : hb_mesh_create(world, o->shape, &r->mesh));
    HB_TRY(hb_schedule_open(o->schedule, (int)pp, hb_mesh_rounds(&r->mesh, o->microbatches), &r->schedule));
    if (!hb_schedule_has(&r->schedule, HB_ACTION_SEND_F))
        HB_TRY(hb_schedule_add_messages(&r->schedule));
    HB_TRY(cut_blocks(r, config));
    struct hb_range share = hb_share(config->num_experts, o->shape.ep, r->mesh.ep_i);
    r->part = (struct hb_model_part){r->blocks, share.begin, share.end - share.begin};
    return HB_OK;
}

hb_status hb_ranks_open(struct hb_ranks *ranks, struct hb_comm *world, const struct hb_ranks_options *options,
                        const struct hb_model_config *config)
{
    *ranks = (struct hb_ranks){.options = *options};
    hb_status status = open(ranks, world, config);
    if (status != HB_OK)
        hb_ranks_close(ranks);
    return status;
}

hb_status hb_ranks_attach(struct hb_ranks *ranks, struct hb_model *model)
{
    ranks->model = model;
    HB_TRY(hb_wire_open(&ranks->mesh.wire, model->context, &ranks->mesh, ranks->options.transport));
    return hb_sharding_init(&ranks->sharding, model, &ranks->mesh, ranks->options.zero);
}

/* The rank of the pipe with the other use of a tied embedding, if it is another one. */
static int tied_peer(const struct hb_ranks *r)
{
    int first = r->stages.rank_of[0], last = r->stages.rank_of[r->stages.count - 1], self = (int)r->mesh.pp_i;
    if (!r->model->config.tie_word_embeddings || first == last)
        return -1;
    return self == first ? last : self == last ? first : -1;
}

hb_status hb_ranks_start(struct hb_ranks *r, int64_t tokens)
{
    hb_gradients_init(&r->gradients, r->model->context);
    HB_TRY(hb_reducer_init(&r->reducer, &r->sharding, &r->gradients, tied_peer(r)));
    bool exchanged = r->mesh.shape.ep > 1;
    if (exchanged)
        HB_TRY(hb_expert_exchange_init(&r->exchange, r->model, &r->mesh));
    r->executor = (struct hb_executor){
        .context = r->model->context,
        .model = r->model,
        .mesh = &r->mesh,
        .schedule = &r->schedule,
        .stages = &r->stages,
        .sharding = &r->sharding,
        .reducer = &r->reducer,
        .gradients = &r->gradients,
        .exchange = exchanged ? &r->exchange.exchange : NULL,
        .tokens = tokens,
    };
    return hb_executor_init(&r->executor);
}

void hb_ranks_close(struct hb_ranks *r)
{
    hb_executor_release(&r->executor);
    hb_expert_exchange_release(&r->exchange);
    hb_reducer_release(&r->reducer);
    if (r->gradients.context)
        hb_gradients_release(&r->gradients);
    hb_sharding_release(&r->sharding);
    hb_schedule_release(&r->schedule);
    free(r->stages.first_block);
    free(r->stages.rank_of);
    free(r->blocks);
    hb_mesh_release(&r->mesh);
    *r = (struct hb_ranks){0};
}

void hb_ranks_wanted(const struct hb_ranks *r, bool *wanted)
{
    int64_t M = r->options.microbatches;
    memset(wanted, 0, (size_t)M * sizeof *wanted);
    for (int64_t round = 0; round < hb_mesh_rounds(&r->mesh, M); round++) {
        int64_t m = hb_mesh_microbatch(&r->mesh, M, r->options.zero >= 2, round, r->mesh.data_rank);
        if (m >= 0)
            wanted[m] = true;
    }
}

hb_status hb_ranks_spread(struct hb_ranks *r)
{
    struct hb_sharding *s = &r->sharding;
    for (int64_t u = 0; u < s->unit_count; u++)
        if (hb_comm_size(s->units[u].group) > 1 && (s->level == 1 || s->level == 2))
            HB_TRY(hb_gather_unit(s, &s->units[u], HB_GATHER_WEIGHTS));
    return HB_OK;
}
