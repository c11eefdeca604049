#include "cli/plan_print.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/json.h"

/* --- for people --- */

/* Bytes, FLOPs and the like in units that leave at most four digits in front: "12.3 GB". */
static const char *scaled(double value, const char *unit, char text[32])
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
    int p = 0;
    while (value >= 1000 && p < 6) {
        value /= 1000;
        p++;
    }
    snprintf(text, 32,
             value < 10 && p    ? "%.2f %s%s"
             : value < 100 && p ? "%.1f %s%s"
                                : "%.0f %s%s",
             value, prefixes[p], unit);
    return text;
}

static const char *seconds(double value, char text[32])
{
    if (value >= 1)
        snprintf(text, 32, "%.3g s", value);
    else if (value >= 1e-3)
        snprintf(text, 32, "%.3g ms", 1e3 * value);
    else
        snprintf(text, 32, "%.3g us", 1e6 * value);
    return text;
}

static void print_head(const struct hb_plan *p, FILE *out)
{
    const struct hb_plan_request *r = &p->request;
    char a[32], b[32], c[32], d[80];
    fprintf(out, "model       %s parameters, %s active per token\n", scaled((double)p->parameters, "", a),
            scaled((double)p->active, "", b));
    fprintf(out, "step        %" PRId64 " microbatches x %" PRId64 " x %" PRId64 " = %s tokens, %sFLOP\n",
            r->microbatches, r->sequences, r->length, scaled((double)p->tokens, "", a),
            scaled(p->flops, "", b));
    fprintf(out, "layout      %s: %" PRId64 " ranks, ZeRO level %d\n", hb_mesh_text(r->shape, d, sizeof d),
            p->ranks, r->level);
    fprintf(out, "schedule    %s, %" PRId64 " microbatches a data rank, %d stages\n", r->schedule, p->rounds,
            p->schedule.stages);
    fprintf(out, "machine     %s%s\n", r->machine.name,
            r->costs ? "; seconds of F, I and W as given for each block" : "");
    fprintf(out,
            "            %sFLOP/s in products, memory %s at %s/s; messages inside a node %s + %s/s, between "
            "nodes ",
            scaled(r->machine.compute, "", a), scaled(r->machine.memory, "B", b),
            scaled(r->machine.memory_bandwidth, "B", c), seconds(r->machine.inside.latency, d),
            scaled(r->machine.inside.bandwidth, "B", (char[32]){0}));
    fprintf(out, "%s + %s/s%s\n", seconds(r->machine.between.latency, a),
            scaled(r->machine.between.bandwidth, "B", b),
            r->machine.links_assumed ? " (assumed; run under mpiexec to measure)" : "");
}

static void print_memory(const struct hb_plan *p, FILE *out)
{
    char text[32];
    fprintf(out, "\nbytes a rank%12s", "");
    for (int i = 0; i < HB_FOOTPRINTS; i++)
        fprintf(out, " %11s", hb_footprint_name((enum hb_footprint)i));
    fprintf(out, " %11s %11s\n", "total", "worst");
    for (int64_t s = 0; s < p->request.shape.pp; s++) {
        const struct hb_plan_rank *rank = &p->rank[s];
        char who[48];
        snprintf(who, sizeof who, "stage rank %" PRId64 ", %" PRId64 " block%s", s, rank->blocks,
                 rank->blocks == 1 ? "" : "s");
        fprintf(out, "  %-22s", who);
        for (int i = 0; i < HB_FOOTPRINTS; i++)
            fprintf(out, " %11s", scaled(rank->bytes[i], "B", text));
        fprintf(out, " %11s", scaled(rank->total, "B", text));
        fprintf(out, " %11s%s\n", scaled(rank->worst_total, "B", text),
                rank->total > p->request.machine.memory         ? "  too much"
                : rank->worst_total > p->request.machine.memory ? "  too much at worst"
                                                                : "");
    }
    const struct hb_plan_rank *fat = &p->rank[p->fattest];
    fprintf(out,
            "  in flight: at most %" PRId64 " microbatches of a stage; pending gradients: %" PRId64
            " a parameter\n",
            fat->in_flight, fat->pending);
}

static void print_traffic(const struct hb_plan *p, FILE *out)
{
    char a[32], b[32];
    fprintf(out, "\nsent by a rank in a step%10s", "");
    for (int i = 0; i < HB_PLAN_TRAFFIC; i++)
        fprintf(out, " %21s", hb_plan_traffic_name((enum hb_plan_traffic)i));
    fputc('\n', out);
    for (int64_t s = 0; s < p->request.shape.pp; s++) {
        fprintf(out, "  stage rank %-21" PRId64, s);
        for (int i = 0; i < HB_PLAN_TRAFFIC; i++) {
            char cell[72];
            snprintf(cell, sizeof cell, "%s in %s", scaled(p->rank[s].sent[i], "B", a),
                     scaled(p->rank[s].messages[i], "", b));
            fprintf(out, " %21s", p->rank[s].messages[i] > 0 ? cell : "-");
        }
        fputc('\n', out);
    }
}

