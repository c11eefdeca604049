/* From shards to whole tensors, levels 0 to 2. Bytes are moved as they are. */
#include <stdlib.h>

#include "parallel/shard.h"

static struct hb_tensor target(const struct hb_param *param, enum hb_gathered what)
{
    return what == HB_GATHER_ROOTS ? param->use[0].root : param->value;
}

static size_t shard_bytes(const struct hb_param *param, enum hb_gathered what, struct hb_range range)
{
    struct hb_tensor t = hb_tensor_1d(NULL, NULL, target(param, what).dtype, range.end - range.begin);
    return hb_tensor_bytes(&t);
}

hb_status hb_gather_unit(struct hb_sharding *s, const struct hb_unit *unit, enum hb_gathered what)
{
    const struct hb_wire *wire = &s->mesh->wire;
    int ranks = hb_comm_size(unit->group), self = hb_comm_rank(unit->group);
    size_t *bytes = calloc((size_t)ranks, sizeof *bytes), all = 0;
    if (!bytes)
        return HB_FAIL(HB_EMEMORY, "out of memory for a gather of %d ranks", ranks);
    for (int r = 0; r < ranks; r++) {
        for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
            const struct hb_param *param = s->model->params[i];
            if (param->trained)
                bytes[r] += shard_bytes(param, what, hb_shard_of(param, ranks, r));
        }
        all += bytes[r];
    }
    hb_status status;
    HB_TRY_CLEAN(hb_sharding_stage(s, bytes[self], all));
    char *at = s->send;
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        const struct hb_param *param = s->model->params[i];
        if (!param->trained || param->shard.begin == param->shard.end)
            continue;
        struct hb_tensor own = hb_param_elements(param, target(param, what), param->shard);
        HB_TRY_CLEAN(hb_wire_put(wire, at, own));
        at += hb_tensor_bytes(&own);
    }
    HB_TRY_CLEAN(hb_comm_gather(unit->group, s->send, s->recv, bytes));
    at = s->recv;
    for (int r = 0; r < ranks; r++)
        for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
            const struct hb_param *param = s->model->params[i];
            struct hb_range range = hb_shard_of(param, ranks, r);
            if (!param->trained || range.begin == range.end)
                continue;
            struct hb_tensor part = hb_param_elements(param, target(param, what), range);
            if (r != self)
                HB_TRY_CLEAN(hb_wire_get(wire, part, at));
            at += hb_tensor_bytes(&part);
        }
cleanup:
    free(bytes);
    return status;
}
