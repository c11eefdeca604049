#include "ops/trace.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/safetensors.h"
#include "ops/nonfinite.h"

/* --- life --- */

hb_status hb_trace_open(struct hb_op_trace *trace, const char *path, const char *values_folder)
{
    *trace = (struct hb_op_trace){
        .values_step = -1, .values_call = -1, .microbatch = -1, .place = {"", -1}, .pass = ""};
    snprintf(trace->path, sizeof trace->path, "%s", path);
    snprintf(trace->values_folder, sizeof trace->values_folder, "%s", values_folder);
    trace->out = fopen(path, "a");
    return trace->out ? HB_OK : hb_file_fail("open", path);
}

hb_status hb_trace_flush(struct hb_op_trace *trace)
{
    if (fflush(trace->out) != 0 || ferror(trace->out))
        return HB_FAIL(HB_EIO, "%s: cannot be written; is the disk full?", trace->path);
    return HB_OK;
}

static void drop_values(struct hb_op_trace *trace)
{
    while (trace->value_count > 0)
        free(trace->values[--trace->value_count].tensor.data);
}

void hb_trace_close(struct hb_op_trace *trace)
{
    if (trace->out)
        fclose(trace->out);
    drop_values(trace);
    for (int64_t i = 0; i < trace->name_count; i++)
        free(trace->names[i].name);
    free(trace->names);
    *trace = (struct hb_op_trace){0};
}

void hb_trace_begin_step(struct hb_op_trace *trace, int64_t step)
{
    trace->step = step;
    trace->call = 0;
    trace->microbatch = -1;
}

void hb_trace_values_name(int64_t step, int64_t call, char text[64])
{
    snprintf(text, 64, "step-%08" PRId64 "-call-%06" PRId64 ".safetensors", step, call);
}

/* --- names of memory --- */

static struct hb_trace_name *find_name(const struct hb_op_trace *trace, const void *data)
{
    for (int64_t i = 0; i < trace->name_count; i++)
        if (trace->names[i].data == data)
            return &trace->names[i];
    return NULL;
}

static hb_status new_name(struct hb_op_trace *trace, struct hb_trace_name **out)
{
    *out = find_name(trace, NULL);
    if (*out)
        return HB_OK;
    if (trace->name_count == trace->name_capacity) {
        int64_t capacity = trace->name_capacity ? 2 * trace->name_capacity : 256;
        struct hb_trace_name *grown = realloc(trace->names, (size_t)capacity * sizeof *grown);
        if (!grown)
            return HB_FAIL(HB_EMEMORY, "out of memory for the names of a trace");
        trace->names = grown;
        trace->name_capacity = capacity;
    }
    *out = &trace->names[trace->name_count++];
    **out = (struct hb_trace_name){0};
    return HB_OK;
}

hb_status hb_trace_call_it(struct hb_context *context, const void *data, const char *what, const char *name)
{
    struct hb_op_trace *trace = context->trace;
    if (!trace || !data)
        return HB_OK;
    struct hb_trace_name *entry = find_name(trace, data);
    if (!entry)
        HB_TRY(new_name(trace, &entry));
    char *copy = strdup(name);
    if (!copy)
        return HB_FAIL(HB_EMEMORY, "out of memory for the names of a trace");
    free(entry->name);
    *entry = (struct hb_trace_name){data, what, copy, false};
    return HB_OK;
}

hb_status hb_trace_call_part(struct hb_context *context, const void *data, const char *what, const char *name)
{
    HB_TRY(hb_trace_call_it(context, data, what, name));
    struct hb_trace_name *entry = context->trace && data ? find_name(context->trace, data) : NULL;
    if (entry)
        entry->part = true;
    return HB_OK;
}

bool hb_trace_is_part(const struct hb_op_trace *trace, const void *data)
{
    const struct hb_trace_name *entry = find_name(trace, data);
    return entry && entry->part;
}

void hb_trace_name_of(const struct hb_op_trace *trace, const void *data, char *text, size_t size)
{
    const struct hb_trace_name *entry = find_name(trace, data);
    text[0] = '\0';
    if (entry)
        snprintf(text, size, "%s %s", entry->what, entry->name);
}

