#include "train/weights_ranks.h"

#include <stdlib.h>
#include <string.h>

#include "core/safetensors.h"
#include "model/weights.h"

/* Elements [begin, end) of logical tensor `logical` (of the census), on `rank`. */
struct share {
    int64_t logical, begin, end, rank;
};

struct saving {
    struct hb_optimizer *optimizer;
    struct hb_model *whole;
    struct share *shares; /* of all ranks, by tensor and element */
    int64_t share_count;
    int64_t *first; /* [logical tensors + 1]: its first share */
    struct hb_safetensors_writer *writer; /* rank 0's */
    char *memory;
    size_t size;
};

static int by_place(const void *a, const void *b)
{
    const struct share *x = a, *y = b;
    if (x->logical != y->logical)
        return x->logical < y->logical ? -1 : 1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* What this rank answers for. */
static int64_t own_shares(const struct hb_optimizer *o, struct share *out)
{
    int64_t n = 0;
    for (int64_t i = 0; i < o->census.logical_count; i++) {
        const struct hb_logical *l = &o->census.logical[i];
        const struct hb_param *p = l->param < 0 ? NULL : o->model->params[l->param];
        if (!p || !hb_model_has_block(o->model, p->block))
            continue;
        int64_t first = l->group * l->count;
        int64_t begin = p->shard.begin > first ? p->shard.begin - first : 0;
        int64_t end = p->shard.end < first + l->count ? p->shard.end - first : l->count;
        if (begin < end)
            out[n++] = (struct share){i, begin, end, hb_comm_rank(o->mesh->world)};
    }
    return n;
}

/* Everybody's shares, in the order of tensors and elements. */
static hb_status gather_shares(struct saving *s)
{
    struct hb_comm *world = s->optimizer->mesh->world;
    int ranks = hb_comm_size(world);
    size_t *bytes = calloc((size_t)ranks, sizeof *bytes);
    struct share *own = calloc((size_t)s->optimizer->census.logical_count, sizeof *own);
    int64_t *counts = calloc((size_t)ranks, sizeof *counts), n = 0;
    hb_status status = bytes && own && counts ? HB_OK
                                              : HB_FAIL(HB_EMEMORY, "out of memory for the list of shards");
    for (int r = 0; status == HB_OK && r < ranks; r++)
        bytes[r] = sizeof n;
    HB_TRY_CLEAN(status);
    n = own_shares(s->optimizer, own);
    HB_TRY_CLEAN(hb_comm_gather(world, &n, counts, bytes));
    for (int r = 0; r < ranks; r++) {
        bytes[r] = (size_t)counts[r] * sizeof *own;
        s->share_count += counts[r];
    }
    s->shares = calloc((size_t)s->share_count + 1, sizeof *s->shares);
    HB_TRY_CLEAN(s->shares ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the list of shards"));
    HB_TRY_CLEAN(hb_comm_gather(world, own, s->shares, bytes));
    qsort(s->shares, (size_t)s->share_count, sizeof *s->shares, by_place);
    s->first = calloc((size_t)s->optimizer->census.logical_count + 1, sizeof *s->first);
    HB_TRY_CLEAN(s->first ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the list of shards"));
    for (int64_t i = 0; i < s->share_count; i++)
        s->first[s->shares[i].logical + 1] = i + 1; /* every tensor has a share */
cleanup:
    free(bytes);
    free(own);
    free(counts);
    return status;
}

static hb_status make_room(struct saving *s, size_t bytes)
{
    if (bytes <= s->size)
        return HB_OK;
    hb_memory_free(s->memory);
    s->memory = NULL;
    s->size = 0;
    void *memory;
    HB_TRY(hb_memory_alloc(HB_MEMORY_COMMUNICATION, bytes, &memory));
    s->memory = memory;
    s->size = bytes;
    return HB_OK;
}

/* This rank's elements of a share into s->memory. */
static hb_status copy_own(struct saving *s, const struct share *share)
{
    const struct hb_optimizer *o = s->optimizer;
    const struct hb_logical *l = &o->census.logical[share->logical];
    const struct hb_param *p = o->model->params[l->param];
    struct hb_range range = {l->group * l->count + share->begin, l->group * l->count + share->end};
    return hb_copy_out(o->context, s->memory,
                       hb_param_elements(p, p->level == 3 ? p->kept : p->value, range));
}

/* One share: from where it is to the file. */
static hb_status pass(struct saving *s, const struct share *share, const char *name, size_t bytes)
{
    struct hb_comm *world = s->optimizer->mesh->world;
    int self = hb_comm_rank(world);
    struct hb_comm_request request = {.peer = -1};
    if (self != 0 && share->rank != self)
        return HB_OK;
    HB_TRY(make_room(s, bytes));
    if (share->rank == self)
        HB_TRY(copy_own(s, share));
    if (share->rank != self)
        HB_TRY(hb_comm_receive(world, (int)share->rank, s->memory, bytes, &request));
    else if (self != 0)
        HB_TRY(hb_comm_send(world, 0, s->memory, bytes, &request));
    HB_TRY(hb_comm_wait(world, &request, 1));
    return self == 0 ? hb_safetensors_writer_write(s->writer, name, s->memory, bytes) : HB_OK;
}

static hb_status write_param(struct saving *s, const struct hb_param *param)
{
    const struct hb_census *census = &s->optimizer->census;
    for (int64_t g = 0; g < param->groups; g++) {
        char name[2 * HB_PARAM_NAME_MAX];
        int64_t logical =
            hb_census_find(census, hb_param_logical_name(param, g, name, sizeof name)) - census->logical;
        for (int64_t i = s->first[logical]; i < s->first[logical + 1]; i++)
            HB_TRY(pass(s, &s->shares[i], name,
                        (size_t)(s->shares[i].end - s->shares[i].begin) *
                            hb_dtype_size(param->value.dtype)));
    }
    return HB_OK;
}

/* All tensors of the whole model in the order in which one rank writes them. */
static hb_status write_values(struct saving *s)
{
    for (int round = 0; round < HB_SAVED_ROUNDS; round++)
        for (int64_t p = 0; p < s->whole->param_count; p++)
            if (hb_saved_round(s->whole->params[p]) == round)
                HB_TRY(write_param(s, s->whole->params[p]));
    return HB_OK;
}

static hb_status save(struct saving *s, const char *folder, struct hb_file_receipt *receipt)
{
    struct hb_comm *world = s->optimizer->mesh->world;
    const struct hb_model *model = s->optimizer->model;
    hb_status status = hb_model_outline(model->context, &model->config, NULL, &s->whole);
    if (status == HB_OK && hb_comm_rank(world) == 0)
        status = hb_model_save_begin(s->whole, folder, &s->writer);
    HB_TRY(hb_comm_agree(world, status));
    HB_TRY(gather_shares(s));
    HB_TRY(write_values(s));
    return s->writer ? hb_safetensors_writer_finish(s->writer, receipt) : HB_OK;
}

hb_status hb_weights_save_ranks(struct hb_optimizer *optimizer, const char *folder,
                                struct hb_file_receipt *receipt)
{
    struct saving s = {.optimizer = optimizer};
    hb_status status = save(&s, folder, receipt);
    hb_safetensors_writer_destroy(s.writer);
    hb_model_destroy(s.whole);
    hb_memory_free(s.memory);
    free(s.shares);
    free(s.first);
    return status;
}
