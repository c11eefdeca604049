/* The emulator: indices, barriers, warp operations, every order of threads; each
 * fault is one message and the next launch works; memory; the checker. Kernels
 * are C here and call what src/emulator/kernel.h calls. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "emulator/emulator.h"

enum { SCHEDULES = 7, WHOLE = -1 }; /* WHOLE: the full mask */

static struct hb_emulator *device;

static int set_up(void **state)
{
    (void)state;
    return hb_emulator_create(&device);
}

static int tear_down(void **state)
{
    (void)state;
    hb_emulator_destroy(device);
    device = NULL;
    return 0;
}

struct call {
    int32_t *out;
    const int32_t *in;
};

static hb_status run(const char *name, void (*kernel)(void *), struct call *call, unsigned blocks,
                     unsigned threads, size_t shared)
{
    struct hb_emulated_launch launch = {.emulator = device,
                                        .name = name,
                                        .run = kernel,
                                        .call = call,
                                        .call_bytes = sizeof *call,
                                        .grid = {blocks, 1, 1},
                                        .block = {threads, 1, 1},
                                        .shared = shared};
    if (call->out)
        launch.pointer[launch.pointers++] = call->out;
    if (call->in)
        launch.pointer[launch.pointers++] = call->in;
    return hb_emulated_run(&launch);
}

static int32_t *memory(int64_t n)
{
    void *out;
    assert_int_equal(hb_emulator_alloc(device, HB_MEMORY_ACTIVATIONS, (size_t)n * sizeof(int32_t), &out),
                     HB_OK);
    return out;
}

static void read_back(int32_t *host, const int32_t *from, int64_t n)
{
    assert_int_equal(hb_emulator_copy_out(device, host, from, (size_t)n * sizeof *host), HB_OK);
}

static void assert_message(hb_status status, hb_status code, const char *part)
{
    assert_int_equal(status, code);
    if (!strstr(hb_error(), part))
        fail_msg("\"%s\" does not say \"%s\"", hb_error(), part);
}

/* --- what works --- */

#define THREAD ((int)hb_emulated_thread.x)

static void reverse_block(void *data)
{
    static const char place = 0;
    const struct call *call = data;
    int32_t *shared = hb_emulated_shared(&place, "shared", 96 * sizeof *shared, __FILE__, __LINE__);
    int at = (int)hb_emulated_block.x * 96;
    shared[THREAD] = at + THREAD;
    hb_emulated_barrier(__FILE__, __LINE__);
    call->out[at + THREAD] = shared[95 - THREAD];
}

/* Lane l gives 1 << l four times round the warp; a vote tells the even lanes. */
static void rotate_warp(void *data)
{
    const struct call *call = data;
    uint64_t value = 1u << hb_emulated_lane();
    for (int i = 0; i < 4; i++)
        value = hb_emulated_shuffle((unsigned)WHOLE, value, hb_emulated_lane() + 1, __FILE__, __LINE__);
    unsigned even = hb_emulated_ballot((unsigned)WHOLE, hb_emulated_lane() % 2 == 0, __FILE__, __LINE__);
    hb_emulated_warp_barrier((unsigned)WHOLE, __FILE__, __LINE__);
    call->out[THREAD] = (int32_t)value + (even == 0x55555555u ? 0 : 1);
}

static void test_works(void **state)
{
    (void)state;
    int32_t host[5 * 96], *out = memory(5 * 96);
    for (uint64_t schedule = 0; schedule < SCHEDULES; schedule++) {
        hb_emulator_schedule(device, schedule);
        struct call call = {.out = out};
        assert_int_equal(run("reverse_block", reverse_block, &call, 5, 96, 0), HB_OK);
        read_back(host, out, 5 * 96);
        for (int i = 0; i < 5 * 96; i++)
            assert_int_equal(host[i], i / 96 * 96 + 95 - i % 96);
        assert_int_equal(run("rotate_warp", rotate_warp, &call, 1, 64, 0), HB_OK);
        read_back(host, out, 64);
        for (int i = 0; i < 64; i++)
            assert_int_equal(host[i], (int32_t)(1u << (i + 4) % 32));
    }
    hb_emulator_schedule(device, 0);
    assert_int_equal(hb_emulator_free(device, out), HB_OK);
}

/* --- what does not --- */

static void two_places(void *data)
{
    (void)data;
    if (THREAD < 3)
        hb_emulated_barrier("a.cu", 10);
    else
        hb_emulated_barrier("a.cu", 20);
}

static void leaves_early(void *data)
{
    (void)data;
    if (THREAD != 5)
        hb_emulated_barrier("a.cu", 11);
}

static void lane_leaves(void *data)
{
    (void)data;
    if (hb_emulated_lane() != 5)
        hb_emulated_warp_barrier((unsigned)WHOLE, "a.cu", 12);
}

