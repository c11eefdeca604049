#include "parallel/routing.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

int64_t hb_routing_rows(const struct hb_routed *r, int64_t m, int64_t layer, int64_t begin, int64_t end)
{
    int64_t sum = 0;
    for (int64_t e = begin; e < end; e++)
        sum += r->counts[(m * r->layers + layer) * r->experts + e];
    return sum;
}

void hb_routing_release(struct hb_routed *routing)
{
    free(routing->counts);
    *routing = (struct hb_routed){0};
}

/* --- reading --- */

struct reader {
    const char *path;
    int64_t step;
    struct hb_routed *routing;
    bool *seen; /* [M, layers] */
};

static int64_t integer(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}

static hb_status read_counts(struct reader *reader, const json_t *args)
{
    struct hb_routed *r = reader->routing;
    const json_t *counts = json_object_get(args, "counts");
    int64_t m = integer(args, "microbatch"), layer = integer(args, "layer");
    if (m < 0 || m >= r->microbatches || layer < 0 || layer >= r->layers ||
        (int64_t)json_array_size(counts) != r->experts)
        return HB_FAIL(HB_EFORMAT,
                       "%s: microbatch %lld, layer %lld with %zu experts does not belong to a step of %lld "
                       "microbatches and a model of %lld layers of %lld experts",
                       reader->path, (long long)m, (long long)layer, json_array_size(counts),
                       (long long)r->microbatches, (long long)r->layers, (long long)r->experts);
    for (int64_t e = 0; e < r->experts; e++)
        r->counts[(m * r->layers + layer) * r->experts + e] =
            (int64_t)json_integer_value(json_array_get(counts, (size_t)e));
    reader->seen[m * r->layers + layer] = true;
    return HB_OK;
}

/* A line is an event; a comma may follow it. */
static hb_status read_line(struct reader *reader, const char *line, size_t length)
{
    static const char begin[] = "{\"name\":\"routing\",";
    if (strncmp(line, begin, sizeof begin - 1) != 0)
        return HB_OK;
    json_t *event = json_loadb(line, length, JSON_DISABLE_EOF_CHECK, NULL);
    const json_t *args = json_object_get(event, "args");
    hb_status status = integer(args, "step") == reader->step ? read_counts(reader, args) : HB_OK;
    json_decref(event);
    return status;
}

static hb_status check_whole(const struct reader *reader)
{
    const struct hb_routed *r = reader->routing;
    for (int64_t i = 0; i < r->microbatches * r->layers; i++)
        if (!reader->seen[i])
            return HB_FAIL(HB_EFORMAT,
                           "%s has no routing of step %lld, microbatch %lld, layer %lld; name a step that "
                           "the run made with --timeline",
                           reader->path, (long long)reader->step, (long long)(i / r->layers),
                           (long long)(i % r->layers));
    return HB_OK;
}

hb_status hb_routing_load(const char *run_folder, int64_t step, int64_t microbatches, int64_t layers,
                          int64_t experts, struct hb_routed *out)
{
    *out = (struct hb_routed){microbatches, layers, experts, NULL};
    char *path = hb_path_join(run_folder, "timeline.json"), *text = NULL;
    size_t size;
    struct reader reader = {path, step, out, calloc((size_t)(microbatches * layers) + 1, sizeof(bool))};
    hb_status status;
    out->counts = calloc((size_t)(microbatches * layers * experts) + 1, sizeof *out->counts);
    HB_TRY_CLEAN(path && reader.seen && out->counts ? HB_OK
                                                    : HB_FAIL(HB_EMEMORY, "out of memory for a routing"));
    HB_TRY_CLEAN(hb_file_read(path, &text, &size));
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        HB_TRY_CLEAN(read_line(&reader, line, length));
        line += length + (line[length] == '\n');
    }
    HB_TRY_CLEAN(check_whole(&reader));
cleanup:
    free(path);
    free(text);
    free(reader.seen);
    if (status != HB_OK)
        hb_routing_release(out);
    return status;
}
