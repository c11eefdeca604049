/* The strict backend's memory: what a device would not forgive is found here. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/registry.h"
#include "strict/strict.h"
#include "tape/pool.h"

#define OK(call)                                   \
    do {                                           \
        if ((call) != HB_OK)                       \
            fail_msg("%s: %s", #call, hb_error()); \
    } while (0)

static void open_strict(struct hb_context *context)
{
    const struct hb_backend *backend;
    OK(hb_backend_find("strict", &backend));
    OK(hb_context_open(backend, HB_CANONICAL, 1, context));
}

static void expect(hb_status got, hb_status wanted, const char *first, const char *second)
{
    assert_int_equal(got, wanted);
    if (!strstr(hb_error(), first) || !strstr(hb_error(), second))
        fail_msg("'%s' names neither '%s' nor '%s'", hb_error(), first, second);
}

static struct hb_tensor vector(struct hb_context *context, int64_t n)
{
    struct hb_tensor t = hb_tensor_1d(context, NULL, HB_F32, n);
    OK(hb_alloc(context, HB_MEMORY_ACTIVATIONS, hb_tensor_bytes(&t), &t.data));
    return t;
}

static hb_status add(struct hb_context *context, struct hb_tensor a, struct hb_tensor b, struct hb_tensor out)
{
    return hb_add(context, &(struct hb_add_args){a, b, out});
}

static void test_host_memory_is_refused(void **state)
{
    (void)state;
    struct hb_context context;
    float host[8] = {0};
    open_strict(&context);
    struct hb_tensor a = vector(&context, 8), out = vector(&context, 8);
    struct hb_tensor wrong = hb_tensor_1d(&context, host, HB_F32, 8);
    OK(hb_zero(&context, a));
    expect(add(&context, wrong, a, out), HB_EARGUMENT, "add: a is host memory", "copy it in");
    expect(add(&context, a, wrong, out), HB_EARGUMENT, "add: b is host memory", "copy it in");
    expect(add(&context, a, a, wrong), HB_EARGUMENT, "add: out is host memory", "copy it in");
    OK(add(&context, a, a, out));
    expect(hb_copy_in(&context, wrong, a.data), HB_EARGUMENT, "copy_in", "host memory");
    expect(hb_copy_in(&context, a, out.data), HB_EARGUMENT, "copy_in", "device memory");
    expect(hb_copy_out(&context, host, wrong), HB_EARGUMENT, "copy_out", "host memory");
    expect(hb_copy_out(&context, a.data, out), HB_EARGUMENT, "copy_out", "device memory");
    expect(hb_copy(&context, wrong, a), HB_EARGUMENT, "copy", "the target");
    expect(hb_copy(&context, a, wrong), HB_EARGUMENT, "copy", "the source");
    expect(hb_zero(&context, wrong), HB_EARGUMENT, "zero", "host memory");
    hb_context_close(&context);
}

/* Does touching `memory` end the process? */
static bool faults(volatile char *memory, bool write)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        if (write)
            *memory = 1;
        _exit(*memory == 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void test_the_host_cannot_touch_it(void **state)
{
    (void)state;
    struct hb_context context;
    open_strict(&context);
    struct hb_tensor a = vector(&context, 8);
    assert_true(faults(a.data, false));
    OK(hb_zero(&context, a));
    assert_true(faults(a.data, false));
    assert_true(faults(a.data, true));
    OK(add(&context, a, a, a));
    assert_true(faults(a.data, false));
    assert_int_equal(add(&context, a, a, hb_tensor_1d(&context, a.data, HB_F32, 9)), HB_ESHAPE);
    assert_true(faults(a.data, false));
    hb_free(&context, a.data);
    assert_true(faults(a.data, false));
    hb_context_close(&context);
}

static void expect_nan_bytes(struct hb_context *context, struct hb_tensor t)
{
    unsigned char bytes[4096];
    assert_true(hb_tensor_bytes(&t) <= sizeof bytes);
    OK(hb_copy_out(context, bytes, t));
    for (size_t i = 0; i < hb_tensor_bytes(&t); i++)
        assert_int_equal(bytes[i], 0xff);
}

static void test_fresh_memory_is_nan(void **state)
{
    (void)state;
    struct hb_context context;
    open_strict(&context);
    /* Far more rounds than a freed block rests: memory comes back, as new. */
    for (int i = 0; i < 2000; i++) {
        struct hb_tensor t = vector(&context, 100);
        expect_nan_bytes(&context, t);
        OK(hb_zero(&context, t));
        hb_free(&context, t.data);
    }
    OK(hb_sync(&context));
    hb_context_close(&context);
}

static void test_freed_memory_is_refused(void **state)
{
    (void)state;
    struct hb_context context;
    float host[8];
    open_strict(&context);
    struct hb_tensor a = vector(&context, 8), gone = vector(&context, 8), b = vector(&context, 8);
    OK(hb_zero(&context, a));
    hb_free(&context, gone.data);
    expect(add(&context, gone, a, b), HB_EARGUMENT, "add: a", "freed");
    expect(hb_copy_out(&context, host, gone), HB_EARGUMENT, "copy_out", "freed");
    hb_free(&context, gone.data);
    expect(hb_sync(&context), HB_EINTERNAL, "32 bytes", "freed twice");
    OK(hb_sync(&context)); /* said once */
    hb_free(&context, host);
    expect(add(&context, a, a, b), HB_EINTERNAL, "free", "alloc did not give");
    OK(add(&context, a, a, b));
    hb_free(&context, (char *)a.data + 4);
    expect(hb_zero(&context, a), HB_EINTERNAL, "free", "alloc did not give");
    OK(hb_zero(&context, a));
    hb_context_close(&context);
}

static void test_ranges(void **state)
{
    (void)state;
    struct hb_context context;
    float host[64] = {0};
    open_strict(&context);
    struct hb_tensor a = vector(&context, 8), b = vector(&context, 9);
    struct hb_tensor longer = hb_tensor_1d(&context, a.data, HB_F32, 9);
    struct hb_tensor before = hb_tensor_1d(&context, (char *)a.data - 4, HB_F32, 2);
    struct hb_tensor last = hb_tensor_1d(&context, (char *)a.data + 28, HB_F32, 1);
    OK(hb_zero(&context, a));
    OK(hb_zero(&context, b));
    expect(hb_copy_in(&context, longer, host), HB_EARGUMENT, "36 bytes", "4 are behind the end");
    expect(hb_copy_out(&context, host, longer), HB_EARGUMENT, "36 bytes", "4 are behind the end");
    expect(hb_zero(&context, longer), HB_EARGUMENT, "36 bytes", "behind the end");
    expect(hb_zero(&context, before), HB_EARGUMENT, "zero", "between blocks");
    expect(add(&context, longer, b, b), HB_EARGUMENT, "add: a", "behind the end");
    OK(hb_zero(&context, last));
    OK(hb_copy_in(&context, last, host));
    /* Nothing of nothing is always there. */
    OK(hb_zero(&context, hb_tensor_1d(&context, NULL, HB_F32, 0)));
    struct hb_tensor empty = vector(&context, 0);
    OK(add(&context, empty, empty, empty));
    hb_free(&context, empty.data);
    OK(hb_sync(&context));
    hb_context_close(&context);
}

/* --- a backend with faults --- */

static hb_status add_spoiling_a(struct hb_context *context, const struct hb_add_args *args)
{
    (void)context;
    ((float *)args->out.data)[0] = ((const float *)args->b.data)[0];
    ((float *)args->a.data)[hb_tensor_count(&args->a) - 1] = 5;
    return HB_OK;
}

static hb_status sum_overrunning(struct hb_context *context, const struct hb_sum_args *args)
{
    (void)context;
    double *out = args->out.data;
    for (int64_t i = 0; i <= hb_tensor_count(&args->out); i++)
        out[i] = 0;
    return HB_OK;
}

static hb_status clip_failing(struct hb_context *context, const struct hb_clip_args *args)
{
    (void)context;
    (void)args;
    return HB_FAIL(HB_EUNSUPPORTED, "no clip today");
}

static void open_faulty(struct hb_context *context, struct hb_backend *faulty, struct hb_strict *strict)
{
    const struct hb_backend *ref;
    OK(hb_backend_find("ref", &ref));
    *faulty = *ref;
    faulty->add = add_spoiling_a;
    faulty->sum = sum_overrunning;
    faulty->clip = clip_failing;
    faulty->cast = NULL;
    hb_strict_init(strict, faulty);
    OK(hb_context_open(&strict->backend, HB_CANONICAL, 1, context));
}

static void test_faulty_ops_are_named(void **state)
{
    (void)state;
    struct hb_context context;
    struct hb_backend faulty;
    struct hb_strict strict;
    open_faulty(&context, &faulty, &strict);
    struct hb_tensor a = vector(&context, 8), b = vector(&context, 8), out = vector(&context, 8);
    struct hb_tensor total = hb_tensor_1d(&context, NULL, HB_F64, 1);
    OK(hb_alloc(&context, HB_MEMORY_ACTIVATIONS, 8, &total.data));
    OK(hb_zero(&context, a));
    OK(hb_zero(&context, b));
    expect(add(&context, a, b, out), HB_EINTERNAL, "add changed its input a", "");
    assert_true(faults(a.data, false)); /* closed again after the failure */
    OK(add(&context, a, b, a));         /* the output may stand in an input's place */
    expect(hb_sum(&context, &(struct hb_sum_args){.x = a, .factor = 1, .out = total}), HB_EINTERNAL,
           "sum wrote outside", "of out");
    struct hb_clip_args clip = {
        .squares = total, .max_norm = 1, .norm = total, .coef = hb_tensor_rows(a, 0, 1)};
    struct hb_tensor norm = hb_tensor_1d(&context, NULL, HB_F64, 1);
    OK(hb_alloc(&context, HB_MEMORY_ACTIVATIONS, 8, &norm.data));
    clip.norm = norm;
    expect(hb_clip(&context, &clip), HB_EUNSUPPORTED, "no clip today", "");
    assert_true(faults(a.data, false));
    expect(hb_cast(&context, &(struct hb_cast_args){a, out}), HB_EUNSUPPORTED,
           "backend strict has no op cast", "");
    hb_free(&context, total.data);
    expect(hb_sync(&context), HB_EINTERNAL, "wrote outside a block of 8 bytes", "");
    hb_context_close(&context);
}

/* --- many blocks --- */

static void test_many_blocks_keep_their_values(void **state)
{
    (void)state;
    enum { BLOCKS = 200, ROUNDS = 4000 };
    struct hb_context context;
    struct hb_tensor block[BLOCKS] = {0};
    int32_t *host = malloc((size_t)1 << 20);
    assert_non_null(host);
    int64_t before = hb_memory_now(HB_MEMORY_DATA);
    open_strict(&context);
    uint32_t random = 1;
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1664525u + 1013904223u;
        int i = (int)(random >> 8) % BLOCKS;
        if (block[i].data) {
            int64_t n = hb_tensor_count(&block[i]);
            OK(hb_copy_out(&context, host, block[i]));
            for (int64_t e = 0; e < n; e++)
                assert_int_equal(host[e], i);
            hb_free(&context, block[i].data);
            block[i].data = NULL;
            continue;
        }
        /* Mostly small, some large enough that rested blocks must be joined. */
        int64_t n = 1 + (int64_t)(random >> 16) % (round % 16 ? 500 : 200000);
        block[i] = hb_tensor_1d(&context, NULL, HB_I32, n);
        OK(hb_alloc(&context, HB_MEMORY_DATA, hb_tensor_bytes(&block[i]), &block[i].data));
        for (int64_t e = 0; e < n; e++)
            host[e] = i;
        OK(hb_copy_in(&context, block[i], host));
    }
    assert_true(hb_memory_now(HB_MEMORY_DATA) > before);
    OK(hb_sync(&context));
    hb_context_close(&context); /* counts what is left as returned */
    assert_int_equal(hb_memory_now(HB_MEMORY_DATA), before);
    free(host);
}

