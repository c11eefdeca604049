#include "parallel/rehearse.h"

#include <stdlib.h>

#include "comm/mirror.h"
#include "parallel/hollow.h"

struct rehearsal {
    struct hb_exchange exchange; /* first: the executor has a pointer to it */
    const struct hb_ranks_options *options;
    struct hb_context context;
    struct hb_comm *world;
    struct hb_ranks ranks;
    struct hb_model *model;
    int32_t *ids, *segments;
    struct hb_batch *batches; /* [M] */
};

/* --- rows that nobody sends --- */

static int64_t round_of(const struct rehearsal *r, int64_t microbatch)
{
    const struct hb_mesh *mesh = &r->ranks.mesh;
    int64_t M = r->options->microbatches, round = 0, last = hb_mesh_rounds(mesh, M) - 1;
    while (round < last &&
           hb_mesh_microbatch(mesh, M, r->options->zero >= 2, round, mesh->data_rank) != microbatch)
        round++;
    return round; /* only the last one may be without a microbatch */
}

/* Each source has rows for each expert here, so that every gradient of an expert is made. */
static hb_status meet(struct hb_exchange *exchange, struct hb_tensor offsets, int64_t microbatch,
                      struct hb_arrivals **arrivals)
{
    const struct rehearsal *r = (const struct rehearsal *)exchange;
    const struct hb_mesh *mesh = &r->ranks.mesh;
    int64_t ep = mesh->shape.ep, E = offsets.shape[0] - 1, M = r->options->microbatches,
            round = round_of(r, microbatch);
    struct hb_range own = hb_share(E, ep, mesh->ep_i);
    int64_t here = own.end - own.begin, tokens = r->options->sequences * r->options->length;
    int64_t each = (tokens + here - 1) / here;
    size_t head = sizeof **arrivals + (size_t)ep * sizeof(struct hb_arrival);
    struct hb_arrivals *a = calloc(1, head + (size_t)ep * sizeof(size_t) +
                                          (size_t)(ep * (here + 1)) * sizeof(int32_t));
    if (!a)
        return HB_FAIL(HB_EMEMORY, "out of memory for an exchange of rows");
    a->sources = ep;
    a->sent = (size_t *)((char *)a + head);
    a->offsets = (int32_t *)(a->sent + ep);
    for (int64_t s = 0; s < ep; s++) {
        int64_t m = hb_mesh_microbatch(mesh, M, r->options->zero >= 2, round, mesh->dp_i * ep + s);
        for (int64_t e = 0; e < here; e++)
            a->offsets[s * (here + 1) + e + 1] = (int32_t)(m < 0 ? 0 : (e + 1) * each);
        a->source[s] = (struct hb_arrival){a->rows, m < 0 ? 0 : here * each, m};
        a->rows += a->source[s].rows;
    }
    *arrivals = a;
    return HB_OK;
}

static hb_status move(struct hb_exchange *exchange, const struct hb_arrivals *arrivals, struct hb_tensor from,
                      struct hb_tensor to)
{
    (void)exchange;
    (void)arrivals;
    (void)from;
    (void)to;
    return HB_OK;
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
    HB_TRY(hb_ranks_start(ranks, o->sequences * o->length));
    if (ranks->executor.exchange)
        ranks->executor.exchange = &r->exchange;
    HB_TRY(fill_batches(r));
    HB_TRY(hb_executor_step(&ranks->executor, r->batches, o->microbatches, (struct hb_factors){1, 1, 1}));
    HB_TRY(hb_ranks_spread(ranks));
    out->gathered = ranks->sharding.pool.in_use_peak;
    const struct hb_mesh *mesh = &ranks->mesh;
    add(mesh->pipe, HB_COMM_MESSAGE, out, HB_REHEARSED_STAGES);
    add(mesh->data, HB_COMM_EXCHANGE, out, HB_REHEARSED_REDUCE);
    add(mesh->replicas, HB_COMM_EXCHANGE, out, HB_REHEARSED_REDUCE);
    add(mesh->data, HB_COMM_GATHER, out, HB_REHEARSED_GATHER);
    add(mesh->replicas, HB_COMM_GATHER, out, HB_REHEARSED_GATHER);
    return HB_OK;
}

hb_status hb_rehearse(const struct hb_model_config *config, const struct hb_ranks_options *options, int rank,
                      struct hb_rehearsal *out)
{
    struct hb_ranks_options mirrored = *options;
    struct rehearsal r = {.exchange = {meet, move, move}, .options = &mirrored};
    int64_t N = options->shape.dp * options->shape.ep * options->shape.pp;
    mirrored.mirrored = true;
    *out = (struct hb_rehearsal){.gathered = 0};
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
