#include "parallel/rehearse.h"

#include <stdlib.h>

#include "comm/mirror.h"
#include "parallel/hollow.h"

struct rehearsal {
    const struct hb_ranks_options *options;
    int64_t experts, slots; /* E, K */
    enum hb_rehearsed_routing routing;
    const struct hb_routed *given;
    struct hb_context context;
    struct hb_comm *world;
    struct hb_ranks ranks;
    struct hb_model *model;
    int32_t *ids, *segments;
    struct hb_batch *batches; /* [M] */
};

/* --- the router's choices --- */

static int64_t round_of(const struct rehearsal *r, int64_t microbatch)
{
    const struct hb_mesh *mesh = &r->ranks.mesh;
    int64_t M = r->options->microbatches, round = 0, last = hb_mesh_rounds(mesh, M) - 1;
    while (round < last &&
           hb_mesh_microbatch(mesh, M, r->options->zero >= 2, round, mesh->data_rank) != microbatch)
        round++;
    return round; /* only the last one may be without a microbatch */
}

/* `rows` dealt evenly to `experts`: those of the first `count` together. */
static int64_t dealt(int64_t rows, int64_t experts, int64_t count)
{
    return rows * count / experts;
}

/* Rows of microbatch m for experts [begin, end), evenly or as given. */
static int64_t rows_of(const struct rehearsal *r, int64_t m, int64_t layer, int64_t begin, int64_t end)
{
    int64_t rows = r->options->sequences * r->options->length * r->slots;
    if (m < 0)
        return 0;
    if (r->routing == HB_ROUTED_AS_GIVEN)
        return hb_routing_rows(r->given, m, layer, begin, end);
    return dealt(rows, r->experts, end) - dealt(rows, r->experts, begin);
}

/* The worst for this rank. A token has one row for an expert, so at most as many rows as there are experts
 * here; what does not come here goes to the rank behind. */
static void tell_worst(const struct rehearsal *r, struct hb_range own, int64_t *received, size_t *sent)
{
    int64_t ep = r->ranks.mesh.shape.ep, self = r->ranks.mesh.ep_i, here = own.end - own.begin;
    int64_t tokens = r->options->sequences * r->options->length;
    int64_t most = tokens * (here < r->slots ? here : r->slots);
    bool works = received[self * (here + 1)] >= 0;
    for (int64_t s = 0; s < ep; s++) {
        bool comes = received[s * (here + 1)] >= 0 && (s != self || r->routing == HB_ROUTED_HERE);
        for (int64_t e = 0; e < here; e++)
            received[s * (here + 1) + 1 + e] = comes ? dealt(most, here, e + 1) - dealt(most, here, e) : 0;
        sent[s] = s == self && comes ? (size_t)most : 0;
    }
    sent[(self + 1) % ep] += works ? (size_t)(tokens * r->slots) - sent[self] : 0;
}

static void foretell(void *teller, int64_t layer, int64_t microbatch, int64_t *received, size_t *sent)
{
    const struct rehearsal *r = teller;
    const struct hb_mesh *mesh = &r->ranks.mesh;
    int64_t ep = mesh->shape.ep, M = r->options->microbatches, round = round_of(r, microbatch);
    struct hb_range own = hb_share(r->experts, ep, mesh->ep_i);
    int64_t here = own.end - own.begin;
    for (int64_t s = 0; s < ep; s++) {
        int64_t m = hb_mesh_microbatch(mesh, M, r->options->zero >= 2, round, mesh->dp_i * ep + s);
        struct hb_range share = hb_share(r->experts, ep, s);
        received[s * (here + 1)] = m;
        for (int64_t e = 0; e < here; e++)
            received[s * (here + 1) + 1 + e] = rows_of(r, m, layer, own.begin + e, own.begin + e + 1);
        sent[s] = (size_t)rows_of(r, microbatch, layer, share.begin, share.end);
    }
    if (r->routing == HB_ROUTED_HERE || r->routing == HB_ROUTED_ACROSS)
        tell_worst(r, own, received, sent);
}

/* --- the step --- */

