/* Runs a launch: blocks in turn, their threads as fibers. */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/checker.h"
#include "emulator/device.h"
#include "emulator/fiber.h"
#include "emulator/shared.h"

struct hb_index3 hb_emulated_thread, hb_emulated_block, hb_emulated_block_size, hb_emulated_grid_size;

enum { LANES = 32, WARPS = HB_EMULATED_BLOCK / LANES };

/* FRESH and READY may run. */
enum thread_state { FRESH, READY, AT_BARRIER, AT_WARP, DONE };

struct thread {
    struct hb_fiber *fiber;
    enum thread_state state;
    struct hb_index3 index;
    const char *file; /* where it waits */
    int line;
    uint64_t value; /* what it gives its warp */
};

struct warp {
    int arrived;
    int first;              /* thread that came first */
    uint64_t given[LANES]; /* of the last operation: a lane that runs ahead gives anew */
};

/* The one launch that runs. */
static struct {
    pthread_mutex_t mutex;
    const struct hb_emulated_launch *launch;
    struct hb_fiber host, fibers[HB_EMULATED_BLOCK];
    int fiber_count;
    struct thread threads[HB_EMULATED_BLOCK];
    struct warp warps[WARPS];
    int order[HB_EMULATED_BLOCK]; /* in which threads take turns */
    int count;                    /* threads of a block */
    int current;                  /* thread whose turn it is */
    int position;                 /* its place in `order` */
    int arrived, first, done;     /* at the block's barrier */
    bool ahead, inside;           /* inside: a kernel runs, not its launch */
    struct hb_checker *checker;   /* NULL: nobody looks */
    bool reported;                /* the kernel says what it reads and writes */
    hb_status status;
} machine = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* --- the end of a launch that went wrong --- */

char *hb_emulated_thread_text(int number, char text[96])
{
    const struct hb_index3 *t = &machine.threads[number].index;
    snprintf(text, 96, "thread (%u,%u,%u)", t->x, t->y, t->z);
    return text;
}

void hb_emulated_give_up(const char *format, ...)
{
    char what[512], thread[96];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    machine.inside = false;
    machine.status = HB_FAIL(HB_EINTERNAL, HB_EMULATED "%s, block (%u,%u,%u), %s: %s", machine.launch->name,
                             hb_emulated_block.x, hb_emulated_block.y, hb_emulated_block.z,
                             hb_emulated_thread_text(machine.current, thread), what);
    hb_fiber_switch(machine.threads[machine.current].fiber, &machine.host);
    __builtin_unreachable(); /* nobody comes back */
}

