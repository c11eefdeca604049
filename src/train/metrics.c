#include "train/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/math64.h"
#include "train/tensorboard.h"

/* Bytes of the leading lines whose step is at most `keep_steps`. A line cut
 * short by a crash, and all behind it, go; but not for want of memory. */
static hb_status count_kept(const char *text, size_t size, int64_t keep_steps, size_t *kept)
{
    *kept = 0;
    while (*kept < size) {
        const char *end = memchr(text + *kept, '\n', size - *kept);
        json_t *line = NULL;
        hb_status status =
            end ? hb_json_parse("a line", 1, text + *kept, (size_t)(end - text) - *kept, 0, &line) : HB_OK;
        const json_t *step = json_object_get(line, "step");
        bool keep = json_is_integer(step) && json_integer_value(step) <= keep_steps;
        json_decref(line);
        if (status == HB_EMEMORY)
            return status;
        if (!keep)
            break;
        *kept = (size_t)(end - text) + 1;
    }
    return HB_OK;
}

hb_status hb_metrics_trim(const char *path, int64_t keep_steps)
{
    char *text;
    size_t size, kept;
    HB_TRY(hb_file_read(path, &text, &size));
    hb_status status = count_kept(text, size, keep_steps, &kept);
    if (status == HB_OK && kept < size)
        status = hb_file_write(path, text, kept);
    free(text);
    return status == HB_OK ? HB_OK : hb_fail_in(status, "%s", path);
}

hb_status hb_metrics_open(struct hb_metrics *metrics, const char *run_folder, int64_t keep_steps,
                          bool tensorboard)
{
    *metrics = (struct hb_metrics){0};
    snprintf(metrics->path, sizeof metrics->path, "%s/metrics.jsonl", run_folder);
    if (hb_file_exists(metrics->path))
        HB_TRY(hb_metrics_trim(metrics->path, keep_steps));
    metrics->lines = fopen(metrics->path, "a");
    if (!metrics->lines)
        return HB_FAIL(HB_EIO, "%s: cannot be opened for writing", metrics->path);
    hb_status status = tensorboard ? hb_tensorboard_open(run_folder, &metrics->tensorboard) : HB_OK;
    if (status != HB_OK)
        hb_metrics_close(metrics);
    return status;
}

void hb_metrics_close(struct hb_metrics *metrics)
{
    if (metrics->lines)
        fclose(metrics->lines);
    if (metrics->tensorboard)
        fclose(metrics->tensorboard);
    *metrics = (struct hb_metrics){0};
}

/* JSON has no NaN: such a number is null. */
static void number(FILE *out, const char *key, double value)
{
    if (isfinite(value))
        fprintf(out, ", \"%s\": %.17g", key, value);
    else
        fprintf(out, ", \"%s\": null", key);
}

hb_status hb_metrics_write(struct hb_metrics *metrics, const struct hb_metrics_line *line)
{
    const struct hb_step_report *r = line->report;
    FILE *out = metrics->lines;
    fprintf(out, "{\"step\": %lld, \"tokens\": %lld", (long long)line->step, (long long)line->tokens);
    number(out, "loss", r->loss);
    if (line->experts) {
        number(out, "aux_loss", r->aux);
        number(out, "z_loss", r->z);
        number(out, "experts_used", line->experts->used);
        number(out, "experts_reached", line->experts->reached);
        number(out, "expert_entropy", line->experts->entropy);
        number(out, "expert_max_over_mean", line->experts->max_over_mean);
    }
    number(out, "grad_norm", r->verdict.grad_norm);
    number(out, "lr", r->verdict.learning_rate);
    number(out, "loss_scale", line->loss_scale);
    fprintf(out, ", \"skipped\": %s, \"nonfinite\": %s", r->verdict.skipped ? "true" : "false",
            r->verdict.nonfinite ? "true" : "false");
    fprintf(out, ", \"overflow\": %lld, \"underflow\": %lld", (long long)r->verdict.overflow,
            (long long)r->verdict.underflow);
    number(out, "tokens_per_second", line->tokens_per_second);
    fprintf(out, ", \"activation_bytes\": %lld", (long long)r->bytes[HB_FOOTPRINT_ACTIVATIONS]);
    if (line->evaluated)
        number(out, "held_out_loss", line->held_out_loss);
    if (r->digest[0])
        fprintf(out, ", \"digest\": \"%s\"", r->digest);
    fputs("}\n", out);
    if (fflush(out) != 0 || ferror(out))
        return HB_FAIL(HB_EIO, "%s: cannot be written; is the disk full?", metrics->path);
    if (!metrics->tensorboard)
        return HB_OK;
    struct hb_scalar scalars[11] = {
        {"train/loss", r->loss},
        {"train/grad_norm", r->verdict.grad_norm},
        {"train/learning_rate", r->verdict.learning_rate},
        {"train/tokens_per_second", line->tokens_per_second},
        {"train/loss_scale", line->loss_scale},
    };
    int count = 5;
    if (line->experts) {
        scalars[count++] = (struct hb_scalar){"router/aux_loss", r->aux};
        scalars[count++] = (struct hb_scalar){"router/experts_used", line->experts->used};
        scalars[count++] = (struct hb_scalar){"router/entropy", line->experts->entropy};
        scalars[count++] = (struct hb_scalar){"router/max_over_mean", line->experts->max_over_mean};
    }
    if (line->evaluated) {
        scalars[count++] = (struct hb_scalar){"held_out/loss", line->held_out_loss};
        scalars[count++] = (struct hb_scalar){"held_out/perplexity", hb_exp64(line->held_out_loss)};
    }
    return hb_tensorboard_write(metrics->tensorboard, line->step, scalars, count);
}