static hb_status fill_batches(struct rehearsal *r)
{
    const struct hb_ranks_options *o = r->options;
    int64_t n = o->sequences * o->length;
    r->ids = calloc((size_t)n, sizeof *r->ids);
    r->segments = calloc((size_t)o->sequences + 1, sizeof *r->segments);
    r->batches = calloc((size_t)o->microbatches, sizeof *r->batches);
    if (!r->ids || !r->segments || !r->batches)
        return HB_FAIL(HB_EMEMORY, "out of memory for the tokens of a rehearsal");
    for (int64_t s = 0; s <= o->sequences; s++)
        r->segments[s] = (int32_t)(s * o->length);
    for (int64_t m = 0; m < o->microbatches; m++)
        r->batches[m] = (struct hb_batch){n, r->ids, r->ids, r->segments, o->sequences};
    return HB_OK;
}

static void add(const struct hb_comm *comm, enum hb_comm_kind kind, struct hb_rehearsal *out, int which)
{
    struct hb_comm_traffic traffic = hb_comm_traffic(comm);
    out->messages[which] += traffic.messages[kind];
    out->bytes[which] += traffic.bytes[kind];
}

static hb_status run(struct rehearsal *r, const struct hb_model_config *config, struct hb_rehearsal *out)
{
    const struct hb_ranks_options *o = r->options;
    struct hb_ranks *ranks = &r->ranks;
    HB_TRY(hb_ranks_open(ranks, r->world, o, config));
    HB_TRY(hb_model_outline(&r->context, config, &ranks->part, &r->model));
    r->model->recompute = o->recompute;
    HB_TRY(hb_ranks_attach(ranks, r->model));
    HB_TRY(hb_model_allocate(r->model, o->length, true));
    out->footprint[HB_FOOTPRINT_PARAMETERS] = hb_hollow_bytes(&r->context, HB_MEMORY_PARAMETERS);
    out->footprint[HB_FOOTPRINT_GRADIENTS] = hb_hollow_bytes(&r->context, HB_MEMORY_GRADIENTS);
    out->footprint[HB_FOOTPRINT_OPTIMIZER] = hb_hollow_bytes(&r->context, HB_MEMORY_OPTIMIZER);
    HB_TRY(hb_ranks_start(ranks, o->sequences * o->length));
    ranks->exchange.foretell = foretell;
    ranks->exchange.teller = r;
    HB_TRY(fill_batches(r));
    HB_TRY(hb_executor_step(&ranks->executor, r->batches, o->microbatches, (struct hb_factors){1, 1, 1}));
    HB_TRY(hb_ranks_spread(ranks));
    const struct hb_mesh *mesh = &ranks->mesh;
    hb_executor_footprint(&ranks->executor, out->footprint);
    add(mesh->pipe, HB_COMM_MESSAGE, out, HB_REHEARSED_STAGES);
    add(mesh->experts, HB_COMM_EXCHANGE, out, HB_REHEARSED_EXPERTS);
    add(mesh->data, HB_COMM_EXCHANGE, out, HB_REHEARSED_REDUCE);
    add(mesh->replicas, HB_COMM_EXCHANGE, out, HB_REHEARSED_REDUCE);
    add(mesh->data, HB_COMM_GATHER, out, HB_REHEARSED_GATHER);
    add(mesh->replicas, HB_COMM_GATHER, out, HB_REHEARSED_GATHER);
    return HB_OK;
}

hb_status hb_rehearse(const struct hb_model_config *config, const struct hb_ranks_options *options, int rank,
                      enum hb_rehearsed_routing routing, const struct hb_routed *given,
                      struct hb_rehearsal *out)
{
    struct hb_ranks_options mirrored = *options;
    struct rehearsal r = {.options = &mirrored,
                          .experts = config->num_experts,
                          .slots = config->num_experts_per_tok,
                          .routing = routing,
                          .given = given};
    int64_t N = options->shape.dp * options->shape.ep * options->shape.pp;
    mirrored.mirrored = true;
    *out = (struct hb_rehearsal){0};
    HB_TRY(hb_context_open(&hb_hollow_backend, HB_CANONICAL, 1, &r.context));
    hb_status status = hb_comm_mirror(rank, (int)N, "world", false, &r.world);
    if (status == HB_OK)
        status = run(&r, config, out);
    hb_ranks_close(&r.ranks);
    hb_model_destroy(r.model);
    hb_comm_destroy(r.world);
    hb_context_close(&r.context);
    free(r.ids);
    free(r.segments);
    free(r.batches);
    return status;
}