static void block_and_warp(void *data)
{
    (void)data;
    if (THREAD == 0)
        hb_emulated_barrier("a.cu", 13);
    else
        hb_emulated_warp_barrier((unsigned)WHOLE, "a.cu", 14);
}

static void half_mask(void *data)
{
    (void)data;
    hb_emulated_shuffle(0xffff, 1, 0, "a.cu", 15);
}

static volatile uintptr_t wild = 56;

static void wild_pointer(void *data)
{
    (void)data;
    if (THREAD == 7)
        *(volatile int32_t *)wild = 1;
}

__attribute__((no_sanitize("undefined"))) static void divides(void *data)
{
    const struct call *call = data;
    volatile int32_t zero = 0;
    call->out[0] = (int32_t)(7 / zero);
}

static void recurses(void *data)
{
    volatile char page[2048];
    page[0] = 0;
    if (data)
        recurses(data);
    page[1] = page[0];
}

static void too_much_shared(void *data)
{
    static const char place = 0;
    (void)data;
    hb_emulated_shared(&place, "tile", 50000, "a.cu", 16);
}

static void writes_behind(void *data)
{
    const struct call *call = data;
    if (THREAD == 0)
        call->out[64] = 1;
}

static void test_faults(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*kernel)(void *);
        const char *message;
    } faults[] = {
        {"two_places", two_places, "meets its block at a.cu:20, but thread (0,0,0) at a.cu:10"},
        {"leaves_early", leaves_early,
         "1 of 64 threads have left the kernel, but thread (0,0,0) waits for its block at a.cu:11"},
        {"lane_leaves", lane_leaves, "waits for its warp at a.cu:12"},
        {"block_and_warp", block_and_warp,
         "deadlock: thread (0,0,0) waits for its block at a.cu:13 and thread (1,0,0) for its warp at "
         "a.cu:14"},
        {"half_mask", half_mask, "mask 0000ffff at a.cu:15"},
        {"wild_pointer", wild_pointer, "wild_pointer, block (0,0,0), thread (7,0,0): touches address 0x38"},
#ifdef __x86_64__ /* elsewhere it is no fault */
        {"divides", divides, "integer division by zero"},
#endif
        {"recurses", recurses, "its stack of"},
        {"too_much_shared", too_much_shared, "SHARED tile at a.cu:16 makes 50000 bytes; a block has 49152"},
        {"writes_behind", writes_behind,
         "writes_behind wrote outside the memory of its pointer number 1 (256 bytes)"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        int32_t host[64], *out = memory(64);
        struct call call = {.out = out};
        assert_message(run(faults[i].name, faults[i].kernel, &call, 1, 64, 0), HB_EINTERNAL,
                       faults[i].message);
        assert_int_equal(run("rotate_warp", rotate_warp, &call, 1, 64, 0),
                         faults[i].kernel == writes_behind ? HB_EINTERNAL : HB_OK);
        read_back(host, out, 64);
        assert_int_equal(host[0], 1 << 4);
        assert_int_equal(hb_emulator_free(device, out),
                         faults[i].kernel == writes_behind ? HB_EINTERNAL : HB_OK);
    }
}

static void test_refused(void **state)
{
    (void)state;
    int32_t host[64], *out = memory(64);
    struct call call = {.out = host};
    assert_message(run("host_pointer", rotate_warp, &call, 1, 64, 0), HB_EARGUMENT,
                   "pointer number 1 is host memory");
    call.out = out;
    assert_message(run("odd", rotate_warp, &call, 1, 40, 0), HB_EARGUMENT, "a block of (40,1,1) threads");
    assert_message(run("large", rotate_warp, &call, 1, 2048, 0), HB_EARGUMENT, "32 to 1024");
    assert_message(run("shared", rotate_warp, &call, 1, 64, 200000), HB_EARGUMENT, "200000 dynamic bytes");
    assert_int_equal(run("empty", rotate_warp, &call, 0, 64, 0), HB_OK);
    assert_int_equal(hb_emulator_free(device, out), HB_OK);
}

/* --- memory --- */

static void test_memory(void **state)
{
    (void)state;
    int32_t host[4] = {1, 2, 3, 4}, *a = memory(4);
    void *none;
    hb_emulator_limit(device, 64);
    assert_message(hb_emulator_alloc(device, HB_MEMORY_OPTIMIZER, 100, &none), HB_EMEMORY,
                   "out of device memory: 100 bytes wanted for optimizer, 16 of 64 are in use");
    hb_emulator_limit(device, 0);
    assert_message(hb_emulator_copy_in(device, host, host, 4), HB_EARGUMENT,
                   "host memory where device memory belongs");
    assert_message(hb_emulator_copy_in(device, a, host, 20), HB_EARGUMENT,
                   "20 bytes that do not lie in one block");
    assert_message(hb_emulator_copy_in(device, a, a, 4), HB_EARGUMENT, "the host's side is device memory");
    assert_int_equal(hb_emulator_copy_in(device, a, host, sizeof host), HB_OK);
    host[0] = 9;
    read_back(host, a, 4);
    assert_int_equal(host[0], 1);
    assert_int_equal(hb_emulator_free(device, a), HB_OK);
    assert_message(hb_emulator_free(device, a), HB_EARGUMENT, "freed twice");
}