const char *hb_emulated_file(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* --- taking turns --- */

static int next_thread(void)
{
    if (machine.ahead)
        machine.position = machine.count - 1;
    for (int i = 0; i < machine.count; i++) {
        machine.position = machine.position + 1 == machine.count ? 0 : machine.position + 1;
        int t = machine.order[machine.position];
        if (machine.threads[t].state <= READY)
            return t;
    }
    return -1;
}

static void describe_deadlock(void)
{
    char a[96], b[96];
    int block = -1, warp = -1;
    for (int t = 0; t < machine.count; t++) {
        if (machine.threads[t].state == AT_BARRIER && block < 0)
            block = t;
        if (machine.threads[t].state == AT_WARP && warp < 0)
            warp = t;
    }
    const struct thread *w = &machine.threads[warp < 0 ? block : warp];
    if (block >= 0 && warp >= 0) {
        const struct thread *v = &machine.threads[block];
        hb_emulated_give_up("deadlock: %s waits for its block at %s:%d and %s for its warp at %s:%d",
                            hb_emulated_thread_text(block, a), hb_emulated_file(v->file), v->line,
                            hb_emulated_thread_text(warp, b), hb_emulated_file(w->file), w->line);
    }
    hb_emulated_give_up("%d of %d threads have left the kernel, but %s waits for its %s at %s:%d",
                        machine.done, machine.count, hb_emulated_thread_text(warp < 0 ? block : warp, a),
                        warp < 0 ? "block" : "warp", hb_emulated_file(w->file), w->line);
}

static void begin_thread(void);

/* The thread whose turn it is has stopped; returns when it may go on. */
static void take_turns(void)
{
    int from = machine.current, to = next_thread();
    if (to < 0)
        describe_deadlock();
    struct thread *a = &machine.threads[from], *b = &machine.threads[to];
    if (from == to) {
        a->state = READY;
        return;
    }
    machine.current = to;
    hb_emulated_thread = b->index;
    if (b->state == FRESH)
        hb_fiber_prepare(b->fiber, begin_thread);
    b->state = READY;
    hb_fiber_switch(a->fiber, b->fiber);
}

/* A thread's life. The next one that has not begun takes over its fiber, so that a kernel without
 * barriers needs a single stack. */
static void begin_thread(void)
{
    for (;;) {
        machine.inside = true;
        machine.launch->run(machine.launch->call);
        machine.inside = false;
        struct thread *self = &machine.threads[machine.current];
        self->state = DONE;
        if (++machine.done == machine.count)
            hb_fiber_switch(self->fiber, &machine.host);
        int to = next_thread();
        if (to < 0)
            describe_deadlock();
        struct thread *next = &machine.threads[to];
        machine.current = to;
        hb_emulated_thread = next->index;
        if (next->state != FRESH) {
            machine.inside = true;
            hb_fiber_switch(self->fiber, next->fiber);
        }
        struct hb_fiber *mine = self->fiber;
        self->fiber = next->fiber;
        next->fiber = mine;
        next->state = READY;
    }
}

/* --- barriers and warp operations --- */

static void stop_at(enum thread_state state, const char *file, int line, int first)
{
    struct thread *self = &machine.threads[machine.current];
    const struct thread *other = &machine.threads[first];
    char a[96];
    self->file = file;
    self->line = line;
    bool same = other->line == line && (other->file == file || strcmp(other->file, file) == 0);
    if (first != machine.current && !same)
        hb_emulated_give_up("meets its %s at %s:%d, but %s at %s:%d", state == AT_WARP ? "warp" : "block",
                            hb_emulated_file(file), line, hb_emulated_thread_text(first, a),
                            hb_emulated_file(other->file), other->line);
    self->state = state;
}

void hb_emulated_barrier(const char *file, int line)
{
    machine.inside = false;
    if (machine.arrived++ == 0)
        machine.first = machine.current;
    stop_at(AT_BARRIER, file, line, machine.first);
    if (machine.arrived == machine.count) {
        machine.arrived = 0;
        for (int t = 0; t < machine.count; t++)
            machine.threads[t].state = READY;
        if (machine.checker)
            hb_checker_barrier(machine.checker);
    }
    take_turns();
    machine.inside = true;
}

/* `orders`: it is a barrier for memory too; shuffles and votes are not. */
static struct warp *meet(unsigned mask, uint64_t value, bool orders, const char *file, int line)
{
    machine.inside = false;
    int number = machine.current / LANES;
    struct warp *warp = &machine.warps[number];
    if (mask != 0xffffffffu)
        hb_emulated_give_up("warp operation with mask %08x at %s:%d: only whole warps are in the dialect",
                            mask, hb_emulated_file(file), line);
    if (warp->arrived++ == 0)
        warp->first = machine.current;
    machine.threads[machine.current].value = value;
    stop_at(AT_WARP, file, line, warp->first);
    if (warp->arrived == LANES) {
        warp->arrived = 0;
        for (int l = 0; l < LANES; l++) {
            machine.threads[number * LANES + l].state = READY;
            warp->given[l] = machine.threads[number * LANES + l].value;
        }
        if (orders && machine.checker)
            hb_checker_warp_barrier(machine.checker, number);
    }
    take_turns();
    machine.inside = true;
    return warp;
}

int hb_emulated_lane(void)
{
    return machine.current % LANES;
}

void hb_emulated_warp_barrier(unsigned mask, const char *file, int line)
{
    meet(mask, 0, true, file, line);
}

uint64_t hb_emulated_shuffle(unsigned mask, uint64_t value, int from, const char *file, int line)
{
    return meet(mask, value, false, file, line)->given[from % LANES];
}

unsigned hb_emulated_ballot(unsigned mask, int vote, const char *file, int line)
{
    const struct warp *warp = meet(mask, vote != 0, false, file, line);
    unsigned votes = 0;
    for (int l = 0; l < LANES; l++)
        votes |= (unsigned)warp->given[l] << l;
    return votes;
}

/* --- faults --- */

enum { SIGNALS = 3 };
static const int signals[SIGNALS] = {SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction before[SIGNALS];
static char signal_stack[64 << 10];

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!machine.inside) { /* not a kernel's: whose it is may have it */
        for (int i = 0; i < SIGNALS; i++)
            sigaction(signals[i], &before[i], NULL);
        return;
    }
    const char *at = info->si_addr;
    const struct hb_fiber *fiber = machine.threads[machine.current].fiber;
    if (number == SIGFPE)
        hb_emulated_give_up("integer division by zero");
    if (at < fiber->stack && at >= fiber->stack - 4096)
        hb_emulated_give_up("its stack of %zu bytes is full: large local arrays, or endless recursion",
                            fiber->stack_bytes);
    hb_emulated_give_up("touches address %p, where %s", (const void *)at,
                        hb_device_holds(machine.launch->emulator, at) ? "no device memory is allocated"
                                                                      : "there is no memory");
}