void hb_trace_forget(struct hb_context *context, const void *data)
{
    struct hb_trace_name *entry = context->trace ? find_name(context->trace, data) : NULL;
    if (entry) {
        free(entry->name);
        *entry = (struct hb_trace_name){0};
    }
}

/* --- digests --- */

static void one_nan(enum hb_dtype dtype, void *data, int64_t n)
{
    switch (dtype) {
    case HB_F64:
        for (int64_t i = 0; i < n; i++)
            if (isnan(((double *)data)[i]))
                ((double *)data)[i] = (double)hb_f32_of_bits(0x7fc00000u);
        break;
    case HB_F32:
        for (int64_t i = 0; i < n; i++)
            if (isnan(((float *)data)[i]))
                ((float *)data)[i] = hb_f32_of_bits(0x7fc00000u);
        break;
    case HB_BF16:
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)data)[i] = hb_bf16_of_f32(hb_f32_of_bf16(((uint16_t *)data)[i]));
        break;
    case HB_F16:
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)data)[i] = hb_f16_of_f32(hb_f32_of_f16(((uint16_t *)data)[i]));
        break;
    default:
        break;
    }
}

/* Absent parts hold what the memory held before. */
static hb_status clear_absent(struct hb_context *context, const struct hb_tensor *present, char *data,
                              size_t bytes)
{
    int64_t parts = hb_tensor_count(present);
    int32_t *flags = malloc((size_t)parts * sizeof *flags + 1);
    if (!flags)
        return HB_FAIL(HB_EMEMORY, "out of memory to trace a call");
    hb_status status = hb_copy_out(context, flags, *present);
    for (int64_t i = 0; i < parts && status == HB_OK; i++)
        if (!flags[i])
            memset(data + (size_t)i * (bytes / (size_t)parts), 0, bytes / (size_t)parts);
    free(flags);
    return status;
}

hb_status hb_trace_fetch(struct hb_context *context, const void *args, const struct hb_op_tensor *which,
                         char **data)
{
    const struct hb_tensor *t = hb_op_tensor_of(args, which), *present = NULL;
    size_t bytes = hb_tensor_bytes(t);
    if (which->present)
        present = (const struct hb_tensor *)((const char *)args + which->present);
    *data = malloc(bytes + 1);
    if (!*data)
        return HB_FAIL(HB_EMEMORY, "out of memory to trace a call");
    hb_status status = hb_copy_out(context, *data, *t);
    if (status == HB_OK && present && present->data)
        status = clear_absent(context, present, *data, bytes);
    if (status != HB_OK) {
        free(*data);
        return status;
    }
    one_nan(t->dtype, *data, hb_tensor_count(t));
    return HB_OK;
}

/* --- values --- */

static bool keeps_values(const struct hb_op_trace *trace)
{
    return trace->step == trace->values_step && (trace->values_call < 0 || trace->call == trace->values_call);
}

static void keep(struct hb_op_trace *trace, const char *side, const char *name, const struct hb_tensor *t,
                 char *data)
{
    struct hb_trace_value *v = &trace->values[trace->value_count++];
    snprintf(v->name, sizeof v->name, "%s.%s", side, name);
    v->tensor = *t;
    v->tensor.home = NULL;
    v->tensor.data = data;
}

/* Wide dtypes first, as the format wants them for alignment. */
static int by_width(const void *a, const void *b)
{
    const struct hb_trace_value *x = a, *y = b;
    size_t wx = hb_dtype_size(x->tensor.dtype), wy = hb_dtype_size(y->tensor.dtype);
    return wx != wy ? (wx > wy ? -1 : 1) : strcmp(x->name, y->name);
}

static hb_status fill_values(const struct hb_op_trace *trace, struct hb_safetensors_writer *writer)
{
    for (int i = 0; i < trace->value_count; i++)
        HB_TRY(hb_safetensors_writer_declare(writer, trace->values[i].name, trace->values[i].tensor.dtype,
                                             trace->values[i].tensor.rank, trace->values[i].tensor.shape));
    for (int i = 0; i < trace->value_count; i++)
        HB_TRY(hb_safetensors_writer_write(writer, trace->values[i].name, trace->values[i].tensor.data,
                                           hb_tensor_bytes(&trace->values[i].tensor)));
    return hb_safetensors_writer_finish(writer, NULL);
}

