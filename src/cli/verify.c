#include "cli/verify.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/plugin.h"
#include "backends/registry.h"
#include "cli/options.h"
#include "core/file.h"
#include "core/json.h"
#include "verify/folder.h"
#include "verify/onnx.h"
#include "verify/verify.h"

static const char usage[] =
    "usage: hornbook verify [option...]\n"
    "       hornbook verify --onnx FOLDER [option...]\n"
    "\n"
    "Runs every golden case on a backend and compares: with the expected values of an\n"
    "independent oracle, within the derived bound, and with the backend ref, bit for\n"
    "bit (canonical). Exits 1 if anything fails. docs/golden-format.md describes the\n"
    "files; cases of your own work alike.\n"
    "\n"
    "  --backend NAME    ref, cpu, or the path of a shared object (default cpu)\n"
    "  --golden FOLDER   cases to run (default: those that came with hornbook)\n"
    "  --op NAME         only this op (rmsnorm) or entry (rmsnorm_forward)\n"
    "  --numerics NAME   canonical or fast (default canonical)\n"
    "  --threads N       0: all processors (default 0)\n"
    "  --onnx FOLDER     run node tests of the ONNX project instead, a line a file\n"
    "  --json            the result as JSON\n"
    "  --help            this text\n"
    "\n"
    "share is the largest error over its bound 4 sqrt(n) u sum|terms|; of worst, over\n"
    "the worst case n u sum|terms|; 0 means that every element is exact, error that a case\n"
    "ended in one, which stands below.\n";

/* A line of the table: one op entry with one storage type. */
struct row {
    const char *op;
    enum hb_dtype dtype;
    int cases, failed, uncovered, errors, other_bits;
    double share, worst;
    char place[144]; /* "rmsnorm-003 y[2,31]"; of the first case that ended in an error its name */
};

enum { ROWS = 256 };

struct report {
    struct row rows[ROWS];
    int count;
    json_t *failures; /* array of objects */
    const char *backend;
    const char *folder;
    bool fast, json;
};

static struct row *row_of(struct report *report, const char *op, enum hb_dtype dtype)
{
    for (int i = 0; i < report->count; i++)
        if (strcmp(report->rows[i].op, op) == 0 && report->rows[i].dtype == dtype)
            return &report->rows[i];
    if (report->count == ROWS)
        return NULL;
    report->rows[report->count] = (struct row){.op = op, .dtype = dtype};
    return &report->rows[report->count++];
}

static hb_status add_failure(struct report *report, const char *name, const struct hb_case *c,
                             const char *problem)
{
    json_t *entry = json_pack("{s:s, s:s, s:s}", "file", name, "case", c ? c->label : "", "problem", problem);
    if (json_array_append_new(report->failures, entry) != 0)
        return HB_FAIL(HB_EMEMORY, "out of memory for the report");
    return HB_OK;
}

static hb_status add_verdict(struct report *report, const char *name, const struct hb_case *c,
                             const struct hb_verdict *v)
{
    struct row *row = row_of(report, c->op->name, c->dtype);
    if (!row)
        return HB_FAIL(HB_EFORMAT, "%s: more than %d kinds of cases", name, ROWS);
    row->cases++;
    row->uncovered += !v->covered;
    bool error = v->covered && !v->ran;
    row->failed += !v->passed;
    row->other_bits += !v->same_bits;
    if (error && row->errors++ == 0)
        snprintf(row->place, sizeof row->place, "%s", name);
    if (v->share > row->share && !row->errors) {
        row->share = v->share;
        snprintf(row->place, sizeof row->place, "%s %s", name, v->place);
    }
    if (v->worst > row->worst)
        row->worst = v->worst;
    return v->passed ? HB_OK : add_failure(report, name, c, v->problem);
}

static bool selected(const char *entry, const char *op, const char *wanted)
{
    return !wanted || strcmp(entry, wanted) == 0 || strcmp(op, wanted) == 0;
}

/* A file that is no case is a failure of the run, not its end. */
static hb_status run_file(struct report *report, const char *path, const char *op, struct hb_context *subject,
                          struct hb_context *ref)
{
    struct hb_case c;
    struct hb_verdict verdict;
    char name[64];
    hb_case_name(path, name, sizeof name);
    if (hb_case_open(path, &c) != HB_OK)
        return add_failure(report, name, NULL, hb_error());
    hb_status status = HB_OK;
    if (selected(c.op->name, c.op->header, op)) {
        status = hb_verify_case(&c, subject, ref, &verdict);
        status = status == HB_OK ? add_verdict(report, name, &c, &verdict)
                                 : add_failure(report, name, &c, hb_error());
    }
    hb_case_close(&c);
    return status;
}