static void catch_faults(stack_t *old)
{
    stack_t mine = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&mine, old);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &action, &before[i]);
}

static void let_faults(const stack_t *old)
{
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &before[i], NULL);
    sigaltstack(old, NULL);
}

/* --- launches --- */

static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void order_threads(uint64_t schedule)
{
    for (int t = 0; t < machine.count; t++)
        machine.order[t] = t;
    if (schedule < 2)
        return;
    for (int t = machine.count - 1; t > 0; t--) {
        int other = (int)(mix(&schedule) % (uint64_t)(t + 1)), kept = machine.order[t];
        machine.order[t] = machine.order[other];
        machine.order[other] = kept;
    }
}

static hb_status run_block(void)
{
    for (int t = 0; t < machine.count; t++)
        machine.threads[t].state = FRESH;
    for (int w = 0; w < machine.count / LANES; w++)
        machine.warps[w].arrived = 0;
    machine.arrived = machine.done = 0;
    machine.position = machine.count - 1;
    hb_shared_begin(machine.launch->shared);
    if (machine.checker)
        hb_checker_block(machine.checker);
    struct thread *first = &machine.threads[machine.current = next_thread()];
    hb_emulated_thread = first->index;
    hb_fiber_prepare(first->fiber, begin_thread);
    first->state = READY;
    hb_fiber_switch(&machine.host, first->fiber);
    return machine.status;
}

static hb_status run_blocks(uint64_t schedule)
{
    const struct hb_index3 *g = &machine.launch->grid;
    uint64_t blocks = (uint64_t)g->x * g->y * g->z;
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = schedule >= 2 && schedule % 2 ? blocks - 1 - i : i;
        hb_emulated_block = (struct hb_index3){(unsigned)(b % g->x), (unsigned)(b / g->x % g->y),
                                               (unsigned)(b / g->x / g->y)};
        HB_TRY(run_block());
    }
    return HB_OK;
}

static hb_status prepare(const struct hb_emulated_launch *launch)
{
    const struct hb_index3 *b = &launch->block;
    machine.launch = launch;
    machine.count = (int)(b->x * b->y * b->z);
    machine.status = HB_OK;
    hb_emulated_block_size = launch->block;
    hb_emulated_grid_size = launch->grid;
    for (; machine.fiber_count < machine.count; machine.fiber_count++)
        HB_TRY(hb_fiber_init(&machine.fibers[machine.fiber_count]));
    for (int t = 0; t < machine.count; t++)
        machine.threads[t] = (struct thread){
            .fiber = &machine.fibers[t],
            .index = {(unsigned)t % b->x, (unsigned)t / b->x % b->y, (unsigned)t / b->x / b->y}};
    return HB_OK;
}

