#include "cli/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "cli/options.h"
#include "cli/plan_print.h"
#include "comm/comm.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "parallel/schedule_svg.h"
#include "train/run_config.h"

static const char usage[] =
    "usage: hornbook plan RUN.yaml [--parallel dp=D,ep=E,pp=P] [option...]\n"
    "\n"
    "Says what a run will need on every rank before it is started: bytes by category,\n"
    "messages and bytes by kind, FLOPs, the pipeline's bubble, the time of a step and\n"
    "what bounds it (docs/plan.md).\n"
    "\n"
    "  --parallel LAYOUT   as in dp=4,ep=2,pp=2 (default: what\n"
    "                      RUN.yaml says; likewise below)\n"
    "  --zero N            0 to 3: what the data ranks share\n"
    "  --schedule NAME     gpipe, 1f1b, interleaved:V, zb-h1, zb-v, or a file\n"
    "                      (docs/schedules.md)\n"
    "  --target X          share of time that the pipeline shall be busy; the least\n"
    "                      number of microbatches for it is printed (default 0.92)\n"
    "  --machine FILE      a description of the machine (docs/plan.md); default: this\n"
    "                      one, measured; under mpiexec its messages too\n"
    "  --costs FILE        seconds of F, I and W of each block (default: parallel.costs of\n"
    "                      RUN.yaml): stages are cut and simulated by them\n"
    "  --measure FILE      measures them on this machine, writes FILE and uses it\n"
    "  --set KEY=VALUE     override a key of RUN.yaml\n"
    "  --routing RUN       the router's choices of a run that was made with --timeline, in\n"
    "                      any layout: what depends on them is exact then\n"
    "  --step N            of which step (default 1)\n"
    "  --data-rank N       whose figures (default: the last data rank, with the largest shares)\n"
    "  --json              the plan as JSON\n"
    "  --svg FILE          a picture of the schedule with the times of the plan\n"
    "  --equal             the picture with equal times of F, I and W instead\n"
    "  --help              this text\n";

/* The vocabulary and, with init_from, the whole shape may stand in other files. */
static hb_status complete_model(struct hb_run_config *c)
{
    if (c->init_from) {
        char *path = hb_path_join(c->init_from, "config.json");
        hb_status status = path ? hb_model_config_read(path, &c->model)
                                : HB_FAIL(HB_EMEMORY, "out of memory");
        free(path);
        HB_TRY(status);
        c->model.precision = c->precision;
    } else if (c->model.vocab_size == 0) {
        struct hb_tokenizer *tokenizer;
        hb_status status = hb_tokenizer_open(c->tokenizer, &tokenizer);
        if (status != HB_OK)
            return hb_fail_in(status, "model.vocab_size is not given, so the tokenizer must be there");
        c->model.vocab_size = hb_tokenizer_vocabulary(tokenizer);
        hb_tokenizer_destroy(tokenizer);
    }
    return hb_run_config_check_model(c);
}

static hb_status find_machine(const char *path, const struct hb_run_config *c, struct hb_comm *world,
                              struct hb_plan_request *request)
{
    const struct hb_backend *backend;
    struct hb_context context;
    int64_t ranks = request->shape.dp * request->shape.ep * request->shape.pp;
    if (path)
        return hb_machine_load(path, &request->machine);
    HB_TRY(hb_backend_find(c->backend, &backend));
    HB_TRY(hb_context_open(backend, (enum hb_numerics)c->numerics, (int)c->threads, &context));
    hb_status status = hb_machine_measure(&context, world, ranks, &request->machine);
    hb_context_close(&context);
    return status;
}

struct wishes {
    const char *layout, *schedule, *machine, *svg, *routing, *costs, *measure;
    int64_t level, data_rank; /* -1: not given */
    int64_t step;             /* of the routing */
    double target;
    bool json, equal;
    struct hb_option_list overrides;
};

/* Costs of blocks: measured, given, or none. */
static hb_status find_costs(const struct wishes *w, const struct hb_run_config *c,
                            struct hb_block_costs *costs)
{
    const struct hb_backend *backend;
    struct hb_context context;
    const char *path = w->costs ? w->costs : c->costs;
    if (!w->measure)
        return path ? hb_block_costs_load(path, c->model.num_hidden_layers + 2, costs) : HB_OK;
    HB_TRY(hb_backend_find(c->backend, &backend));
    HB_TRY(hb_context_open(backend, (enum hb_numerics)c->numerics, (int)c->threads, &context));
    hb_status status = hb_block_costs_measure(&context, &c->model, c->recompute, c->microbatch,
                                              c->sequence_length, costs);
    hb_context_close(&context);
    return status == HB_OK ? hb_block_costs_write(costs, w->measure) : status;
}

