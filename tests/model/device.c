/* What a training step asks of a backend besides its ops: after the first step no
 * memory, and one place where the host waits, behind the last kernel of the step.
 * The backend is looked at through a copy of its table.
 *
 * Of several ranks (device_ranks.sh starts them) the host waits where bytes leave
 * for other ranks and for what they decide together, and for nothing else. */
#include "model/runs.h"

#include "cpu/select.h"
#include "gpu/memory.h"

/* No count here depends on the length, the time of the emulator does. */
enum { FEW_ROWS = 9 };

static const struct hb_backend *inner;

static struct {
    int64_t allocations, waits, places; /* waits without a kernel between them are at one place */
    int64_t launches_at_first_wait, launches_at_last_wait;
} seen;

/* Kernels so far; 0 on a backend without. */
static int64_t launches(struct hb_context *context)
{
    return strcmp(inner->name, "cuda-emulated") == 0
               ? hb_emulator_counts(hb_emulated_stream(context)).launches
               : 0;
}

static hb_status count_alloc(struct hb_context *context, enum hb_memory_category category, size_t bytes,
                             void **out)
{
    seen.allocations++;
    return inner->alloc(context, category, bytes, out);
}

static void wait(struct hb_context *context)
{
    int64_t now = launches(context);
    if (seen.waits++ == 0)
        seen.launches_at_first_wait = now;
    seen.places += now != seen.launches_at_last_wait;
    seen.launches_at_last_wait = now;
}

static hb_status count_copy_out(struct hb_context *context, void *host, const void *from, size_t bytes)
{
    wait(context);
    return inner->copy_out(context, host, from, bytes);
}

static hb_status count_sync(struct hb_context *context)
{
    wait(context);
    return inner->sync(context);
}

static struct hb_backend watched(const struct hb_backend *backend)
{
    struct hb_backend copy = *backend;
    inner = backend;
    copy.alloc = count_alloc;
    copy.copy_out = count_copy_out;
    copy.sync = count_sync;
    return copy;
}

/* Of a device's memory, workspace included, which a backend allocates by itself. */
static int64_t memory(void)
{
    int64_t bytes = 0;
    for (int c = 0; c < HB_MEMORY_CATEGORY_COUNT; c++)
        bytes += hb_memory_now((enum hb_memory_category)c);
    return bytes;
}

/* Loss, verdict, hashes of the digest: three copies, one wait. */
static void check_steps(const struct run_shape *shape, const struct hb_backend *backend)
{
    static const int64_t microbatches[] = {4, 2, 3, 1}; /* the first step is the largest */
    struct run run;
    struct run_data data;
    run_open(&run, shape, backend, 1, FEW_ROWS);
    int64_t after_first = 0;
    for (int s = 0; s < 4; s++) {
        struct hb_step_report report;
        memset(&seen, 0, sizeof seen);
        run_data_make(&data, (uint64_t)s, shape->config.vocab_size, FEW_ROWS);
        TH_OK(hb_step(&run.stepper, data.batch, microbatches[s], 1, true, &report));
        run_data_release(&data);
        if (seen.waits != 3 || seen.launches_at_first_wait != launches(&run.context))
            fail_msg("%s on %s: the host waits %d times in a step of %d microbatches, first after %d of %d "
                     "kernels",
                     shape->name, backend->name, (int)seen.waits, (int)microbatches[s],
                     (int)seen.launches_at_first_wait, (int)launches(&run.context));
        if (s == 0)
            after_first = memory();
        else if (seen.allocations || memory() != after_first)
            fail_msg("%s on %s: %d allocations in step %d, %lld bytes in use became %lld", shape->name,
                     backend->name, (int)seen.allocations, s + 1, (long long)after_first,
                     (long long)memory());
    }
    run_close(&run);
}

static void check(const struct hb_backend *subject)
{
    struct hb_backend backend = watched(subject);
    for (int i = 0; i < run_shape_count; i++)
        check_steps(&run_shapes[i], &backend);
}

static void test_cpu(void **state)
{
    (void)state;
    const struct hb_backend *cpu;
    TH_OK(hb_cpu_select(&cpu));
    check(cpu);
}

static void test_kernels(void **state)
{
    (void)state;
    if (!th_kernels())
        skip(); /* built without a C++ compiler */
    check(th_kernels());
}

/* --- ranks --- */

static struct hb_comm *world;