static hb_status check(const struct hb_emulated_launch *launch)
{
    const struct hb_index3 *g = &launch->grid, *b = &launch->block;
    uint64_t threads = (uint64_t)b->x * b->y * b->z;
    if (threads == 0 || threads > HB_EMULATED_BLOCK || threads % LANES != 0 || b->z > 64)
        return HB_FAIL(HB_EARGUMENT,
                       HB_EMULATED "%s: a block of (%u,%u,%u) threads; it has 32 to 1024, whole warps",
                       launch->name, b->x, b->y, b->z);
    if (g->x > 0x7fffffffu || g->y > 65535 || g->z > 65535)
        return HB_FAIL(HB_EARGUMENT,
                       HB_EMULATED "%s: a grid of (%u,%u,%u) blocks; at most (2147483647,65535,65535)",
                       launch->name, g->x, g->y, g->z);
    if (launch->shared > HB_EMULATED_SHARED_BYTES)
        return HB_FAIL(HB_EARGUMENT, HB_EMULATED "%s: %zu dynamic bytes of shared memory; there are %d",
                       launch->name, launch->shared, HB_EMULATED_SHARED_BYTES);
    for (int i = 0; i < launch->pointers; i++)
        if (!hb_device_holds(launch->emulator, launch->pointer[i]))
            return HB_FAIL(HB_EARGUMENT,
                           HB_EMULATED "%s: its pointer number %d is host memory; copy it in first",
                           launch->name, i + 1);
    return HB_OK;
}

hb_status hb_emulated_run(const struct hb_emulated_launch *launch)
{
    if (launch->grid.x == 0 || launch->grid.y == 0 || launch->grid.z == 0)
        return HB_OK;
    HB_TRY(check(launch));
    pthread_mutex_lock(&machine.mutex);
    hb_status status = prepare(launch);
    if (status == HB_OK)
        status = hb_device_open(launch->emulator);
    if (status == HB_OK) {
        uint64_t schedule = hb_device_schedule(launch->emulator);
        machine.ahead = schedule % 2 == 1;
        order_threads(schedule);
        machine.checker = hb_device_checker(launch->emulator);
        machine.reported = false;
        if (machine.checker)
            hb_checker_launch(machine.checker);
        stack_t old;
        catch_faults(&old);
        status = run_blocks(schedule);
        let_faults(&old);
        if (machine.checker && !machine.reported)
            hb_device_written(launch);
        machine.checker = NULL;
        if (status == HB_OK)
            status = hb_device_guarded(launch);
        hb_status closed = hb_device_close(launch->emulator);
        status = status == HB_OK ? closed : status;
    }
    machine.launch = NULL;
    pthread_mutex_unlock(&machine.mutex);
    return status;
}

/* --- what the checker sees --- */

void hb_emulated_atomic(int begin)
{
    if (machine.checker)
        hb_checker_atomic(machine.checker, begin);
}

/* Is it the kernel's own: its local variables, its arguments, its index, or a constant table? */
static bool is_private(const void *address, bool writes)
{
    const struct hb_fiber *fiber = machine.threads[machine.current].fiber;
    if ((uintptr_t)address - (uintptr_t)fiber->stack < fiber->stack_bytes)
        return true;
    if (writes)
        return false;
    const struct hb_emulated_launch *launch = machine.launch;
    if ((uintptr_t)address - (uintptr_t)launch->call < launch->call_bytes)
        return true;
    Dl_info info;
    return dladdr(address, &info) != 0;
}

void hb_emulated_access(const void *address, size_t bytes, bool writes, const void *from)
{
    if (!machine.inside || !machine.checker)
        return;
    machine.inside = false; /* what follows is not the kernel's */
    machine.reported = true;
    if (hb_shared_holds(address) || hb_device_holds(machine.launch->emulator, address))
        hb_checker_access(machine.checker, address, bytes, writes, from, machine.current);
    else if (!is_private(address, writes))
        hb_checker_foreign(address, bytes, writes, from);
    machine.inside = true;
}
