/* What a training step asks of a backend besides its ops: after the first step no
 * memory, and one place where the host waits, behind the last kernel of the step.
 * The backend is looked at through a copy of its table. */
#include "model/runs.h"

#include "cpu/select.h"
#include "gpu/memory.h"

static const struct hb_backend *inner;

static struct {
    int64_t allocations, waits;
    int64_t launches_at_first_wait;
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
    if (seen.waits++ == 0)
        seen.launches_at_first_wait = launches(context);
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
    static const int64_t microbatches[] = {4, 4, 2, 3, 1};
    struct run run;
    run_open(&run, shape, backend, 1, RUN_ROWS);
    int64_t after_first = 0;
    for (int s = 0; s < 5; s++) {
        struct hb_step_report report;
        memset(&seen, 0, sizeof seen);
        run_step(&run, s, microbatches[s], &report);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cpu), cmocka_unit_test(test_kernels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