static hb_status draw(const struct hb_plan *plan, bool equal, const char *path)
{
    struct hb_simulation simulation;
    char *text;
    if (equal)
        HB_TRY(hb_simulate_equal(&plan->schedule, &simulation));
    hb_status status = hb_schedule_svg(&plan->schedule, equal ? &simulation : &plan->simulation,
                                       equal ? "" : "s", &text);
    if (equal)
        hb_simulation_release(&simulation);
    HB_TRY(status);
    status = hb_file_write(path, text, strlen(text));
    free(text);
    return status;
}

static hb_status make_and_show(const struct wishes *w, const struct hb_plan_request *request)
{
    struct hb_plan plan;
    HB_TRY(hb_plan_make(request, &plan));
    hb_status status = w->json ? hb_plan_print_json(&plan, stdout) : hb_plan_print(&plan, stdout);
    if (status == HB_OK && w->svg)
        status = draw(&plan, w->equal, w->svg);
    hb_plan_release(&plan);
    return status;
}

static hb_status run(const struct wishes *w, struct hb_run_config *c, struct hb_comm *world)
{
    struct hb_plan_request request = {
        .model = &c->model, .target = w->target, .data_rank = w->data_rank};
    struct hb_routed routing = {0};
    struct hb_block_costs costs = {0};
    HB_TRY(complete_model(c));
    request.recompute = c->recompute;
    request.sequences = c->microbatch;
    request.length = c->sequence_length;
    request.microbatches = c->accumulate;
    request.shape = (struct hb_mesh_shape){c->dp, c->ep, c->pp};
    if (w->layout)
        HB_TRY(hb_mesh_parse(w->layout, &request.shape));
    request.schedule = w->schedule ? w->schedule : c->schedule;
    request.level = (int)(w->level >= 0 ? w->level : c->zero);
    if (request.data_rank >= request.shape.dp * request.shape.ep)
        return HB_FAIL(HB_EARGUMENT, "--data-rank %lld: the layout has data ranks 0 to %lld",
                       (long long)request.data_rank, (long long)(request.shape.dp * request.shape.ep - 1));
    HB_TRY(find_machine(w->machine, c, world, &request));
    if (hb_comm_rank(world) > 0) /* it helped to measure */
        return HB_OK;
    if (w->routing) {
        HB_TRY(hb_routing_load(w->routing, w->step, c->accumulate, hb_model_config_moe_layers(&c->model),
                               c->model.num_experts, &routing));
        request.routing = &routing;
    }
    hb_status status = find_costs(w, c, &costs);
    request.costs = costs.cost ? &costs : NULL;
    if (status == HB_OK)
        status = make_and_show(w, &request);
    hb_block_costs_release(&costs);
    hb_routing_release(&routing);
    return status;
}

int hb_cli_plan(int argc, char **argv)
{
    struct wishes w = {.level = -1, .data_rank = -1, .step = 1, .target = 0.92};
    const struct hb_option options[] = {
        {"--parallel", HB_OPTION_TEXT, &w.layout, 0, 0},  {"--zero", HB_OPTION_INT, &w.level, 0, 3},
        {"--schedule", HB_OPTION_TEXT, &w.schedule, 0, 0}, {"--target", HB_OPTION_NUMBER, &w.target, 0, 1},
        {"--machine", HB_OPTION_TEXT, &w.machine, 0, 0},  {"--set", HB_OPTION_LIST, &w.overrides, 0, 0},
        {"--json", HB_OPTION_FLAG, &w.json, 0, 0},        {"--svg", HB_OPTION_TEXT, &w.svg, 0, 0},
        {"--equal", HB_OPTION_FLAG, &w.equal, 0, 0},
        {"--data-rank", HB_OPTION_INT, &w.data_rank, 0, 1 << 24},
        {"--routing", HB_OPTION_TEXT, &w.routing, 0, 0},
        {"--costs", HB_OPTION_TEXT, &w.costs, 0, 0},
        {"--measure", HB_OPTION_TEXT, &w.measure, 0, 0},
        {"--step", HB_OPTION_INT, &w.step, 1, 1e15},
    };
    int rest, code;
    if (!hb_options_read(argc, argv, options, 14, usage, &rest, &code))
        return code;
    if (rest != 1)
        return hb_wrong_usage("plan",
                              rest ? "only one configuration, please" : "the configuration is missing");
    struct hb_run_config config;
    struct hb_comm *world = NULL;
    hb_status status = hb_run_config_load(argv[1], w.overrides.items, w.overrides.count, &config);
    if (status != HB_OK)
        return hb_finish("plan", status);
    status = hb_comm_world(&world);
    if (status == HB_OK)
        status = run(&w, &config, world);
    hb_comm_destroy(world);
    hb_run_config_release(&config);
    return hb_finish("plan", status);
}
