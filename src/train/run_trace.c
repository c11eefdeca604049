#include "train/run_trace.h"

#include <stdlib.h>

#include "core/file.h"
#include "train/metrics.h"
#include "train/trace_blocks.h"

hb_status hb_run_trace_names(const struct hb_model *model)
{
    for (int64_t i = 0; i < model->param_count; i++) {
        const struct hb_param *p = model->params[i];
        char name[2 * HB_PARAM_NAME_MAX];
        hb_param_whole_name(p, name, sizeof name);
        HB_TRY(hb_param_call(model->context, p));
        HB_TRY(hb_trace_call_it(model->context, p->m.data, "first moment of", name));
        HB_TRY(hb_trace_call_it(model->context, p->v.data, "second moment of", name));
        for (int u = 0; u < p->use_count; u++)
            HB_TRY(hb_trace_call_it(model->context, p->use[u].root.data, "gradient of", name));
    }
    return HB_OK;
}

hb_status hb_run_trace_trim(const char *run_folder, int64_t keep_steps)
{
    char **paths;
    size_t count;
    HB_TRY(hb_trace_files(run_folder, &paths, &count));
    hb_status status = HB_OK;
    for (size_t i = 0; i < count; i++) {
        if (status == HB_OK)
            status = hb_metrics_trim(paths[i], keep_steps);
        free(paths[i]);
    }
    free(paths);
    return status;
}

static hb_status open_file(struct hb_run_trace *t, const char *run_folder, int rank)
{
    char file[64] = "trace.jsonl", folder[64] = "trace-values";
    if (rank >= 0) {
        snprintf(file, sizeof file, "trace/rank-%05d.jsonl", rank);
        snprintf(folder, sizeof folder, "trace-values/rank-%05d", rank);
    }
    char *path = hb_path_join(run_folder, file), *values = hb_path_join(run_folder, folder);
    char *traces = hb_path_join(run_folder, "trace");
    hb_status status = path && values && traces ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for a trace");
    if (status == HB_OK && rank >= 0)
        status = hb_folder_create(traces);
    free(traces);
    if (status == HB_OK)
        status = hb_trace_open(&t->trace, path, values);
    free(path);
    free(values);
    return status;
}

hb_status hb_run_trace_create(const char *run_folder, int rank,
                              const struct hb_trace_request *request, struct hb_model *model,
                              struct hb_run_trace **out)
{
    struct hb_run_trace *t = calloc(1, sizeof *t);
    if (!t)
        return HB_FAIL(HB_EMEMORY, "out of memory for a trace");
    t->request = *request;
    t->context = model->context;
    hb_status status = open_file(t, run_folder, rank);
    if (status == HB_OK) {
        t->trace.values_step = request->values_step;
        t->trace.values_call = request->values_call;
        t->context->trace = &t->trace;
        status = hb_run_trace_names(model);
        t->context->trace = NULL;
    }
    if (status != HB_OK) {
        hb_run_trace_destroy(t);
        return status;
    }
    *out = t;
    return HB_OK;
}

void hb_run_trace_destroy(struct hb_run_trace *t)
{
    if (!t)
        return;
    if (t->context->trace == &t->trace)
        t->context->trace = NULL;
    hb_trace_close(&t->trace);
    free(t);
}

void hb_run_trace_begin(struct hb_run_trace *t, int64_t step)
{
    if (!t || step < t->request.from || step > t->request.to)
        return;
    hb_trace_begin_step(&t->trace, step);
    t->context->trace = &t->trace;
}

hb_status hb_run_trace_end(struct hb_run_trace *t)
{
    if (!t || !t->context->trace)
        return HB_OK;
    t->context->trace = NULL;
    return hb_trace_flush(&t->trace);
}
