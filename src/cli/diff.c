#include "cli/diff.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "core/file.h"
#include "ops/table.h"
#include "ops/trace.h"
#include "train/checkpoint_folders.h"
#include "train/run_compare.h"
#include "train/trace_blocks.h"
#include "train/trace_compare.h"
#include "train/value_compare.h"

static const char usage[] =
    "usage: hornbook diff RUN_A RUN_B\n"
    "\n"
    "Says where two run folders part: the configuration, the first step whose numbers or\n"
    "digest differ, and with traces of that step (hornbook train --trace) the first op and\n"
    "tensor, with kept values (--trace-values) the element. docs/diff.md walks through it.\n"
    "\n"
    "  --help   this text\n"
    "\n"
    "Exit code: 0 the runs are equal as far as both go, 1 they part, 2 wrong usage or a run\n"
    "that cannot be read.\n";

enum { DIFFERENT = 1, TROUBLE = 2 };
enum { SHOWN = 3 };     /* tensors whose elements are shown */
enum { FAR = 1 << 24 }; /* ulp, beyond which counting them says nothing */

struct diff {
    const char *a, *b; /* run folders, without a slash at the end */
    struct hb_run_comparison runs;
    struct hb_trace_difference trace;
    bool by_blocks; /* instead, where a run has traces of several ranks: */
    struct hb_trace_blocks blocks; /* step -1: no difference */
    int64_t before, after; /* checkpoints that both have, around the first step that differs; -1: none */
};

/* --- configuration and steps --- */

static void print_run(const char *label, const char *run, const struct hb_run_steps *s)
{
    printf("%s  %s: ", label, run);
    if (s->count == 0)
        printf("no steps");
    else
        printf("steps %" PRId64 " to %" PRId64, s->first, s->last);
    if (s->digests == s->count)
        printf("\n");
    else if (s->digests == 0)
        printf(", without digests\n");
    else
        printf(", digests in %" PRId64 " of them\n", s->digests);
}

static hb_status print_config(const struct diff *d)
{
    struct hb_config_differences list;
    hb_status status = hb_config_compare(d->a, d->b, &list);
    if (status != HB_OK)
        return status;
    printf("\n");
    if (list.count == 0)
        printf("The configurations are the same.\n");
    else
        printf("The configurations differ:\n");
    for (int64_t i = 0; i < list.count; i++)
        printf("  %-28s A %-20s B %-20s%s\n", list.list[i].key, list.list[i].a[0] ? list.list[i].a : "-",
               list.list[i].b[0] ? list.list[i].b : "-", list.list[i].free ? " (no bit depends on it)" : "");
    hb_config_differences_release(&list);
    return HB_OK;
}

/* Steps between doubles that are neighbours, as text; "" where that says nothing. */
static const char *apart(const struct hb_run_field *f, char text[48])
{
    text[0] = '\0';
    if (f->number && !f->equal && f->x != 0)
        snprintf(text, 48, "apart by %.2g of it", fabs((f->y - f->x) / f->x));
    return text;
}

static void print_equal_part(const struct hb_run_comparison *c)
{
    if (c->equal == 0)
        return;
    printf("%" PRId64 " step%s of both %s equal", c->equal, c->equal == 1 ? "" : "s",
           c->equal == 1 ? "is" : "are");
    if (c->digests == c->equal)
        printf(", digests and all numbers.\n");
    else if (c->digests == 0)
        printf(" in loss, gradient norm and the other numbers; they have no digests in common, so\n"
               "the parameters were not compared.\n");
    else
        printf(" in all numbers, %" PRId64 " of them with digests (the last is step %" PRId64 ").\n",
               c->digests, c->last_proved);
}

static bool differs(const struct hb_run_comparison *c, const char *name)
{
    for (int i = 0; i < c->field_count; i++)
        if (strcmp(c->fields[i].name, name) == 0)
            return !c->fields[i].equal;
    return false;
}