static void print_row(const struct report *report, const struct row *r)
{
    printf("%-24s %-5s %5d ", r->op, hb_dtype_name(r->dtype), r->cases);
    if (r->uncovered == r->cases)
        printf("%9s %9s %-6s not covered: backend %s has no %s\n", "-", "-", "-", report->backend,
               hb_dtype_name(r->dtype));
    else if (r->errors)
        printf("%9s %9s %-6s FAILED %s; errors: %d of %d cases\n", "error", "-", "-", r->place, r->errors,
               r->cases);
    else
        printf("%9.3g %9.3g %-6s %s%s\n", r->share, r->worst, r->other_bits ? "differ" : "equal",
               r->failed ? "FAILED " : "", r->place);
}

static void print_table(const struct report *report)
{
    int cases = 0, uncovered = 0;
    printf("%-24s %-5s %5s %9s %9s %-6s %s\n", "op", "dtype", "cases", "share", "of worst", "bits",
           "worst place");
    for (int i = 0; i < report->count; i++) {
        cases += report->rows[i].cases;
        uncovered += report->rows[i].uncovered;
        print_row(report, &report->rows[i]);
    }
    size_t failures = json_array_size(report->failures);
    for (size_t i = 0; i < failures; i++) {
        const json_t *f = json_array_get(report->failures, i);
        printf("%s%s (%s): %s\n", i ? "" : "\n", json_string_value(json_object_get(f, "file")),
               json_string_value(json_object_get(f, "case")),
               json_string_value(json_object_get(f, "problem")));
    }
    printf("\nbackend %s, %s: %d cases of %s, %d covered, %zu failed\n", report->backend,
           report->fast ? "fast" : "canonical", cases, report->folder, cases - uncovered, failures);
}

static json_t *number(bool known, double x)
{
    return known && x <= 1e300 ? json_real(x) : json_null();
}

static hb_status print_json(const struct report *report)
{
    json_t *rows = json_array();
    for (int i = 0; i < report->count; i++) {
        const struct row *r = &report->rows[i];
        /* JSON knows no infinity: a failed exact output has share null, and so has what was not compared. */
        bool whole = r->errors == 0 && r->uncovered < r->cases;
        json_t *row =
            json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:o, s:o, s:b, s:s}", "op", r->op, "dtype",
                      hb_dtype_name(r->dtype), "cases", r->cases, "covered", r->cases - r->uncovered,
                      "failed", r->failed, "errors", r->errors, "share", number(whole, r->share),
                      "of_worst", number(whole, r->worst), "bits_equal", r->other_bits == 0, "place",
                      r->place);
        hb_json_append(&rows, row);
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:o, s:O}", "backend", report->backend, "numerics",
                             report->fast ? "fast" : "canonical", "golden", report->folder, "rows", rows,
                             "failures", report->failures);
    char *text;
    hb_status status = hb_json_text(root, &text);
    if (status == HB_OK) {
        fputs(text, stdout);
        free(text);
    }
    json_decref(root);
    return status;
}

const char *hb_cli_golden_folder(void)
{
    static const char installed[] = HB_DATADIR "/golden/ops";
    return hb_file_is_folder(installed) ? installed : "golden/ops";
}

static hb_status run_golden(struct report *report, const char *op, struct hb_context *subject,
                            struct hb_context *ref, bool *failed)
{
    struct hb_case_list list;
    HB_TRY(hb_case_list_init(&list, report->folder));
    hb_status status = HB_OK;
    for (int i = 0; status == HB_OK && i < list.count; i++)
        status = run_file(report, list.paths[i], op, subject, ref);
    hb_case_list_release(&list);
    HB_TRY(status);
    *failed = json_array_size(report->failures) > 0;
    if (!report->count && !*failed)
        return HB_FAIL(HB_EARGUMENT, "%s has no case of op %s; 'hornbook ops' lists the ops", report->folder,
                       op);
    if (report->json)
        return print_json(report);
    print_table(report);
    return HB_OK;
}

static void print_onnx(const char *name, const struct hb_onnx_verdict *v)
{
    static const char *const words[] = {"pass", "FAIL", "not covered"};
    printf("%-48s %-11s %s\n", name, words[v->result], v->text);
}

