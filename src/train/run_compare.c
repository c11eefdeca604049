#include "train/run_compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/yaml.h"
#include "train/run_config.h"

/* --- configuration --- */

struct collected {
    struct hb_config_differences *out;
    const struct hb_yaml *other;
    bool swapped; /* the tree that is walked is B: only keys that A lacks are new */
};

static void value_text(const struct hb_yaml_node *node, char *text, size_t size)
{
    text[0] = '\0';
    if (!node)
        return;
    if (node->kind == HB_YAML_SCALAR) {
        snprintf(text, size, "%s", node->text);
        return;
    }
    size_t used = (size_t)snprintf(text, size, "[");
    for (size_t i = 0; i < node->count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
                                 node->items[i]->text ? node->items[i]->text : "...");
    if (used < size)
        snprintf(text + used, size - used, "]");
}

static hb_status add_difference(struct collected *c, const char *key, const struct hb_yaml_node *node)
{
    struct hb_config_difference d = {.free = hb_run_config_is_free(key)};
    const struct hb_yaml_node *other = hb_yaml_get(c->other, key);
    snprintf(d.key, sizeof d.key, "%s", key);
    value_text(c->swapped ? other : node, d.a, sizeof d.a);
    value_text(c->swapped ? node : other, d.b, sizeof d.b);
    if (strcmp(d.a, d.b) == 0 || (c->swapped && other))
        return HB_OK;
    struct hb_config_difference *grown = realloc(c->out->list, (size_t)(c->out->count + 1) * sizeof *grown);
    if (!grown)
        return HB_FAIL(HB_EMEMORY, "out of memory to compare configurations");
    c->out->list = grown;
    grown[c->out->count++] = d;
    return HB_OK;
}

static hb_status walk(struct collected *c, const struct hb_yaml_node *node, const char *path)
{
    for (size_t i = 0; i < node->count; i++) {
        char key[128];
        snprintf(key, sizeof key, "%s%s%s", path, path[0] ? "." : "", node->items[i]->key);
        if (node->items[i]->kind == HB_YAML_MAP)
            HB_TRY(walk(c, node->items[i], key));
        else
            HB_TRY(add_difference(c, key, node->items[i]));
    }
    return HB_OK;
}

static hb_status load_config(const char *run, struct hb_yaml **out)
{
    char *path = hb_path_join(run, "config.yaml");
    hb_status status = path ? hb_yaml_load(path, out) : HB_FAIL(HB_EMEMORY, "out of memory");
    free(path);
    return status;
}

hb_status hb_config_compare(const char *run_a, const char *run_b, struct hb_config_differences *out)
{
    struct hb_yaml *a = NULL, *b = NULL;
    hb_status status;
    *out = (struct hb_config_differences){0};
    HB_TRY_CLEAN(load_config(run_a, &a));
    HB_TRY_CLEAN(load_config(run_b, &b));
    HB_TRY_CLEAN(walk(&(struct collected){.out = out, .other = b}, hb_yaml_get(a, ""), ""));
    HB_TRY_CLEAN(walk(&(struct collected){.out = out, .other = a, .swapped = true}, hb_yaml_get(b, ""), ""));
cleanup:
    hb_yaml_destroy(a);
    hb_yaml_destroy(b);
    if (status != HB_OK)
        hb_config_differences_release(out);
    return status;
}

void hb_config_differences_release(struct hb_config_differences *differences)
{
    free(differences->list);
    *differences = (struct hb_config_differences){0};
}

/* --- steps --- */

/* The lines of a metrics.jsonl, one at a time. */
struct lines {
    char *path, *text;
    size_t size, at;
    int64_t number;
    json_t *line; /* the current one, NULL at the end */
    int64_t step;
    struct hb_run_steps *steps;
};

/* To the next line. One that a crash cut short has no end and ends the file. */
static hb_status next(struct lines *l)
{
    json_decref(l->line);
    l->line = NULL;
    const char *begin = l->text + l->at, *end = memchr(begin, '\n', l->size - l->at);
    if (!end)
        return HB_OK;
    l->at = (size_t)(end - l->text) + 1;
    HB_TRY(hb_json_parse(l->path, ++l->number, begin, (size_t)(end - begin), 0, &l->line));
    HB_TRY(hb_json_int(l->line, l->path, "step", &l->step));
    if (!l->steps->count++)
        l->steps->first = l->step;
    l->steps->last = l->step;
    l->steps->digests += json_is_string(json_object_get(l->line, "digest"));
    return HB_OK;
}