/* A step computes the loss, then the gradient, then the update. */
static void print_step_reading(const struct hb_run_comparison *c)
{
    if (differs(c, "tokens"))
        printf("The steps have different sizes.\n");
    else if (differs(c, "loss") && c->equal == 0)
        printf("Already the loss differs, in the first step that both have: look at the seed, the data and "
               "the weights\n"
               "they began with.\n");
    else if (differs(c, "loss"))
        printf("The loss differs: they parted in the forward pass, or their data did.\n");
    else if (differs(c, "grad_norm"))
        printf("The loss is equal, the gradient is not: they parted in the backward pass.\n");
    else if (differs(c, "digest"))
        printf("Loss and gradient norm are equal, the parameters are not: they parted in the update%s.\n",
               differs(c, "lr") ? ", which has another learning rate"
                                : ", or in a gradient whose norm stayed the same");
}

/* `reading`: say what the numbers mean. (A trace says it better.) */
static void print_steps(const struct hb_run_comparison *c, bool reading)
{
    printf("\n");
    if (c->common == 0) {
        printf("No step is in both runs.\n");
        return;
    }
    print_equal_part(c);
    if (c->parts < 0) {
        if (c->a.last != c->b.last)
            printf("%s goes on to step %" PRId64 ".\n", c->a.last > c->b.last ? "A" : "B",
                   c->a.last > c->b.last ? c->a.last : c->b.last);
        return;
    }
    printf("Step %" PRId64 " is the first that differs:\n", c->parts);
    for (int i = 0; i < c->field_count; i++) {
        const struct hb_run_field *f = &c->fields[i];
        char text[48];
        if (f->equal)
            printf("  %-20s %s\n", f->name, f->a);
        else
            printf("  %-20s A %-34s B %-34s %s\n", f->name, f->a, f->b, apart(f, text));
    }
    if (c->last_proved >= 0 && c->last_proved < c->parts - 1)
        printf("The parameters were last seen equal after step %" PRId64
               ": the runs may have parted in any step since.\n",
               c->last_proved);
    else if (reading)
        print_step_reading(c);
}

/* --- elements --- */

static void print_coordinates(const struct hb_value_difference *v)
{
    for (int i = 0; i < v->rank; i++)
        printf("%s%" PRId64, i ? ", " : "[", v->first[i]);
    printf("]");
}

static void print_value(const char *label, const struct hb_value_difference *v, double value)
{
    bool integer = v->dtype == HB_I32 || v->dtype == HB_I64 || v->dtype == HB_U8;
    if (integer)
        printf("      %s  %.0f\n", label, value);
    else
        printf("      %s  %-24a %.*g\n", label, value, v->dtype == HB_F64 ? 17 : 9, value);
}

static void print_difference(const struct hb_value_difference *v)
{
    struct hb_tensor t = {.dtype = v->dtype, .rank = v->rank};
    char shape[96];
    bool integer = v->dtype == HB_I32 || v->dtype == HB_I64 || v->dtype == HB_U8;
    const char *unit = integer ? "" : " ulp";
    memcpy(t.shape, v->shape, sizeof t.shape);
    printf("  %s, %s: %" PRId64 " of %" PRId64 " elements differ", v->name,
           hb_tensor_describe(&t, shape, sizeof shape), v->different, v->count);
    if (v->different > 1 && v->ulp_max >= 0 && v->ulp_max < FAR)
        printf(", by at most %" PRId64 "%s", v->ulp_max, unit);
    printf("; the first is ");
    print_coordinates(v);
    printf("\n");
    print_value("A", v, v->a);
    print_value("B", v, v->b);
    if (v->ulp >= 0 && v->ulp < FAR)
        printf("      %" PRId64 "%s apart\n", v->ulp, unit);
    else
        printf("      %g apart\n", v->b - v->a);
}

