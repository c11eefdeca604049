#include "tape/param.h"

#include <stdio.h>

#include "core/hash.h"
#include "ops/trace.h"

const char *hb_param_logical_name(const struct hb_param *param, int64_t g, char *text, size_t size)
{
    if (param->name_after[0])
        snprintf(text, size, "%s%lld%s", param->name, (long long)(param->first_group + g), param->name_after);
    else
        snprintf(text, size, "%s", param->name);
    return text;
}

const char *hb_param_whole_name(const struct hb_param *param, char *text, size_t size)
{
    snprintf(text, size, param->name_after[0] ? "%s*%s" : "%s%s", param->name, param->name_after);
    return text;
}

hb_status hb_param_call(struct hb_context *context, const struct hb_param *param)
{
    char name[2 * HB_PARAM_NAME_MAX];
    const struct hb_tensor *value = &param->value;
    if (!context->trace || !value->data)
        return HB_OK;
    if (!context->trace->seek || !param->name_after[0])
        return hb_trace_call_it(context, value->data, "weights of",
                                hb_param_whole_name(param, name, sizeof name));
    for (int64_t g = 0; g < param->groups; g++)
        HB_TRY(hb_trace_call_part(context, hb_tensor_rows(*value, g, 1).data, "weights of",
                                  hb_param_logical_name(param, g, name, sizeof name)));
    return HB_OK;
}

int64_t hb_param_count(const struct hb_param *param)
{
    return hb_tensor_count(&param->value);
}

int64_t hb_param_part_count(const struct hb_param *param)
{
    return hb_param_count(param) / param->groups;
}

static int64_t part_chunks(const struct hb_param *param)
{
    return (hb_param_part_count(param) + HB_CHUNK - 1) / HB_CHUNK;
}

int64_t hb_param_chunks(const struct hb_param *param)
{
    return param->groups * part_chunks(param);
}

int64_t hb_param_chunk_begin(const struct hb_param *param, int64_t chunk)
{
    int64_t chunks = part_chunks(param);
    return chunk / chunks * hb_param_part_count(param) + chunk % chunks * HB_CHUNK;
}

struct hb_tensor hb_param_elements(const struct hb_param *param, struct hb_tensor t, struct hb_range range)
{
    if (param->level == 0 && range.begin == 0 && range.end == hb_param_count(param))
        return t; /* as it is */
    int64_t count = hb_tensor_count(&t), first = count == hb_param_count(param) ? 0 : param->shard.begin;
    return hb_tensor_rows(hb_tensor_1d(t.home, t.data, t.dtype, count), range.begin - first,
                          range.end - range.begin);
}

static struct hb_extent extent(const struct hb_param *param, int64_t begin, int64_t end, int64_t groups)
{
    int64_t part = hb_param_part_count(param);
    return (struct hb_extent){{begin, end}, groups, begin / part, begin % part / HB_CHUNK};
}

/* The rest of a logical tensor, whole ones, the beginning of one. */
int hb_param_extents(const struct hb_param *param, struct hb_range range,
                     struct hb_extent extents[HB_EXTENTS_MAX])
{
    int64_t part = hb_param_part_count(param), at = range.begin;
    int count = 0;
    if (at < range.end && at % part) {
        int64_t end = (at / part + 1) * part;
        end = end < range.end ? end : range.end;
        extents[count++] = extent(param, at, end, 1);
        at = end;
    }
    int64_t whole = range.end / part * part;
    if (at < whole) {
        extents[count++] = extent(param, at, whole, (whole - at) / part);
        at = whole;
    }
    if (at < range.end)
        extents[count++] = extent(param, at, range.end, 1);
    return count;
}

hb_status hb_param_set(struct hb_context *context, struct hb_param *param, const float *values)
{
    if (param->master.data)
        HB_TRY(hb_copy_in_f32(context, param->master, values + (param->level ? param->shard.begin : 0)));
    if (param->level == 3)
        return hb_copy_in_f32(context, param->kept, values + param->shard.begin);
    return hb_copy_in_f32(context, param->value, values);
}