static hb_status write_values(struct hb_op_trace *trace)
{
    char name[64];
    struct hb_safetensors_writer *writer;
    qsort(trace->values, (size_t)trace->value_count, sizeof *trace->values, by_width);
    hb_trace_values_name(trace->step, trace->call, name);
    HB_TRY(hb_folder_create(trace->values_folder));
    char *path = hb_path_join(trace->values_folder, name);
    hb_status status =
        path ? hb_safetensors_writer_create(path, &writer) : HB_FAIL(HB_EMEMORY, "out of memory");
    free(path);
    HB_TRY(status);
    status = fill_values(trace, writer);
    hb_safetensors_writer_destroy(writer);
    return status;
}

/* --- calls --- */

/* The tensors of one side, as the members of a JSON object. */
static hb_status side(struct hb_context *context, const struct hb_op_entry *op, const void *args,
                      enum hb_op_use use)
{
    struct hb_op_trace *trace = context->trace;
    const char *label = use == HB_READS ? "in" : "out", *comma = "";
    fprintf(trace->out, ", \"%s\": {", label);
    for (int i = 0; i < op->tensor_count; i++) {
        const struct hb_op_tensor *which = &op->tensors[i];
        const struct hb_tensor *t = hb_op_tensor_of(args, which);
        char shape[96], *data;
        if (!t->data || !(hb_op_use_of(args, which) & use))
            continue;
        HB_TRY(hb_trace_fetch(context, args, which, &data));
        fprintf(trace->out, "%s\"%s\": [\"%s\", \"%016" PRIx64 "\"", comma, which->name,
                hb_tensor_describe(t, shape, sizeof shape), hb_hash64(data, hb_tensor_bytes(t)));
        const struct hb_trace_name *name = find_name(trace, t->data);
        if (name)
            fprintf(trace->out, ", \"%s %s\"", name->what, name->name);
        fputs("]", trace->out);
        comma = ", ";
        if (keeps_values(trace))
            keep(trace, label, which->name, t, data);
        else
            free(data);
    }
    fputs("}", trace->out);
    return HB_OK;
}

static void numbers(FILE *out, const struct hb_op_entry *op, const void *args)
{
    char text[32];
    for (int i = 0; i < op->number_count; i++)
        fprintf(out, "%s\"%s\": \"%s\"", i ? ", " : ", \"with\": {", op->numbers[i].name,
                hb_op_number_text(args, &op->numbers[i], text));
    if (op->number_count)
        fputs("}", out);
}

hb_status hb_trace_before(struct hb_context *context, const char *op, const void *args)
{
    struct hb_op_trace *trace = context->trace;
    if (trace->seek)
        return hb_nonfinite_look(context, op, args, HB_READS);
    drop_values(trace);
    fprintf(trace->out, "{\"step\": %" PRId64 ", \"call\": %" PRId64, trace->step, trace->call);
    if (trace->microbatch >= 0)
        fprintf(trace->out, ", \"microbatch\": %" PRId64, trace->microbatch);
    fprintf(trace->out, ", \"block\": \"%s", trace->place.block);
    if (trace->place.layer >= 0)
        fprintf(trace->out, " %" PRId64, trace->place.layer);
    fprintf(trace->out, "\", \"pass\": \"%s\", \"op\": \"%s\"", trace->pass, op);
    numbers(trace->out, hb_op_find(op), args);
    return side(context, hb_op_find(op), args, HB_READS);
}

hb_status hb_trace_after(struct hb_context *context, const char *op, const void *args)
{
    struct hb_op_trace *trace = context->trace;
    if (trace->seek)
        return hb_nonfinite_look(context, op, args, HB_WRITES);
    hb_status status = side(context, hb_op_find(op), args, HB_WRITES);
    fputs("}\n", trace->out);
    if (status == HB_OK && keeps_values(trace))
        status = write_values(trace);
    drop_values(trace);
    trace->call++;
    return status;
}
