#include "train/census.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

static hb_status no_memory(void)
{
    return HB_FAIL(HB_EMEMORY, "out of memory for the list of parameters");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct hb_logical *)a)->name, ((const struct hb_logical *)b)->name);
}

const struct hb_logical *hb_census_find(const struct hb_census *census, const char *name)
{
    struct hb_logical key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, census->logical, (size_t)census->logical_count, sizeof key, by_name);
}

static hb_status list(struct hb_census *census, const struct hb_model *whole)
{
    int64_t count = 0;
    for (int64_t p = 0; p < whole->param_count; p++)
        count += whole->params[p]->groups;
    census->logical = calloc((size_t)count, sizeof *census->logical);
    if (!census->logical)
        return no_memory();
    for (int64_t p = 0; p < whole->param_count; p++)
        for (int64_t g = 0; g < whole->params[p]->groups; g++) {
            char name[2 * HB_PARAM_NAME_MAX];
            struct hb_logical *l = &census->logical[census->logical_count];
            l->name = strdup(hb_param_logical_name(whole->params[p], g, name, sizeof name));
            if (!l->name)
                return no_memory();
            l->count = hb_param_part_count(whole->params[p]);
            l->trained = whole->params[p]->trained;
            l->param = -1;
            census->logical_count++;
        }
    qsort(census->logical, (size_t)census->logical_count, sizeof *census->logical, by_name);
    for (int64_t i = 0; i < census->logical_count; i++) {
        census->logical[i].first_chunk = census->chunk_count;
        census->chunk_count += (census->logical[i].count + HB_CHUNK - 1) / HB_CHUNK;
    }
    return HB_OK;
}

/* Which of the chunks here this rank answers for, and where they stand. */
static hb_status find_own(struct hb_census *census, const struct hb_model *model)
{
    int64_t chunks = 0;
    for (int64_t p = 0; p < model->param_count; p++)
        chunks += hb_param_chunks(model->params[p]);
    census->first_chunk = calloc((size_t)model->param_count + 1, sizeof *census->first_chunk);
    census->own = calloc((size_t)chunks + 1, sizeof *census->own);
    census->place = calloc((size_t)chunks + 1, sizeof *census->place);
    if (!census->first_chunk || !census->own || !census->place)
        return no_memory();
    int64_t at = 0;
    for (int64_t p = 0; p < model->param_count; p++) {
        const struct hb_param *param = model->params[p];
        int64_t each = hb_param_chunks(param) / param->groups;
        census->first_chunk[p] = at;
        for (int64_t g = 0; g < param->groups; g++) {
            char name[2 * HB_PARAM_NAME_MAX];
            const struct hb_logical *found = hb_census_find(census, hb_param_logical_name(param, g, name,
                                                                                          sizeof name));
            struct hb_logical *l = &census->logical[found - census->logical];
            l->param = p;
            l->group = g;
            for (int64_t c = 0; c < each; c++, at++) {
                int64_t begin = hb_param_chunk_begin(param, g * each + c);
                if (!hb_model_has_block(model, param->block) || begin < param->shard.begin ||
                    begin >= param->shard.end)
                    continue;
                census->own[census->own_count] = at;
                census->place[census->own_count++] = l->first_chunk + c;
            }
        }
    }
    return HB_OK;
}

/* Where the chunks of the others stand: agreed once. */
static hb_status agree(struct hb_census *census)
{
    int ranks = hb_comm_size(census->world);
    int64_t own = census->own_count, *counts = calloc((size_t)ranks, sizeof *counts), all = 0;
    census->bytes = calloc((size_t)ranks, sizeof *census->bytes);
    census->places = calloc((size_t)census->chunk_count, sizeof *census->places);
    census->gathered = calloc((size_t)census->chunk_count, sizeof *census->gathered);
    hb_status status = counts && census->bytes && census->places && census->gathered ? HB_OK : no_memory();
    for (int r = 0; status == HB_OK && r < ranks; r++)
        census->bytes[r] = sizeof own;
    if (status == HB_OK)
        status = hb_comm_gather(census->world, &own, counts, census->bytes);
    for (int r = 0; status == HB_OK && r < ranks; r++) {
        all += counts[r];
        census->bytes[r] = (size_t)counts[r] * sizeof *census->places;
    }
    free(counts);
    HB_TRY(status);
    if (all != census->chunk_count)
        return HB_FAIL(HB_EINTERNAL, "the ranks answer for %lld chunks of parameters, there are %lld",
                       (long long)all, (long long)census->chunk_count);
    return hb_comm_gather(census->world, census->place, census->places, census->bytes);
}

static hb_status init(struct hb_census *census, const struct hb_model *model, const struct hb_mesh *mesh)
{
    if (!mesh) {
        HB_TRY(list(census, model));
        return find_own(census, model);
    }
    struct hb_model *whole;
    HB_TRY(hb_model_outline(model->context, &model->config, NULL, &whole));
    hb_status status = list(census, whole);
    hb_model_destroy(whole);
    HB_TRY(status);
    HB_TRY(find_own(census, model));
    census->world = mesh->world;
    return agree(census);
}

hb_status hb_census_init(struct hb_census *census, const struct hb_model *model, const struct hb_mesh *mesh)
{
    *census = (struct hb_census){0};
    hb_status status = init(census, model, mesh);
    if (status != HB_OK)
        hb_census_release(census);
    return status;
}

void hb_census_release(struct hb_census *census)
{
    for (int64_t i = 0; i < census->logical_count; i++)
        free(census->logical[i].name);
    free(census->logical);
    free(census->first_chunk);
    free(census->own);
    free(census->place);
    free(census->bytes);
    free(census->places);
    free(census->gathered);
    *census = (struct hb_census){0};
}

hb_status hb_census_gather(struct hb_census *census, const uint64_t *local, uint64_t *all)
{
    if (!census->world) {
        for (int64_t i = 0; i < census->own_count; i++)
            all[census->place[i]] = local[census->own[i]];
        return HB_OK;
    }
    uint64_t *mine = malloc((size_t)census->own_count * sizeof *mine + 1);
    if (!mine)
        return no_memory();
    for (int64_t i = 0; i < census->own_count; i++)
        mine[i] = local[census->own[i]];
    hb_status status = hb_comm_gather(census->world, mine, census->gathered, census->bytes);
    free(mine);
    HB_TRY(status);
    for (int64_t i = 0; i < census->chunk_count; i++)
        all[census->places[i]] = census->gathered[i];
    return HB_OK;
}
