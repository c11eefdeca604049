#include "parallel/results.h"

#include <stdlib.h>
#include <string.h>

/* --- life --- */

/* Cuts the block (NULL: only its size is asked for) into its tensors, widest elements first. */
static size_t lay_out(struct hb_step_results *r, char *block)
{
    struct hb_context *context = r->model->context;
    r->layer_counts = hb_tensor_2d(context, NULL, HB_I64, r->layers, r->experts);
    r->losses = hb_tensor_1d(context, NULL, HB_F64, r->rounds);
    r->z = hb_tensor_1d(context, NULL, HB_F64, r->rounds * r->layers);
    r->aux = hb_tensor_1d(context, NULL, hb_real_dtype(context), r->rounds * r->layers);
    struct hb_tensor *parts[] = {&r->layer_counts, &r->losses, &r->z, &r->aux};
    size_t used = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (block)
            parts[i]->data = block + used;
        used += hb_tensor_bytes(parts[i]);
    }
    return used;
}

static hb_status no_memory(void)
{
    return HB_FAIL(HB_EMEMORY, "out of memory for what a step reports");
}

hb_status hb_results_init(struct hb_step_results *r, const struct hb_model *model, const struct hb_mesh *mesh,
                          int64_t rounds)
{
    *r = (struct hb_step_results){.model = model,
                                  .mesh = mesh,
                                  .rounds = rounds,
                                  .layers = hb_model_config_moe_layers(&model->config),
                                  .experts = model->config.num_experts};
    r->block = hb_tensor_1d(model->context, NULL, HB_U8, (int64_t)lay_out(r, NULL));
    size_t bytes = hb_tensor_bytes(&r->block), counts = (size_t)(r->layers * r->experts);
    HB_TRY(hb_alloc(model->context, HB_MEMORY_ACTIVATIONS, bytes, &r->block.data));
    lay_out(r, r->block.data);
    r->host = calloc(bytes + 1, 1);
    r->counts = calloc(counts + (size_t)hb_comm_size(mesh->world), sizeof *r->counts);
    if (!r->host || !r->counts)
        return no_memory();
    r->rank_rows = r->counts + counts;
    return HB_OK;
}

void hb_results_release(struct hb_step_results *r)
{
    if (r->block.data)
        hb_free(r->model->context, r->block.data);
    free(r->host);
    free(r->values);
    free(r->filled);
    free(r->round);
    free(r->counts);
    *r = (struct hb_step_results){0};
}

/* --- while the step runs --- */

/* Per microbatch: loss, tokens, then aux and z of each layer. */
static int64_t value_count(const struct hb_step_results *r)
{
    return 2 + 2 * r->layers;
}

hb_status hb_results_begin(struct hb_step_results *r, int64_t M)
{
    r->microbatches = M;
    if (M > r->most) {
        double *values = realloc(r->values, (size_t)(M * value_count(r)) * sizeof *values);
        r->values = values ? values : r->values;
        bool *filled = realloc(r->filled, (size_t)(M * value_count(r)) * sizeof *filled);
        r->filled = filled ? filled : r->filled;
        int64_t *round = realloc(r->round, (size_t)M * sizeof *round);
        r->round = round ? round : r->round;
        if (!values || !filled || !round)
            return no_memory();
        r->most = M;
    }
    memset(r->filled, 0, (size_t)(M * value_count(r)) * sizeof *r->filled);
    return hb_zero(r->model->context, r->block);
}

static bool *filled(struct hb_step_results *r, int64_t m, int64_t which)
{
    return &r->filled[m * value_count(r) + which];
}

/* Of n layers from `first` on, counted among those with experts. */
static hb_status keep_layers(struct hb_step_results *r, const struct hb_balance *b, int64_t m, int64_t round,
                             int64_t first, int64_t n)
{
    struct hb_context *context = r->model->context;
    struct hb_tensor sum = hb_tensor_rows(r->layer_counts, first, n);
    for (int64_t l = first; l < first + n; l++) {
        *filled(r, m, 2 + r->layers + l) = true;
        *filled(r, m, 2 + l) = b->kind == HB_BALANCE_LAYER;
    }
    HB_TRY(hb_copy(context, hb_tensor_rows(r->z, round * r->layers + first, n),
                   hb_tensor_rows(b->z_squares, first, n)));
    if (b->kind == HB_BALANCE_LAYER)
        HB_TRY(hb_copy(context, hb_tensor_rows(r->aux, round * r->layers + first, n),
                       hb_tensor_rows(b->aux, first, n)));
    return hb_add(context, &(struct hb_add_args){
                               .a = sum, .b = hb_tensor_rows(b->counts, first, n), .out = sum});
}

/* The counts of all ranks are not there yet: their memory is free. */
static hb_status write_down(struct hb_step_results *r, const struct hb_balance *b, int64_t m, int64_t first,
                            int64_t n, struct hb_timeline *timeline)
{
    if (!timeline)
        return HB_OK;
    HB_TRY(hb_copy_out(r->model->context, r->counts, hb_tensor_rows(b->counts, first, n)));
    for (int64_t l = 0; l < n; l++)
        hb_timeline_routing(timeline, m, first + l, r->counts + l * r->experts, r->experts);
    return HB_OK;
}