/* Both files must be there. */
static hb_status print_values(const char *path_a, const char *path_b)
{
    struct hb_value_difference *list;
    int64_t listed, different, tensors;
    HB_TRY(hb_values_compare(path_a, path_b, SHOWN, &list, &listed, &different, &tensors));
    for (int64_t i = 0; i < listed; i++)
        print_difference(&list[i]);
    if (different > listed)
        printf("  and %" PRId64 " more of the %" PRId64 " tensors\n", different - listed, tensors);
    if (different == 0)
        printf("  all %" PRId64 " tensors are equal\n", tensors);
    free(list);
    return HB_OK;
}

/* --- traces --- */

static void print_items(const struct hb_trace_difference *t)
{
    for (int i = 0; i < t->item_count; i++) {
        const struct hb_trace_item *item = &t->items[i];
        char what[544];
        snprintf(what, sizeof what, "%s%s%s%s%s", item->shape, item->shape_b[0] ? " and " : "", item->shape_b,
                 item->called[0] ? ", " : "", item->called);
        printf("  %-4s %-15s ", item->side, item->name);
        if (item->equal)
            printf("equal     %s%s\n", item->shape[0] ? "" : item->a, what);
        else
            printf("DIFFERS   A %s  B %s  %s\n", item->a, item->b, what);
    }
}

static const struct hb_trace_item *first_different(const struct hb_trace_difference *t, const char *side)
{
    for (int i = 0; i < t->item_count; i++)
        if (!t->items[i].equal && strcmp(t->items[i].side, side) == 0)
            return &t->items[i];
    return NULL;
}

/* What the pattern of differences means. */
static void print_reading(const struct hb_trace_difference *t)
{
    const struct hb_trace_item *with = first_different(t, "with"), *in = first_different(t, "in");
    const struct hb_op_entry *op = hb_op_find(t->op);
    if (with)
        printf("The call has another %s: the op was asked for something else (configuration, schedule, "
               "number of labels).\n",
               with->name);
    else if (in && in->called[0])
        printf("No op before made this difference: the %s differed when the step began.\n", in->called);
    else if (in)
        printf("No op before made this difference: %s was copied in so (the data), or its memory was "
               "overwritten.\n",
               in->name);
    else
        printf("Equal inputs, other outputs: the two runs computed %s differently. Its contract: "
               "docs/ops/%s.md\n",
               t->op, op ? op->header : "");
}

static void print_trace(const struct hb_trace_difference *t)
{
    printf("\n");
    if (t->verdict == HB_TRACE_APART) {
        printf("Both runs are traced, but no step in both.\n");
        return;
    }
    if (t->calls > 0)
        printf("Trace: %" PRId64 " calls of ops from step %" PRId64 " on are equal%s\n", t->calls,
               t->first_step, t->verdict == HB_TRACE_EQUAL ? "." : ";");
    if (t->verdict == HB_TRACE_EQUAL)
        return;
    printf("%scall %" PRId64 " of step %" PRId64 " is the first that differs:\n",
           t->calls > 0 ? "" : "Trace: ", t->call, t->step);
    if (t->verdict == HB_TRACE_OTHER_WORK && strcmp(t->place_a, t->place_b) != 0) {
        printf("  A  %s\n  B  %s\n", t->place_a, t->place_b);
        printf("The runs do different work: their models, microbatches or programs are not the same.\n");
        return;
    }
    printf("  %s\n", t->place_a);
    print_items(t);
    if (t->verdict == HB_TRACE_OTHER_WORK)
        printf("The runs do different work: the shapes are not the same.\n");
    else
        print_reading(t);
}

static void print_blocks(const struct hb_trace_blocks *t)
{
    printf("\n");
    if (t->first_step < 0) {
        printf("Both runs are traced, but no step in both.\n");
        return;
    }
    printf("Traces of ranks: %" PRId64 " results of blocks from step %" PRId64 " on are equal%s\n", t->equal,
           t->first_step, t->step < 0 ? "." : ";");
    if (t->step >= 0)
        printf("microbatch %" PRId64 " of step %" PRId64 ", %s, %s is the first that differs:\n"
               "  A %s  B %s\n",
               t->microbatch, t->step, t->block, t->pass, t->a, t->b);
}

