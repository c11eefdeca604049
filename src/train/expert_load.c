#include "train/expert_load.h"

#include "core/file.h"
#include "core/math64.h"
#include "train/metrics.h"

struct hb_layer_load hb_layer_load_of(const int64_t *counts, int64_t experts)
{
    struct hb_layer_load load = {.least = counts[0], .entropy = 1};
    double sum = 0;
    for (int64_t e = 0; e < experts; e++) {
        load.rows += counts[e];
        load.reached += counts[e] > 0;
        load.most = counts[e] > load.most ? counts[e] : load.most;
        load.least = counts[e] < load.least ? counts[e] : load.least;
        if (counts[e] > 0)
            sum = sum + (double)counts[e] * hb_log64((double)counts[e]);
    }
    for (int64_t e = 0; e < experts; e++)
        load.used += counts[e] * experts * 10 >= load.rows;
    /* p = count / rows, so -sum p log p = log rows - sum count log count / rows */
    if (experts > 1 && load.rows > 0)
        load.entropy = (hb_log64((double)load.rows) - sum / (double)load.rows) / hb_log64((double)experts);
    return load;
}

struct hb_expert_load hb_expert_load_of(const int64_t *counts, int64_t layers, int64_t experts)
{
    struct hb_expert_load all = {0};
    int64_t used = 0, reached = 0;
    for (int64_t l = 0; l < layers; l++) {
        struct hb_layer_load load = hb_layer_load_of(counts + l * experts, experts);
        double ratio = load.rows ? (double)(load.most * experts) / (double)load.rows : 0;
        used += load.used;
        reached += load.reached;
        all.entropy = all.entropy + load.entropy;
        all.max_over_mean = ratio > all.max_over_mean ? ratio : all.max_over_mean;
    }
    all.used = (double)used / (double)(layers * experts);
    all.reached = (double)reached / (double)(layers * experts);
    all.entropy = all.entropy / (double)layers;
    return all;
}

double hb_rank_rows_max_over_mean(const struct hb_rank_rows *ranks)
{
    double worst = 0;
    for (int64_t first = 0; first < ranks->ranks; first += ranks->data_ranks) {
        int64_t most = 0, sum = 0;
        for (int64_t r = first; r < first + ranks->data_ranks; r++) {
            sum += ranks->rows[r];
            most = ranks->rows[r] > most ? ranks->rows[r] : most;
        }
        double ratio = sum ? (double)(most * ranks->data_ranks) / (double)sum : 0;
        worst = ratio > worst ? ratio : worst;
    }
    return worst;
}

/* --- the file --- */

hb_status hb_expert_lines_open(struct hb_expert_lines *lines, const char *run_folder, int64_t keep_steps)
{
    *lines = (struct hb_expert_lines){0};
    snprintf(lines->path, sizeof lines->path, "%s/experts.jsonl", run_folder);
    if (hb_file_exists(lines->path))
        HB_TRY(hb_metrics_trim(lines->path, keep_steps));
    lines->file = fopen(lines->path, "a");
    return lines->file ? HB_OK : HB_FAIL(HB_EIO, "%s: cannot be opened for writing", lines->path);
}

void hb_expert_lines_close(struct hb_expert_lines *lines)
{
    if (lines->file)
        fclose(lines->file);
    lines->file = NULL;
}

enum column { ROWS, MOST, LEAST, REACHED, ENTROPY, COLUMNS };
static const char *const column_names[COLUMNS] = {"rows", "most", "least", "reached", "entropy"};

static void write_cell(FILE *out, enum column column, const struct hb_layer_load *load)
{
    const int64_t whole[ENTROPY] = {load->rows, load->most, load->least, load->reached};
    if (column == ENTROPY)
        fprintf(out, "%.17g", load->entropy);
    else
        fprintf(out, "%lld", (long long)whole[column]);
}

hb_status hb_expert_lines_write(struct hb_expert_lines *lines, int64_t step, const int64_t *counts,
                                int64_t layers, int64_t experts, const struct hb_rank_rows *ranks)
{
    FILE *out = lines->file;
    fprintf(out, "{\"step\": %lld", (long long)step);
    for (int c = 0; c < COLUMNS; c++) {
        fprintf(out, ", \"%s\": [", column_names[c]);
        for (int64_t l = 0; l < layers; l++) {
            struct hb_layer_load load = hb_layer_load_of(counts + l * experts, experts);
            fputs(l ? ", " : "", out);
            write_cell(out, (enum column)c, &load);
        }
        fputc(']', out);
    }
    fputs(", \"rank_rows\": [", out);
    for (int64_t r = 0; r < ranks->ranks; r++)
        fprintf(out, "%s%lld", r ? ", " : "", (long long)ranks->rows[r]);
    fprintf(out, "], \"rank_max_over_mean\": %.17g}\n", hb_rank_rows_max_over_mean(ranks));
    if (fflush(out) != 0 || ferror(out))
        return HB_FAIL(HB_EIO, "%s: cannot be written; is the disk full?", lines->path);
    return HB_OK;
}
