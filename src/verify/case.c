#include "verify/case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

static const char format[] = "hornbook-golden 1";

static hb_status metadata(const struct hb_safetensors *file, const char *key, const char **text)
{
    *text = hb_safetensors_metadata(file, key);
    return *text ? HB_OK : HB_FAIL(HB_EFORMAT, "__metadata__ lacks '%s'", key);
}

static hb_status metadata_object(const struct hb_safetensors *file, const char *key, json_t **object)
{
    const char *text;
    HB_TRY(metadata(file, key, &text));
    HB_TRY(hb_json_parse(key, 1, text, strlen(text), 0, object));
    if (json_is_object(*object))
        return HB_OK;
    json_decref(*object);
    *object = NULL;
    return HB_FAIL(HB_EFORMAT, "'%s' must be a JSON object", key);
}

/* "F32" and so on, as safetensors spells dtypes. */
static hb_status dtype_of(const char *name, enum hb_dtype *out)
{
    static const char *const names[HB_DTYPE_COUNT] = {"F64", "F32", "BF16", "F16", "I64", "I32", "U8"};
    for (int d = 0; d < HB_DTYPE_COUNT; d++)
        if (strcmp(name, names[d]) == 0) {
            *out = (enum hb_dtype)d;
            return HB_OK;
        }
    return HB_FAIL(HB_EFORMAT, "dtype '%s' is unknown", name);
}

/* tensors "PREFIX.NAME" of the file, if there. */
static hb_status find(const struct hb_safetensors *file, const char *prefix, const char *name, bool *there,
                      struct hb_safetensors_tensor *out)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    *there = hb_safetensors_has(file, full);
    return *there ? hb_safetensors_find(file, full, out) : HB_OK;
}