static hb_status open_lines(struct lines *l, const char *run, struct hb_run_steps *steps)
{
    *l = (struct lines){.steps = steps, .path = hb_path_join(run, "metrics.jsonl")};
    if (!l->path)
        return HB_FAIL(HB_EMEMORY, "out of memory");
    if (!hb_file_exists(l->path))
        return HB_FAIL(HB_EARGUMENT,
                       "%s holds no run; expected is a folder with config.yaml and metrics.jsonl, as "
                       "hornbook train fills it",
                       run);
    HB_TRY(hb_file_read(l->path, &l->text, &l->size));
    return next(l);
}

static void close_lines(struct lines *l)
{
    json_decref(l->line);
    free(l->path);
    free(l->text);
}

/* As short as tells it from every other. */
static void real_text(double value, char *text, size_t size)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

static void text_of(const json_t *value, char *text, size_t size)
{
    if (json_is_string(value))
        snprintf(text, size, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text, size, "%" PRId64, (int64_t)json_integer_value(value));
    else if (json_is_real(value))
        real_text(json_real_value(value), text, size);
    else
        snprintf(text, size, "%s",
                 json_is_true(value)    ? "true"
                 : json_is_false(value) ? "false"
                                        : "not finite");
}

/* Fills the fields that both lines have; all equal? */
static bool compare_lines(const json_t *a, const json_t *b, struct hb_run_comparison *out)
{
    static const char *const names[] = {"tokens",       "loss",          "aux_loss", "z_loss",
                                        "experts_used", "experts_reached", "expert_entropy",
                                        "expert_max_over_mean", "grad_norm", "lr", "loss_scale",
                                        "skipped",      "held_out_loss", "digest"};
    bool all = true;
    out->field_count = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *x = json_object_get(a, names[i]), *y = json_object_get(b, names[i]);
        if (!x || !y)
            continue;
        struct hb_run_field *f = &out->fields[out->field_count++];
        *f = (struct hb_run_field){.equal = json_equal(x, y),
                                   .number = json_is_number(x) && json_is_number(y)};
        snprintf(f->name, sizeof f->name, "%s", names[i]);
        text_of(x, f->a, sizeof f->a);
        text_of(y, f->b, sizeof f->b);
        f->x = f->number ? json_number_value(x) : 0;
        f->y = f->number ? json_number_value(y) : 0;
        /* A whole number may be written as integer here and as real there. */
        f->equal = f->equal || (f->number && f->x == f->y);
        all = all && f->equal;
    }
    return all;
}

static bool has_digest(const struct hb_run_comparison *c)
{
    return c->field_count > 0 && strcmp(c->fields[c->field_count - 1].name, "digest") == 0;
}

static hb_status compare(struct lines *a, struct lines *b, struct hb_run_comparison *out)
{
    while (a->line && b->line) {
        if (a->step != b->step) {
            HB_TRY(next(a->step < b->step ? a : b));
            continue;
        }
        if (out->first_common < 0)
            out->first_common = a->step;
        out->common++;
        bool equal = compare_lines(a->line, b->line, out);
        if (!equal) {
            out->parts = a->step;
            break;
        }
        out->equal++;
        if (has_digest(out)) {
            out->digests++;
            out->last_proved = a->step;
        }
        HB_TRY(next(a));
        HB_TRY(next(b));
    }
    /* The rest only counts. */
    while (a->line)
        HB_TRY(next(a));
    while (b->line)
        HB_TRY(next(b));
    return HB_OK;
}

hb_status hb_run_compare(const char *run_a, const char *run_b, struct hb_run_comparison *out)
{
    struct lines a = {0}, b = {0};
    *out = (struct hb_run_comparison){.first_common = -1, .parts = -1, .last_proved = -1};
    hb_status status;
    HB_TRY_CLEAN(open_lines(&a, run_a, &out->a));
    HB_TRY_CLEAN(open_lines(&b, run_b, &out->b));
    HB_TRY_CLEAN(compare(&a, &b, out));
cleanup:
    close_lines(&a);
    close_lines(&b);
    return status;
}