/* --- what to do next --- */

static void print_rerun(const char *run, int64_t before, const char *suffix, const char *options)
{
    if (before < 0) {
        printf("  hornbook train %s/config.yaml --set run_folder=%s%s %s\n", run, run, suffix, options);
        return;
    }
    printf("  mkdir -p %s%s/checkpoints && cp %s/config.yaml %s%s &&\n", run, suffix, run, run, suffix);
    printf("    cp -r %s/checkpoints/step-%08" PRId64 " %s%s/checkpoints &&\n", run, before, run, suffix);
    printf("    hornbook train %s/config.yaml --set run_folder=%s%s --resume %s\n", run, run, suffix,
           options);
}

static void print_advice(const struct diff *d, const char *goal, int64_t step, const char *suffix,
                         const char *options)
{
    printf("\nTo see %s, run both again, each where and with what it was made, and stop after step %" PRId64
           " (Ctrl-C):\n",
           goal, step);
    print_rerun(d->a, d->before, suffix, options);
    print_rerun(d->b, d->before, suffix, options);
    printf("  hornbook diff %s%s %s%s\n", d->a, suffix, d->b, suffix);
}

/* Checkpoints that both runs have, before and from the step that differs. */
static hb_status find_checkpoints(struct diff *d, int64_t step)
{
    char root_a[HB_CHECKPOINT_PATH], root_b[HB_CHECKPOINT_PATH];
    int64_t *a = NULL, *b = NULL;
    size_t count_a, count_b;
    hb_status status;
    d->before = d->after = -1;
    HB_TRY_CLEAN(hb_checkpoint_root(d->a, root_a));
    HB_TRY_CLEAN(hb_checkpoint_root(d->b, root_b));
    HB_TRY_CLEAN(hb_checkpoint_list(root_a, &a, &count_a));
    HB_TRY_CLEAN(hb_checkpoint_list(root_b, &b, &count_b));
    for (size_t i = 0; i < count_a; i++)
        for (size_t j = 0; j < count_b; j++) {
            if (a[i] != b[j])
                continue;
            if (a[i] < step && a[i] > d->before)
                d->before = a[i];
            if (a[i] >= step && (d->after < 0 || a[i] < d->after))
                d->after = a[i];
        }
cleanup:
    free(a);
    free(b);
    return status;
}

/* The file NAME below a folder of each run; "" where it is not there. */
static void pair_of_files(const struct diff *d, const char *name, char a[HB_CHECKPOINT_PATH],
                          char b[HB_CHECKPOINT_PATH])
{
    snprintf(a, HB_CHECKPOINT_PATH, "%s/%s", d->a, name);
    snprintf(b, HB_CHECKPOINT_PATH, "%s/%s", d->b, name);
    if (!hb_file_exists(a) || !hb_file_exists(b))
        a[0] = b[0] = '\0';
}

static hb_status print_call_values(const struct diff *d)
{
    char name[96], file[64], a[HB_CHECKPOINT_PATH], b[HB_CHECKPOINT_PATH], options[64];
    const struct hb_trace_difference *t = &d->trace;
    hb_trace_values_name(t->step, t->call, file);
    snprintf(name, sizeof name, "trace-values/%s", file);
    pair_of_files(d, name, a, b);
    if (a[0]) {
        printf("\nIts tensors:\n");
        return print_values(a, b);
    }
    if (first_different(t, "with")) /* no wonder, then */
        return HB_OK;
    snprintf(options, sizeof options, "--trace-values %" PRId64 ":%" PRId64, t->step, t->call);
    print_advice(d, "the elements", t->step, "-values", options);
    return HB_OK;
}