static hb_status run_onnx(const struct report *report, struct hb_context *subject, bool *failed)
{
    struct hb_case_list list;
    int count[3] = {0};
    HB_TRY(hb_case_list_init(&list, report->folder));
    json_t *files = json_array();
    for (int i = 0; i < list.count; i++) {
        struct hb_onnx_verdict v;
        char name[64];
        hb_case_name(list.paths[i], name, sizeof name);
        if (hb_onnx_verify(list.paths[i], subject, &v) != HB_OK) {
            v.result = HB_ONNX_FAIL;
            snprintf(v.text, sizeof v.text, "%s", hb_error());
        }
        count[v.result]++;
        if (report->json)
            hb_json_append(&files, json_pack("{s:s, s:s, s:s}", "file", name, "result",
                                             v.result == HB_ONNX_PASS   ? "pass"
                                             : v.result == HB_ONNX_FAIL ? "fail"
                                                                        : "not covered",
                                             "text", v.text));
        else
            print_onnx(name, &v);
    }
    hb_case_list_release(&list);
    *failed = count[HB_ONNX_FAIL] > 0;
    hb_status status = HB_OK;
    if (report->json) {
        char *text;
        status = hb_json_text(files, &text);
        if (status == HB_OK) {
            fputs(text, stdout);
            free(text);
        }
    } else {
        printf("\nbackend %s: %d files of %s, %d pass, %d fail, %d not covered\n", report->backend,
               count[0] + count[1] + count[2], report->folder, count[HB_ONNX_PASS], count[HB_ONNX_FAIL],
               count[HB_ONNX_UNCOVERED]);
    }
    json_decref(files);
    return status;
}

/* A name without a slash that does not end in ".so" is a backend of ours. */
static bool is_path(const char *backend)
{
    const char *dot = strrchr(backend, '.');
    return strchr(backend, '/') || (dot && strcmp(dot, ".so") == 0);
}

/* Everything that the options ask for, on opened contexts. */
struct request {
    const char *backend, *golden, *op, *numerics, *onnx;
    int64_t threads;
    bool json;
};

static hb_status run_on(const struct request *r, const struct hb_backend *backend, bool *failed)
{
    struct hb_context subject = {0}, ref = {0};
    struct report *report = calloc(1, sizeof *report);
    hb_status status = report ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the report");
    if (status == HB_OK) {
        *report = (struct report){.failures = json_array(), .backend = backend->name, .json = r->json};
        report->fast = strcmp(r->numerics, "fast") == 0;
        report->folder = r->onnx ? r->onnx : r->golden ? r->golden : hb_cli_golden_folder();
        status = hb_context_open(backend, report->fast ? HB_FAST : HB_CANONICAL, (int)r->threads, &subject);
    }
    const struct hb_backend *reference;
    if (status == HB_OK)
        status = hb_backend_find("ref", &reference);
    if (status == HB_OK)
        status = hb_context_open(reference, HB_CANONICAL, 1, &ref);
    if (status == HB_OK)
        status =
            r->onnx ? run_onnx(report, &subject, failed) : run_golden(report, r->op, &subject, &ref, failed);
    hb_context_close(&ref);
    hb_context_close(&subject);
    if (report)
        json_decref(report->failures);
    free(report);
    return status;
}

static hb_status run(const struct request *r, bool *failed)
{
    const struct hb_backend *backend;
    struct hb_plugin plugin;
    if (!is_path(r->backend)) {
        HB_TRY(hb_backend_find(r->backend, &backend));
        return run_on(r, backend, failed);
    }
    HB_TRY(hb_plugin_init(&plugin, r->backend));
    hb_status status = run_on(r, &plugin.backend, failed);
    hb_plugin_release(&plugin);
    return status;
}

int hb_cli_verify(int argc, char **argv)
{
    struct request r = {.backend = "cpu", .numerics = "canonical"};
    const struct hb_option options[] = {
        {"--backend", HB_OPTION_TEXT, &r.backend, 0, 0}, {"--golden", HB_OPTION_TEXT, &r.golden, 0, 0},
        {"--op", HB_OPTION_TEXT, &r.op, 0, 0},           {"--numerics", HB_OPTION_TEXT, &r.numerics, 0, 0},
        {"--onnx", HB_OPTION_TEXT, &r.onnx, 0, 0},       {"--threads", HB_OPTION_INT, &r.threads, 0, 4096},
        {"--json", HB_OPTION_FLAG, &r.json, 0, 0},
    };
    int rest, code;
    bool failed = false;
    if (!hb_options_read(argc, argv, options, sizeof options / sizeof options[0], usage, &rest, &code))
        return code;
    if (rest > 0)
        return hb_wrong_usage("verify", "unexpected argument '%s'", argv[1]);
    if (strcmp(r.numerics, "canonical") != 0 && strcmp(r.numerics, "fast") != 0)
        return hb_wrong_usage("verify", "--numerics must be canonical or fast, got '%s'", r.numerics);
    if (r.onnx && (r.golden || r.op))
        return hb_wrong_usage("verify", "--onnx goes without --golden and --op");
    code = hb_finish("verify", run(&r, &failed));
    return code == HB_CLI_DONE && failed ? HB_CLI_FAILED : code;
}
