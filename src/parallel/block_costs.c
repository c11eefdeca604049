#include "parallel/block_costs.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "parallel/dry_run.h"
#include "parallel/partition.h"

static hb_status create(int64_t blocks, struct hb_block_costs *out)
{
    *out = (struct hb_block_costs){blocks, calloc((size_t)blocks, sizeof *out->cost)};
    return out->cost ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the costs of blocks");
}

void hb_block_costs_release(struct hb_block_costs *costs)
{
    free(costs->cost);
    *costs = (struct hb_block_costs){0};
}

/* --- files --- */

static bool is_cost(double x)
{
    return isfinite(x) && x >= 0;
}

/* A line's costs; *empty: a comment only. */
static hb_status read_line(const char *path, int64_t number, char *line, struct hb_stage_cost *cost,
                           bool *empty)
{
    char rest;
    line[strcspn(line, "#")] = '\0';
    *empty = line[strspn(line, " \t\r")] == '\0';
    if (*empty)
        return HB_OK;
    *cost = (struct hb_stage_cost){0};
    if (sscanf(line, "%lf %lf %lf %c", &cost->forward, &cost->input, &cost->weight, &rest) != 3 ||
        !is_cost(cost->forward) || !is_cost(cost->input) || !is_cost(cost->weight))
        return HB_FAIL(HB_EFORMAT, "%s:%" PRId64 ": a block has three costs of at least 0: F, I and W", path,
                       number);
    return HB_OK;
}

static hb_status read_lines(const char *path, char *text, struct hb_block_costs *out)
{
    int64_t found = 0, number = 0;
    double sum = 0;
    for (char *line = text, *next; line; line = next) {
        struct hb_stage_cost cost;
        bool empty;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        HB_TRY(read_line(path, ++number, line, &cost, &empty));
        if (empty)
            continue;
        if (found < out->blocks)
            out->cost[found] = cost;
        sum += cost.forward + cost.input + cost.weight;
        found++;
    }
    if (found != out->blocks)
        return HB_FAIL(HB_EFORMAT,
                       "%s has costs of %" PRId64 " blocks, the model has %" PRId64
                       ": embedding, layers, head; measure it with hornbook plan --measure",
                       path, found, out->blocks);
    return sum > 0 ? HB_OK : HB_FAIL(HB_EFORMAT, "%s: all costs are 0", path);
}

hb_status hb_block_costs_load(const char *path, int64_t blocks, struct hb_block_costs *out)
{
    char *text;
    size_t size;
    HB_TRY(hb_file_read(path, &text, &size));
    hb_status status = create(blocks, out);
    if (status == HB_OK)
        status = read_lines(path, text, out);
    free(text);
    if (status != HB_OK)
        hb_block_costs_release(out);
    return status;
}

hb_status hb_block_costs_write(const struct hb_block_costs *costs, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return HB_FAIL(HB_EMEMORY, "out of memory for the costs of blocks");
    fputs("# seconds of F, I and W, a block a line: embedding, layers, head\n", out);
    for (int64_t b = 0; b < costs->blocks; b++)
        fprintf(out, "%.6g %.6g %.6g\n", costs->cost[b].forward, costs->cost[b].input, costs->cost[b].weight);
    hb_status status = fclose(out) == 0 ? hb_file_write(path, text, size)
                                        : HB_FAIL(HB_EMEMORY, "out of memory for the costs of blocks");
    free(text);
    return status;
}

/* --- measuring --- */

/* A layer before `b` that does the same work; -1: none. */
static int64_t same_as(const struct hb_model_config *c, int64_t b)
{
    for (int64_t a = 1; a < b && b <= c->num_hidden_layers; a++)
        if (hb_model_config_is_moe(c, a - 1) == hb_model_config_is_moe(c, b - 1) &&
            c->sliding_layer[a - 1] == c->sliding_layer[b - 1])
            return a;
    return -1;
}

/* Every second or third layer may be made again: that is a layer's place, not its kind. */
hb_status hb_block_costs_measure(struct hb_context *context, const struct hb_model_config *config,
                                 struct hb_recompute recompute, int64_t sequences, int64_t length,
                                 struct hb_block_costs *out)
{
    bool alike = recompute.kind != HB_RECOMPUTE_EVERY;
    hb_status status = create(config->num_hidden_layers + 2, out);
    for (int64_t b = 0; b < out->blocks && status == HB_OK; b++) {
        int64_t same = alike ? same_as(config, b) : -1;
        if (same >= 0)
            out->cost[b] = out->cost[same];
        else
            status = hb_timed_run(context, config, recompute, b, b + 1, sequences, length, &out->cost[b]);
    }
    if (status != HB_OK)
        hb_block_costs_release(out);
    return status;
}

/* --- use --- */

struct hb_stage_cost hb_block_costs_sum(const struct hb_block_costs *costs, int64_t begin, int64_t end)
{
    struct hb_stage_cost sum = {0};
    for (int64_t b = begin; b < end; b++) {
        sum.forward += costs->cost[b].forward;
        sum.input += costs->cost[b].input;
        sum.weight += costs->cost[b].weight;
    }
    return sum;
}

hb_status hb_block_costs_cut(const struct hb_block_costs *costs, int stages, int64_t *begin)
{
    double *whole = malloc((size_t)costs->blocks * sizeof *whole);
    if (!whole)
        return HB_FAIL(HB_EMEMORY, "out of memory for the costs of blocks");
    for (int64_t b = 0; b < costs->blocks; b++)
        whole[b] = costs->cost[b].forward + costs->cost[b].input + costs->cost[b].weight;
    hb_status status = hb_partition(whole, costs->blocks, stages, begin);
    free(whole);
    return status;
}