static void test_no_room(void **state)
{
    (void)state;
    struct hb_context context;
    void *memory;
    open_strict(&context);
    expect(hb_alloc(&context, HB_MEMORY_WORKSPACE, (size_t)1 << 60, &memory), HB_EMEMORY, "out of memory",
           "workspace");
    struct hb_tensor a = vector(&context, 4);
    OK(hb_zero(&context, a));
    hb_context_close(&context);
}

/* The pool gives every buffer back, so that the next life begins as NaN. */
static void test_pool_is_bypassed(void **state)
{
    (void)state;
    struct hb_context context;
    struct hb_pool pool;
    struct hb_buffer *buffer;
    open_strict(&context);
    hb_pool_init(&pool, &context, HB_MEMORY_ACTIVATIONS);
    for (int i = 0; i < 3; i++) {
        OK(hb_pool_take(&pool, 256, &buffer));
        struct hb_tensor t = hb_tensor_1d(&context, buffer->data, HB_F32, 64);
        expect_nan_bytes(&context, t);
        OK(hb_zero(&context, t));
        hb_pool_drop(&pool, buffer);
        expect(hb_zero(&context, t), HB_EARGUMENT, "zero", "freed");
    }
    assert_int_equal(pool.in_use, 0);
    hb_pool_release(&pool);
    hb_context_close(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_memory_is_refused),
        cmocka_unit_test(test_the_host_cannot_touch_it),
        cmocka_unit_test(test_fresh_memory_is_nan),
        cmocka_unit_test(test_freed_memory_is_refused),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_faulty_ops_are_named),
        cmocka_unit_test(test_many_blocks_keep_their_values),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_pool_is_bypassed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