static void print_time(const struct hb_plan *p, FILE *out)
{
    const struct hb_plan_rank *slow = &p->rank[p->slowest];
    char a[32], b[32];
    double useful = p->flops / ((double)p->ranks * p->request.machine.compute * p->seconds);
    fprintf(out, "\ntime of a step %s: %s tokens/s; %.1f %% of the machine's products\n",
            seconds(p->seconds, a), scaled((double)p->tokens / p->seconds, "", b), 100 * useful);
    for (int t = 0; t < HB_PLAN_TIMES; t++)
        if (slow->seconds[t] > 0)
            fprintf(out, "  %-20s %10s %6.1f %%%s\n", hb_plan_time_name((enum hb_plan_time)t),
                    seconds(slow->seconds[t], a), 100 * slow->seconds[t] / p->seconds,
                    (int)p->bottleneck == t ? "  <- bounds the step" : "");
    if (p->request.shape.pp == 1)
        return;
    fprintf(out, "pipeline busy %.1f %% at these costs, %.1f %% at equal costs of F, I, W without messages\n",
            100 * p->simulation.utilisation, 100 * p->equal);
    if (p->least > 0)
        fprintf(out, "the least number of microbatches a data rank for %.0f %%: %" PRId64 " (%.1f %%)\n",
                100 * p->request.target, p->least, 100 * p->least_utilisation);
    else if (hb_schedule_is_name(p->request.schedule))
        fprintf(out,
                "%.0f %% are not reached with 256 microbatches a data rank (%.1f %%): the stages differ "
                "too much\n",
                100 * p->request.target, 100 * p->least_utilisation);
}

hb_status hb_plan_print(const struct hb_plan *plan, FILE *out)
{
    print_head(plan, out);
    print_memory(plan, out);
    print_traffic(plan, out);
    print_time(plan, out);
    return HB_OK;
}

/* --- for programs --- */

static json_t *rank_json(const struct hb_plan *p, int64_t s)
{
    const struct hb_plan_rank *rank = &p->rank[s];
    json_t *bytes = json_object(), *worst = json_object(), *sent = json_object(), *times = json_object();
    for (int i = 0; i < HB_FOOTPRINTS; i++) {
        const char *name = hb_footprint_name((enum hb_footprint)i);
        hb_json_put(&bytes, name, json_real(rank->bytes[i]));
        hb_json_put(&worst, name, json_real(rank->worst_bytes[i]));
    }
    hb_json_put(&bytes, "total", json_real(rank->total));
    hb_json_put(&worst, "total", json_real(rank->worst_total));
    for (int i = 0; i < HB_PLAN_TRAFFIC; i++)
        hb_json_put(&sent, hb_plan_traffic_name((enum hb_plan_traffic)i),
                    json_pack("{s:f, s:f, s:f}", "messages", rank->messages[i], "bytes", rank->sent[i],
                              "worst_bytes", rank->worst_sent[i]));
    for (int i = 0; i < HB_PLAN_TIMES; i++)
        hb_json_put(&times, hb_plan_time_name((enum hb_plan_time)i), json_real(rank->seconds[i]));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:o}", "stage_rank", (json_int_t)s,
                     "blocks", (json_int_t)rank->blocks, "parameters", (json_int_t)rank->trained, "in_flight",
                     (json_int_t)rank->in_flight, "pending", (json_int_t)rank->pending, "flops", rank->flops,
                     "bytes", bytes, "worst_bytes", worst, "sent", sent, "seconds", times);
}

hb_status hb_plan_print_json(const struct hb_plan *p, FILE *out)
{
    const struct hb_plan_request *r = &p->request;
    json_t *ranks = json_array(), *root;
    char *text;
    for (int64_t s = 0; s < r->shape.pp; s++)
        hb_json_append(&ranks, rank_json(p, s));
    root = json_pack(
        "{s:s, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I, s:i}, s:s, s:I, s:f, s:f, s:f, s:f, s:I, s:s, s:o}",
        "machine", r->machine.name, "parameters", (json_int_t)p->parameters, "active", (json_int_t)p->active,
        "tokens", (json_int_t)p->tokens, "layout", "dp", (json_int_t)r->shape.dp, "ep",
        (json_int_t)r->shape.ep, "pp", (json_int_t)r->shape.pp, "ranks", (json_int_t)p->ranks, "zero",
        r->level, "schedule", r->schedule, "rounds", (json_int_t)p->rounds, "flops", p->flops, "seconds",
        p->seconds, "busy", p->simulation.utilisation, "busy_at_equal_costs", p->equal, "least_microbatches",
        (json_int_t)p->least, "bottleneck", hb_plan_time_name(p->bottleneck), "stage_ranks", ranks);
    if (!root)
        return HB_FAIL(HB_EINTERNAL, "the plan does not fit into JSON");
    hb_status status = hb_json_text(root, &text);
    json_decref(root);
    HB_TRY(status);
    fputs(text, out);
    free(text);
    return HB_OK;
}