static bool same_shape(const struct hb_safetensors_tensor *a, const struct hb_safetensors_tensor *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

/* The declaration of output `name`: {"dtype": "BF16", "n": 12}. */
static hb_status read_output(const struct hb_safetensors *file, const json_t *outputs,
                             struct hb_case_tensor *t)
{
    const char *name = t->argument->name, *dtype;
    json_t *entry;
    bool terms;
    HB_TRY(hb_json_object(outputs, "outputs", name, &entry));
    HB_TRY(hb_json_string(entry, name, "dtype", &dtype));
    HB_TRY(dtype_of(dtype, &t->dtype));
    HB_TRY(hb_json_int(entry, name, "n", &t->steps));
    HB_TRY(find(file, "abs", name, &terms, &t->terms));
    if (t->steps < 0)
        return HB_FAIL(HB_EFORMAT, "n of %s is negative", name);
    if (t->steps == 0)
        return t->output.dtype == t->dtype
                   ? HB_OK
                   : HB_FAIL(HB_EFORMAT, "output.%s is exact, must be %s", name, dtype);
    if (t->dtype == HB_I32 || t->dtype == HB_I64 || t->dtype == HB_U8)
        return HB_FAIL(HB_EFORMAT, "output.%s holds integers, its n must be 0", name);
    if (t->output.dtype != HB_F64)
        return HB_FAIL(HB_EFORMAT, "output.%s has a bound, must be F64", name);
    if (!terms || t->terms.dtype != HB_F32 || !same_shape(&t->terms, &t->output))
        return HB_FAIL(HB_EFORMAT, "output.%s has a bound and needs abs.%s, F32 of its shape", name, name);
    return HB_OK;
}

static hb_status read_tensor(struct hb_case *c, const struct hb_op_tensor *argument, const json_t *outputs)
{
    struct hb_case_tensor t = {.argument = argument};
    HB_TRY(find(c->file, "input", argument->name, &t.given, &t.input));
    HB_TRY(find(c->file, "output", argument->name, &t.expected, &t.output));
    if (!t.given && !t.expected)
        return HB_OK;
    if (t.expected && argument->use == HB_READS)
        return HB_FAIL(HB_EFORMAT, "output.%s: op %s only reads %s", argument->name, c->op->name,
                       argument->name);
    if (t.expected)
        HB_TRY(read_output(c->file, outputs, &t));
    else
        t.dtype = t.input.dtype;
    if (t.given && t.expected && (t.input.dtype != t.dtype || !same_shape(&t.input, &t.output)))
        return HB_FAIL(HB_EFORMAT, "input.%s and output.%s differ in dtype or shape", argument->name,
                       argument->name);
    const struct hb_safetensors_tensor *shape = t.given ? &t.input : &t.output;
    t.rank = shape->rank;
    memcpy(t.shape, shape->shape, sizeof t.shape);
    t.count = shape->count;
    if (c->count == HB_CASE_TENSORS)
        return HB_FAIL(HB_EFORMAT, "more than %d tensors", HB_CASE_TENSORS);
    c->tensors[c->count++] = t;
    return HB_OK;
}

/* Everything in the file must have been understood: a misspelt name would
 * otherwise leave an argument out in silence. */
static hb_status check_all_used(const struct hb_case *c)
{
    size_t used = 0;
    for (int i = 0; i < c->count; i++)
        used += (size_t)(c->tensors[i].given + c->tensors[i].expected + (c->tensors[i].steps > 0));
    if (used != hb_safetensors_count(c->file))
        return HB_FAIL(HB_EFORMAT, "has %zu tensors, of which op %s knows %zu", hb_safetensors_count(c->file),
                       c->op->name, used);
    const char *key;
    json_t *value;
    json_object_foreach (c->args, key, value) {
        bool known = false;
        for (int i = 0; i < c->op->number_count; i++)
            known = known || strcmp(c->op->numbers[i].name, key) == 0;
        if (!known)
            return HB_FAIL(HB_EFORMAT, "op %s has no argument '%s'", c->op->name, key);
    }
    return HB_OK;
}

static hb_status read_case(struct hb_case *c)
{
    const char *text, *op, *dtype;
    json_t *outputs = NULL;
    HB_TRY(metadata(c->file, "format", &text));
    if (strcmp(text, format) != 0)
        return HB_FAIL(HB_EFORMAT, "format is '%s', must be '%s'", text, format);
    HB_TRY(metadata(c->file, "op", &op));
    c->op = hb_op_find(op);
    if (!c->op)
        return HB_FAIL(HB_EFORMAT, "op '%s' is unknown; 'hornbook ops' lists them", op);
    HB_TRY(metadata(c->file, "dtype", &dtype));
    HB_TRY(dtype_of(dtype, &c->dtype));
    HB_TRY(metadata(c->file, "case", &c->label));
    HB_TRY(metadata_object(c->file, "args", &c->args));
    HB_TRY(metadata_object(c->file, "outputs", &outputs));
    hb_status status = HB_OK;
    for (int i = 0; status == HB_OK && i < c->op->tensor_count; i++)
        status = read_tensor(c, &c->op->tensors[i], outputs);
    json_decref(outputs);
    return status == HB_OK ? check_all_used(c) : status;
}

hb_status hb_case_open(const char *path, struct hb_case *out)
{
    *out = (struct hb_case){0};
    HB_TRY(hb_safetensors_open(path, &out->file));
    hb_status status = read_case(out);
    if (status == HB_OK)
        return HB_OK;
    hb_case_close(out);
    return hb_fail_in(status, "%s", path);
}

void hb_case_close(struct hb_case *c)
{
    json_decref(c->args);
    hb_safetensors_close(c->file);
    *c = (struct hb_case){0};
}

bool hb_case_fits(const struct hb_case *c, const struct hb_backend *backend)
{
    if (strcmp(c->op->name, "cast") == 0) /* between all types, whatever the backend computes with */
        return true;
    for (int i = 0; i < c->count; i++) {
        enum hb_dtype d = c->tensors[i].dtype;
        if ((d == HB_F32 || d == HB_BF16 || d == HB_F16) && !(backend->storage & HB_STORAGE(d)))
            return false;
    }
    return true;
}

char *hb_case_place(const struct hb_case *c, int number, int64_t at, char *text, size_t size)
{
    const struct hb_case_tensor *t = &c->tensors[number];
    int64_t below = t->count;
    size_t used = (size_t)snprintf(text, size, "%s[", t->argument->name);
    for (int d = 0; d < t->rank && used < size; d++) {
        below /= t->shape[d];
        used += (size_t)snprintf(text + used, size - used, "%s%lld", d ? "," : "",
                                 (long long)(at / below % t->shape[d]));
    }
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}
