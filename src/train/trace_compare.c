#include "train/trace_compare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

/* A trace, line by line; it may be larger than memory. */
struct reader {
    char *path, *line;
    size_t capacity;
    FILE *file;
    int64_t number, step;
    bool ended;
};

static hb_status next(struct reader *r)
{
    long long step;
    ssize_t length = getline(&r->line, &r->capacity, r->file);
    if (length < 0 || r->line[length - 1] != '\n') { /* the end, or a line that a crash cut short */
        r->ended = true;
        return ferror(r->file) ? hb_file_fail("read", r->path) : HB_OK;
    }
    r->number++;
    if (sscanf(r->line, "{\"step\": %lld", &step) != 1)
        return HB_FAIL(HB_EFORMAT, "%s:%" PRId64 ": is no line of a trace", r->path, r->number);
    r->step = step;
    return HB_OK;
}

static hb_status open_trace(struct reader *r, const char *run, bool *there)
{
    *r = (struct reader){.path = hb_path_join(run, "trace.jsonl")};
    if (!r->path)
        return HB_FAIL(HB_EMEMORY, "out of memory");
    r->file = fopen(r->path, "r");
    *there = r->file != NULL;
    if (!r->file)
        return errno == ENOENT ? HB_OK : hb_file_fail("open", r->path);
    return next(r);
}

static void close_trace(struct reader *r)
{
    if (r->file)
        fclose(r->file);
    free(r->path);
    free(r->line);
}

/* --- one call --- */

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void describe_place(const json_t *call, char *text, size_t size)
{
    const json_t *m = json_object_get(call, "microbatch");
    size_t used = 0;
    if (!call) {
        snprintf(text, size, "nothing more in this step");
        return;
    }
    if (m)
        used = (size_t)snprintf(text, size, "microbatch %" PRId64 ", ", (int64_t)json_integer_value(m));
    snprintf(text + used, size - used, "%s, %s, %s", text_at(call, "block"), text_at(call, "pass"),
             text_at(call, "op"));
}

/* Part number i of a tensor's [shape, digest, name], or all of a number. */
static const char *part(const json_t *value, size_t i)
{
    const char *text = json_is_array(value) ? json_string_value(json_array_get(value, i))
                       : i == 1             ? json_string_value(value)
                                            : NULL;
    return text ? text : "";
}

/* Adds the arguments of one side. Returns whether shapes are the same. */
static bool compare_side(const char *side, const json_t *a, const json_t *b, struct hb_trace_difference *out)
{
    bool same = json_object_size(a) == json_object_size(b);
    const char *name;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)a, name, x)
    {
        const json_t *y = json_object_get(b, name);
        if (out->item_count == HB_TRACE_ITEMS_MAX)
            break;
        struct hb_trace_item *item = &out->items[out->item_count++];
        snprintf(item->side, sizeof item->side, "%s", side);
        snprintf(item->name, sizeof item->name, "%s", name);
        snprintf(item->shape, sizeof item->shape, "%s", part(x, 0));
        snprintf(item->called, sizeof item->called, "%s", part(x, 2));
        snprintf(item->a, sizeof item->a, "%s", part(x, 1));
        snprintf(item->b, sizeof item->b, "%s", part(y, 1));
        bool alike = strcmp(part(x, 0), part(y, 0)) == 0;
        snprintf(item->shape_b, sizeof item->shape_b, "%s", alike ? "" : part(y, 0));
        item->equal = alike && strcmp(item->a, item->b) == 0;
        same = same && alike;
    }
    return same;
}

/* Do the calls differ in what matters? `a` or `b` NULL: that run has no such call. */
static bool compare_calls(const json_t *a, const json_t *b, struct hb_trace_difference *out)
{
    const json_t *call = a ? a : b, *m = json_object_get(call, "microbatch");
    describe_place(a, out->place_a, sizeof out->place_a);
    describe_place(b, out->place_b, sizeof out->place_b);
    out->call = json_integer_value(json_object_get(call, "call"));
    out->microbatch = m ? json_integer_value(m) : -1;
    snprintf(out->op, sizeof out->op, "%s", text_at(call, "op"));
    out->item_count = 0;
    bool same = a && b && strcmp(out->place_a, out->place_b) == 0, equal = true;
    static const char *const sides[] = {"with", "in", "out"};
    for (int s = 0; s < 3 && same; s++)
        same =
            compare_side(sides[s], json_object_get(a, sides[s]), json_object_get(b, sides[s]), out) && same;
    for (int i = 0; i < out->item_count; i++)
        equal = equal && out->items[i].equal;
    out->verdict = same ? HB_TRACE_DIFFERENT : HB_TRACE_OTHER_WORK;
    return !same || !equal;
}

/* Looks at two lines that are not the same text. */
static hb_status look(const struct reader *a, const struct reader *b, bool in_a, bool in_b,
                      struct hb_trace_difference *out, bool *differ)
{
    json_t *x = NULL, *y = NULL;
    hb_status status = HB_OK;
    if (in_a)
        status = hb_json_parse(a->path, a->number, a->line, strlen(a->line), 0, &x);
    if (status == HB_OK && in_b)
        status = hb_json_parse(b->path, b->number, b->line, strlen(b->line), 0, &y);
    if (status == HB_OK)
        *differ = compare_calls(x, y, out);
    json_decref(x);
    json_decref(y);
    return status;
}

/* To the first line of a step that both have, from where both stand. */
static hb_status align(struct reader *a, struct reader *b)
{
    while (!a->ended && !b->ended && a->step != b->step)
        HB_TRY(next(a->step < b->step ? a : b));
    return HB_OK;
}

/* Both stand on the first line of the same step. */
static hb_status compare_step(struct reader *a, struct reader *b, struct hb_trace_difference *out,
                              bool *differ)
{
    int64_t step = a->step;
    out->step = step;
    out->calls_in_step = 0;
    out->first_step = out->first_step < 0 ? step : out->first_step;
    out->last_step = step;
    for (;;) {
        bool in_a = !a->ended && a->step == step, in_b = !b->ended && b->step == step;
        if (!in_a && !in_b)
            return HB_OK;
        if (!in_a || !in_b || strcmp(a->line, b->line) != 0) {
            HB_TRY(look(a, b, in_a, in_b, out, differ));
            if (*differ)
                return HB_OK;
        }
        out->calls++;
        out->calls_in_step++;
        HB_TRY(next(a));
        HB_TRY(next(b));
    }
}

static hb_status compare(struct reader *a, struct reader *b, struct hb_trace_difference *out)
{
    bool differ = false;
    HB_TRY(align(a, b));
    while (!a->ended && !b->ended) {
        HB_TRY(compare_step(a, b, out, &differ));
        if (differ)
            return HB_OK;
        HB_TRY(align(a, b));
    }
    out->verdict = out->first_step < 0 ? HB_TRACE_APART : HB_TRACE_EQUAL;
    return HB_OK;
}

hb_status hb_trace_compare(const char *run_a, const char *run_b, struct hb_trace_difference *out)
{
    struct reader a = {0}, b = {0};
    *out = (struct hb_trace_difference){.verdict = HB_TRACE_MISSING, .first_step = -1, .microbatch = -1};
    hb_status status;
    HB_TRY_CLEAN(open_trace(&a, run_a, &out->has_a));
    HB_TRY_CLEAN(open_trace(&b, run_b, &out->has_b));
    if (out->has_a && out->has_b)
        HB_TRY_CLEAN(compare(&a, &b, out));
cleanup:
    close_trace(&a);
    close_trace(&b);
    return status;
}
