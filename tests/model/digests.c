/* Digests of small runs, pinned in golden/digests.txt: the bits of this numerics
 * version, on every compiler, processor and day. When the numerics change on
 * purpose, their version goes up, and
 *
 *     tests/model/digests.test --print > golden/digests.txt
 *
 * writes the new ones. */
#include "model/runs.h"

#include <stdio.h>

#include "cpu/select.h"
#include "ref/backend.h"

enum { STEPS = 3, LINE = 256 };

/* Of the initial weights and after each step; steps of 2, 3 and 4 microbatches. */
struct digests {
    char text[1 + STEPS][HB_DIGEST_TEXT + 1];
};

static void train(const struct run_shape *shape, const struct hb_backend *backend, int threads,
                  struct digests *digests)
{
    struct run run;
    run_open(&run, shape, backend, threads, RUN_ROWS);
    TH_OK(hb_optimizer_digest(&run.optimizer, true, digests->text[0]));
    for (int64_t s = 0; s < STEPS; s++) {
        struct hb_step_report report;
        run_step(&run, s, 2 + s, &report);
        memcpy(digests->text[1 + s], report.digest, sizeof report.digest);
    }
    run_close(&run);
}

static int print_all(void)
{
    printf("# Digests of small training runs (tests/model/digests.c): run, step, digest.\n");
    printf("numerics version %d\n", HB_NUMERICS_VERSION);
    for (int i = 0; i < run_shape_count; i++) {
        struct digests digests;
        train(&run_shapes[i], &hb_backend_ref, 1, &digests);
        for (int s = 0; s <= STEPS; s++)
            printf("%s %d %s\n", run_shapes[i].name, s, digests.text[s]);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}

static FILE *open_pinned(void)
{
    char path[4096];
    const char *source = getenv("HB_SRCDIR");
    snprintf(path, sizeof path, "%s/golden/digests.txt", source ? source : ".");
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s cannot be read", path);
    return file;
}

/* The next line that is no comment. */
static char *next_line(FILE *file, char line[LINE])
{
    do
        if (!fgets(line, LINE, file))
            return NULL;
    while (line[0] == '#');
    line[strcspn(line, "\n")] = '\0';
    return line;
}

static void check_pinned(const struct hb_backend *backend, int threads)
{
    char line[LINE], wanted[LINE];
    FILE *file = open_pinned();
    snprintf(wanted, sizeof wanted, "numerics version %d", HB_NUMERICS_VERSION);
    assert_non_null(next_line(file, line));
    assert_string_equal(line, wanted);
    for (int i = 0; i < run_shape_count; i++) {
        struct digests digests;
        train(&run_shapes[i], backend, threads, &digests);
        for (int s = 0; s <= STEPS; s++) {
            snprintf(wanted, sizeof wanted, "%s %d %s", run_shapes[i].name, s, digests.text[s]);
            if (!next_line(file, line) || strcmp(line, wanted) != 0)
                fail_msg("%s gives \"%s\", pinned is \"%s\"", backend->name, wanted, line);
        }
    }
    assert_null(next_line(file, line));
    fclose(file);
}

static void test_ref(void **state)
{
    (void)state;
    check_pinned(&hb_backend_ref, 1);
}

static void test_cpu(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    check_pinned(cpu, 1);
}

/* The kernels of cuda, dense and with experts. */
static void test_kernels(void **state)
{
    (void)state;
    const struct hb_backend *kernels = th_kernels();
    if (!kernels)
        skip(); /* built without a C++ compiler */
    check_pinned(kernels, 1);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--print") == 0)
        return print_all();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_kernels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