/* The host's own hand on device memory is a fault on the spot. */
static void test_fence(void **state)
{
    (void)state;
    int32_t *a = memory(4);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* not cmocka's, not a sanitizer's */
        _exit(*(volatile int32_t *)a == 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    assert_int_equal(hb_emulator_free(device, a), HB_OK);
}

/* --- the checker, told by hand what a kernel does --- */

#define HERE __builtin_return_address(0)
#define READS(at) hb_emulated_access((at), 4, false, HERE)
#define WRITES(at) hb_emulated_access((at), 4, true, HERE)

static char *shared_bytes(void)
{
    static const char place = 0;
    return hb_emulated_shared(&place, "tile", 256, "a.cu", 1);
}

static void ordered(void *data)
{
    const struct call *call = data;
    char *tile = shared_bytes();
    WRITES(tile + 4 * THREAD);
    hb_emulated_barrier("a.cu", 2);
    READS(tile + 4 * (63 - THREAD));
    hb_emulated_barrier("a.cu", 3);
    WRITES(tile + 4 * THREAD);
    hb_emulated_warp_barrier((unsigned)WHOLE, "a.cu", 4);
    READS(tile + 4 * (THREAD / 32 * 32 + 31 - hb_emulated_lane()));
    WRITES(call->out + THREAD);
}

static void races(void *data)
{
    (void)data;
    char *tile = shared_bytes();
    WRITES(tile + 4 * THREAD);
    hb_emulated_shuffle((unsigned)WHOLE, 0, 0, "a.cu", 5); /* orders nothing */
    READS(tile + 4 * (63 - THREAD));
}

static void warp_is_not_block(void *data)
{
    (void)data;
    char *tile = shared_bytes();
    WRITES(tile + 4 * THREAD);
    hb_emulated_warp_barrier((unsigned)WHOLE, "a.cu", 6);
    READS(tile + 4 * (63 - THREAD));
}

static void unwritten(void *data)
{
    (void)data;
    READS(shared_bytes() + 4 * THREAD);
}

static void beyond(void *data)
{
    (void)data;
    WRITES(shared_bytes() + 4 * (THREAD + 1));
}

static void other_blocks(void *data)
{
    const struct call *call = data;
    if (THREAD == 0)
        WRITES(call->out);
}

static void atomics(void *data)
{
    const struct call *call = data;
    hb_emulated_atomic(1);
    READS(call->in);
    WRITES(call->in);
    hb_emulated_atomic(0);
}

static void unwritten_device(void *data)
{
    const struct call *call = data;
    READS(call->out + 1);
}

static void host_memory(void *data)
{
    int32_t *host = ((struct call *)data)->out + ((int64_t)1 << 45);
    READS(host);
}

static void test_checker(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*kernel)(void *);
        const char *message; /* NULL: nothing to say */
    } cases[] = {
        {"ordered", ordered, NULL},
        {"races", races, "thread (0,0,0): race: reads tile (byte 252 of 256)"},
        {"warp_is_not_block", warp_is_not_block, "race: reads tile"},
        {"unwritten", unwritten, "which nobody wrote"},
        {"beyond", beyond, "out of range: writes 4 bytes"},
        {"other_blocks", other_blocks, "of another block writes it"},
        {"atomics", atomics, NULL},
        {"unwritten_device", unwritten_device, "reads device memory (byte 4 of a block of 256)"},
        {"host_memory", host_memory, "which is the host's"},
    };
    assert_int_equal(hb_emulator_check(device), HB_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t zero[64] = {0}, *out = memory(64), *in = memory(64);
        assert_int_equal(hb_emulator_copy_in(device, in, zero, sizeof zero), HB_OK);
        struct call call = {.out = out, .in = in};
        bool one = cases[i].kernel == ordered;
        hb_status status = run(cases[i].name, cases[i].kernel, &call, one ? 1 : 3, 64, 0);
        if (cases[i].message)
            assert_message(status, HB_EINTERNAL, cases[i].message);
        else
            assert_int_equal(status, HB_OK);
        assert_int_equal(hb_emulator_free(device, out), HB_OK);
        assert_int_equal(hb_emulator_free(device, in), HB_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_works),  cmocka_unit_test(test_faults), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_fence),  cmocka_unit_test(test_checker),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
