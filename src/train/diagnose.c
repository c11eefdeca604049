#include "train/diagnose.h"

#include <stdlib.h>
#include <string.h>

#include "ops/nonfinite.h"
#include "train/run_trace.h"

/* The first of what the ranks have found, in words. */
static hb_status agree_on_first(struct hb_comm *world, struct hb_nonfinite *found, char *text, size_t size)
{
    int ranks = hb_comm_size(world), first = 0;
    struct answer {
        int64_t found, key[HB_NONFINITE_KEY];
    } own = {.found = found->found}, *all = calloc((size_t)ranks, sizeof *all);
    size_t *bytes = calloc((size_t)ranks, sizeof *bytes);
    hb_status status = all && bytes ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for a diagnosis");
    memcpy(own.key, found->key, sizeof own.key);
    for (int r = 0; status == HB_OK && r < ranks; r++)
        bytes[r] = sizeof own;
    if (status == HB_OK)
        status = hb_comm_gather(world, &own, all, bytes);
    struct hb_nonfinite best = {0};
    for (int r = 0; status == HB_OK && r < ranks; r++)
        if (all[r].found && hb_nonfinite_before(all[r].key, &best)) {
            best.found = true;
            memcpy(best.key, all[r].key, sizeof best.key);
            first = r;
        }
    free(all);
    free(bytes);
    HB_TRY(status);
    return hb_comm_broadcast(world, first, text, size);
}

hb_status hb_diagnose(struct hb_stepper *s, const struct hb_batch *batches, int64_t M, float scale)
{
    struct hb_nonfinite found = {0};
    struct hb_op_trace trace = {.seek = &found, .microbatch = -1, .place = {"", -1}, .pass = ""};
    struct hb_step_report ignored;
    char text[512] = "";
    s->context->trace = &trace;
    hb_status status = hb_run_trace_names(s->model);
    if (status == HB_OK)
        status = hb_step(s, batches, M, scale, false, &ignored);
    s->context->trace = NULL;
    hb_trace_close(&trace);
    HB_TRY(status);
    hb_nonfinite_describe(&found, text, sizeof text);
    if (s->ranks)
        HB_TRY(agree_on_first(s->ranks->mesh.world, &found, text, sizeof text));
    return HB_FAIL(HB_ENONFINITE,
                   "the first tensor that is not finite in this one: %s; the loss scale was %g, earlier "
                   "checkpoints are whole",
                   text, (double)scale);
}