/* Waits of a step of M microbatches. */
static void count_waits(const struct run_shape *shape, const char *layout, int zero, int64_t M)
{
    static const struct hb_optimizer_config training = {
        .schedule = {.peak = 0.01, .updates = 8}, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};
    struct hb_backend backend = watched(th_kernels());
    struct hb_ranks_options options = {
        .zero = zero, .schedule = "1f1b", .microbatches = M, .sequences = 1, .length = FEW_ROWS};
    struct hb_ranks ranks;
    struct hb_context context;
    struct hb_model *model;
    struct hb_optimizer optimizer;
    struct hb_stepper stepper;
    struct hb_step_report report;
    struct run_data data;
    run_data_make(&data, 7, shape->config.vocab_size, FEW_ROWS);
    TH_OK(hb_mesh_parse(layout, &options.shape));
    TH_OK(hb_context_open(&backend, HB_CANONICAL, 1, &context));
    TH_OK(hb_ranks_open(&ranks, world, &options, &shape->config));
    TH_OK(hb_model_outline(&context, &shape->config, &ranks.part, &model));
    TH_OK(hb_ranks_attach(&ranks, model));
    TH_OK(hb_model_allocate(model, FEW_ROWS, true));
    TH_OK(hb_model_initialise(model, 20));
    TH_OK(hb_optimizer_init_ranks(&optimizer, model, &ranks.mesh, &training));
    TH_OK(hb_ranks_start(&ranks, FEW_ROWS));
    TH_OK(hb_stepper_init_ranks(&stepper, &ranks, &optimizer));
    memset(&seen, 0, sizeof seen);
    TH_OK(hb_step(&stepper, data.batch, M, 1, true, &report));
    hb_stepper_release(&stepper);
    hb_optimizer_release(&optimizer);
    hb_ranks_close(&ranks);
    hb_model_destroy(model);
    hb_context_close(&context);
    run_data_release(&data);
}

static const struct run_shape *shape_called(const char *name)
{
    int i = 0;
    while (strcmp(run_shapes[i].name, name) != 0)
        i++;
    return &run_shapes[i];
}

/* A rank that is alone, by the executor: before the update for the norm, which ranks make together, and
 * behind the last kernel. A bias that steers selection wants the counts of all ranks before it, too. */
static void test_one_of_one(void **state)
{
    (void)state;
    if (!th_kernels())
        skip();
    count_waits(shape_called("moe-hf"), "dp=1", 0, 3);
    assert_int_equal(seen.places, 2);
    assert_int_equal(seen.waits, 6); /* found, extremes, sums; verdict, digest, results */
    count_waits(shape_called("moe-bias-tied"), "dp=1", 0, 3);
    assert_int_equal(seen.places, 3);
    assert_int_equal(seen.waits, 6);
}

/* What 2 microbatches more add: nothing of their own, but the count of each layer with experts where ranks
 * divide those, and what goes to other ranks by way of the host. (One node of the fold a rank in both.) */
static void test_two_ranks(void **state)
{
    (void)state;
    if (!th_kernels())
        skip();
    const int count = 1, rows = 4, residual = 1, statistics = 2, gradient = 1, fractions = 1, layers = 2;
    const bool first = hb_comm_rank(world) == 0;
    const struct {
        const char *shape, *layout;
        int zero, more;
    } cases[] = {
        {"dense", "dp=2", 0, 0},
        {"moe-hf", "dp=2", 0, 0},
        {"moe-hf", "dp=2", 1, 0},
        {"moe-layer-plain", "dp=2", 1, 0},
        {"moe-bias-tied", "dp=2", 1, 0},
        {"moe-hf", "ep=2", 1, layers * (count + rows)},
        {"dense", "pp=2", 0, 2 * (first ? residual : gradient)},
        {"moe-hf", "pp=2", 0, 2 * (first ? residual + statistics : gradient + fractions)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct run_shape *shape = shape_called(cases[i].shape);
        count_waits(shape, cases[i].layout, cases[i].zero, 2);
        int64_t few = seen.waits;
        count_waits(shape, cases[i].layout, cases[i].zero, 4);
        if (seen.waits != few + cases[i].more)
            fail_msg("%s, %s: the host waits %d times in a step of 2 microbatches, %d of 4", cases[i].shape,
                     cases[i].layout, (int)few, (int)seen.waits);
    }
}

int main(void)
{
    const struct CMUnitTest alone[] = {cmocka_unit_test(test_cpu), cmocka_unit_test(test_kernels),
                                       cmocka_unit_test(test_one_of_one)};
    const struct CMUnitTest together[] = {cmocka_unit_test(test_two_ranks)};
    TH_OK(hb_comm_world(&world));
    int failed = hb_comm_size(world) == 2 ? cmocka_run_group_tests(together, NULL, NULL)
                                          : cmocka_run_group_tests(alone, NULL, NULL);
    hb_comm_destroy(world);
    return failed;
}