/* Without traces of the step, the checkpoint after it still shows elements. */
static hb_status print_checkpoints(const struct diff *d)
{
    char name[96], a[HB_CHECKPOINT_PATH], b[HB_CHECKPOINT_PATH], options[64];
    if (d->after >= 0) {
        snprintf(name, sizeof name, "checkpoints/step-%08" PRId64 "/model.safetensors", d->after);
        pair_of_files(d, name, a, b);
        if (a[0]) {
            printf("\nParameters in the checkpoints of step %" PRId64 ":\n", d->after);
            HB_TRY(print_values(a, b));
        }
    }
    int64_t from = d->runs.last_proved >= 0 ? d->runs.last_proved + 1 : d->runs.parts;
    snprintf(options, sizeof options, "--trace %" PRId64 ":%" PRId64, from, d->runs.parts);
    print_advice(d, "the op and the tensor", d->runs.parts, "-traced", options);
    return HB_OK;
}

/* On one rank, whose calls can be compared one by one. */
static void print_one_rank(const struct diff *d)
{
    char options[96];
    snprintf(options, sizeof options, "--parallel dp=1 --trace %" PRId64 ":%" PRId64, d->blocks.step,
             d->blocks.step);
    print_advice(d, "the op and the tensor", d->blocks.step, "-traced", options);
}

static bool has_trace(const char *run)
{
    return hb_trace_is_of_one(run) || hb_trace_is_of_several(run);
}

static hb_status compare_traces(struct diff *d)
{
    bool several = hb_trace_is_of_several(d->a) || hb_trace_is_of_several(d->b);
    d->blocks.step = -1;
    if (!several || !has_trace(d->a) || !has_trace(d->b))
        return hb_trace_compare(d->a, d->b, &d->trace);
    d->by_blocks = true;
    return hb_trace_blocks_compare(d->a, d->b, &d->blocks);
}

/* The step in which the traces part, -1: they do not. */
static int64_t parting_of(const struct diff *d)
{
    bool calls = d->trace.verdict == HB_TRACE_DIFFERENT || d->trace.verdict == HB_TRACE_OTHER_WORK;
    return calls ? d->trace.step : d->blocks.step;
}

static hb_status compare(struct diff *d, int *code)
{
    HB_TRY(hb_run_compare(d->a, d->b, &d->runs));
    print_run("A", d->a, &d->runs.a);
    print_run("B", d->b, &d->runs.b);
    HB_TRY(print_config(d));
    HB_TRY(compare_traces(d));
    int64_t parting = parting_of(d);
    print_steps(&d->runs, parting < 0);
    if (d->by_blocks)
        print_blocks(&d->blocks);
    else if (d->trace.verdict != HB_TRACE_MISSING)
        print_trace(&d->trace);
    bool differ = d->runs.parts >= 0 || parting >= 0;
    int64_t step = d->runs.parts < 0 || (parting >= 0 && parting < d->runs.parts) ? parting : d->runs.parts;
    if (differ)
        HB_TRY(find_checkpoints(d, step));
    if (d->trace.verdict == HB_TRACE_DIFFERENT)
        HB_TRY(print_call_values(d));
    else if (d->blocks.step >= 0)
        print_one_rank(d);
    else if (d->runs.parts >= 0 && parting < 0)
        HB_TRY(print_checkpoints(d));
    if (!differ && d->runs.common == 0 && d->trace.verdict != HB_TRACE_EQUAL && !d->blocks.equal)
        return HB_FAIL(HB_EARGUMENT, "%s and %s have no step in common; there is nothing to compare", d->a,
                       d->b);
    *code = differ ? DIFFERENT : HB_CLI_DONE;
    return HB_OK;
}

static void cut_slashes(char *path)
{
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
}

int hb_cli_diff(int argc, char **argv)
{
    int rest, code;
    if (!hb_options_read(argc, argv, NULL, 0, usage, &rest, &code))
        return code;
    if (rest != 2)
        return hb_wrong_usage("diff", "give two run folders");
    cut_slashes(argv[1]);
    cut_slashes(argv[2]);
    struct diff d = {.a = argv[1], .b = argv[2]};
    hb_status status = compare(&d, &code);
    int finished = hb_finish("diff", status);
    return finished == HB_CLI_DONE ? code : TROUBLE;
}