hb_status hb_results_keep(struct hb_step_results *r, const struct hb_carry *carry, int64_t m, int64_t round,
                          struct hb_range blocks, struct hb_timeline *timeline)
{
    const struct hb_model *model = r->model;
    const struct hb_balance *b = &carry->balance;
    int64_t first = 0, n = 0; /* layers with experts: of the blocks one behind the other */
    for (int64_t l = blocks.end - 2; l >= 0 && l >= blocks.begin - 1; l--)
        if (l < model->config.num_hidden_layers && model->decoders[l].is_moe) {
            first = model->decoders[l].moe.layer;
            n++;
        }
    r->round[m] = round;
    hb_trace_at(model->context, (struct hb_trace_place){"results", -1}, "report"); /* no op of a block */
    if (n) {
        HB_TRY(keep_layers(r, b, m, round, first, n));
        HB_TRY(write_down(r, b, m, first, n, timeline));
    }
    if (blocks.end < model->block_count)
        return HB_OK;
    *filled(r, m, 0) = *filled(r, m, 1) = true;
    r->values[m * value_count(r) + 1] = (double)carry->ids.shape[0];
    HB_TRY(hb_copy(model->context, hb_tensor_rows(r->losses, round, 1), carry->loss_sum));
    if (!r->layers || b->kind != HB_BALANCE_HF)
        return HB_OK;
    *filled(r, m, 2) = true;
    return hb_copy(model->context, hb_tensor_rows(r->aux, round * r->layers, 1),
                   hb_tensor_rows(b->aux, 0, 1));
}

/* --- behind it --- */

/* Where a tensor of the block lies on the host. */
static const void *on_host(const struct hb_step_results *r, const struct hb_tensor *t)
{
    return r->host + ((const char *)t->data - (const char *)r->block.data);
}

static double kept(const struct hb_step_results *r, int64_t round, int64_t which)
{
    const double *losses = on_host(r, &r->losses), *z = on_host(r, &r->z);
    const void *aux = on_host(r, &r->aux);
    int64_t at = round * r->layers + which - 2;
    if (which == 0)
        return losses[round];
    if (which >= 2 + r->layers)
        return z[at - r->layers];
    return r->aux.dtype == HB_F64 ? ((const double *)aux)[at] : (double)((const float *)aux)[at];
}

static hb_status read_block(struct hb_step_results *r)
{
    HB_TRY(hb_copy_out(r->model->context, r->host, r->block));
    for (int64_t m = 0; m < r->microbatches; m++)
        for (int64_t which = 0; which < value_count(r); which++)
            if (*filled(r, m, which) && which != 1)
                r->values[m * value_count(r) + which] = kept(r, r->round[m], which);
    memcpy(r->counts, on_host(r, &r->layer_counts), hb_tensor_bytes(&r->layer_counts));
    memset(r->rank_rows, 0, (size_t)hb_comm_size(r->mesh->world) * sizeof *r->rank_rows);
    return HB_OK;
}

struct record {
    int64_t place;
    double value;
};

hb_status hb_results_gather(struct hb_comm *world, int64_t count, const bool *filled, double *values)
{
    int ranks = hb_comm_size(world);
    size_t *bytes = calloc((size_t)ranks, sizeof *bytes), own = 0, all = 0;
    int64_t *counts = calloc((size_t)ranks, sizeof *counts), n = 0;
    struct record *mine = malloc((size_t)count * sizeof *mine + 1), *records = NULL;
    hb_status status = bytes && counts && mine ? HB_OK : no_memory();
    for (int64_t i = 0; status == HB_OK && i < count; i++)
        if (filled[i])
            mine[n++] = (struct record){i, values[i]};
    for (int r = 0; status == HB_OK && r < ranks; r++)
        bytes[r] = sizeof n;
    HB_TRY_CLEAN(status);
    HB_TRY_CLEAN(hb_comm_gather(world, &n, counts, bytes));
    for (int r = 0; r < ranks; r++) {
        bytes[r] = (size_t)counts[r] * sizeof *mine;
        all += bytes[r];
    }
    records = malloc(all + 1);
    HB_TRY_CLEAN(records ? HB_OK : no_memory());
    HB_TRY_CLEAN(hb_comm_gather(world, mine, records, bytes));
    own = all / sizeof *records;
    for (size_t i = 0; i < own; i++)
        values[records[i].place] = records[i].value;
cleanup:
    free(bytes);
    free(counts);
    free(mine);
    free(records);
    return status;
}

/* The rows of this rank's experts come from all ranks with which it divides them. */
static hb_status count_own_rows(struct hb_step_results *r)
{
    int64_t n = r->layers * r->experts, *counts = malloc((size_t)n * sizeof *counts + 1);
    if (!counts)
        return no_memory();
    memcpy(counts, r->counts, (size_t)n * sizeof *counts);
    hb_status status = hb_comm_sum(r->mesh->experts, counts, n);
    struct hb_range own = hb_share(r->experts, r->mesh->shape.ep, r->mesh->ep_i);
    for (int64_t l = 0; l < r->layers; l++)
        for (int64_t i = own.begin; i < own.end; i++)
            r->rank_rows[hb_comm_rank(r->mesh->world)] += counts[l * r->experts + i];
    free(counts);
    return status;
}

hb_status hb_results_report(struct hb_step_results *r)
{
    HB_TRY(read_block(r));
    HB_TRY(hb_results_gather(r->mesh->world, r->microbatches * value_count(r), r->filled, r->values));
    HB_TRY(count_own_rows(r));
    return hb_comm_sum(r->mesh->world, r->counts, r->layers * r->experts + hb_comm_size(r->mesh->world));
}

static double get(const struct hb_step_results *r, int64_t m, int64_t which)
{
    return r->values[m * value_count(r) + which];
}

double hb_result_loss(const struct hb_step_results *r, int64_t m)
{
    return get(r, m, 0);
}

int64_t hb_result_tokens(const struct hb_step_results *r, int64_t m)
{
    return (int64_t)get(r, m, 1);
}

double hb_result_aux(const struct hb_step_results *r, int64_t m, int64_t layer)
{
    return get(r, m, 2 + layer);
}

double hb_result_z(const struct hb_step_results *r, int64_t m, int64_t layer)
{
    return get(r, m, 2 + r->layers + layer);
}
