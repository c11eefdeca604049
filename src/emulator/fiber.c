#include "emulator/fiber.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__
#define ADDRESS_SANITIZER 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER 1
#endif
#endif

#ifdef ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 256 << 10 }; /* its frames are larger */
#else
enum { STACK_BYTES = 64 << 10 };
#endif

static struct hb_fiber *left; /* who made the last switch */

static void arrived(struct hb_fiber *fiber)
{
#ifdef ADDRESS_SANITIZER
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &bottom, &size);
    if (left->stack_bytes == 0) { /* the caller's stack, whose place nobody else knows */
        left->stack = (char *)(uintptr_t)bottom;
        left->stack_bytes = size;
    }
    fiber->fake_stack = NULL;
#endif
    (void)fiber;
}

static struct hb_fiber *entered;

static void begin(void)
{
    struct hb_fiber *self = entered;
    arrived(self);
    self->entry();
}

/* Registers that a call must keep go onto the old stack and come from the new one. It ends in a
 * jump and not in `ret`: the processor's memory of return addresses would be wrong each time. */
#ifdef HB_FIBER_ASSEMBLY
void hb_fiber_switch_stacks(void **save, void *load) __asm__("hb_fiber_switch_stacks");
#ifdef __x86_64__
__asm__(".text\n"
        ".globl hb_fiber_switch_stacks\n"
        ".hidden hb_fiber_switch_stacks\n"
        ".type hb_fiber_switch_stacks, @function\n"
        "hb_fiber_switch_stacks:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    popq %rcx\n"
        "    jmpq *%rcx\n"
        ".size hb_fiber_switch_stacks, . - hb_fiber_switch_stacks\n");

static void *first_frame(char *top)
{
    /* Six registers, where to go, and the return address that a function expects: none. */
    uintptr_t frame[8] = {[6] = (uintptr_t)begin};
    return memcpy(top - sizeof frame, frame, sizeof frame);
}
#else
__asm__(".text\n"
        ".globl hb_fiber_switch_stacks\n"
        ".hidden hb_fiber_switch_stacks\n"
        ".type hb_fiber_switch_stacks, %function\n"
        "hb_fiber_switch_stacks:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    br x30\n"
        ".size hb_fiber_switch_stacks, . - hb_fiber_switch_stacks\n");

static void *first_frame(char *top)
{
    uintptr_t frame[20] = {[11] = (uintptr_t)begin}; /* x30 */
    return memcpy(top - sizeof frame, frame, sizeof frame);
}
#endif
#endif

hb_status hb_fiber_init(struct hb_fiber *fiber)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, STACK_BYTES + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0)
        return HB_FAIL(HB_EMEMORY, "no memory for the stack of an emulated thread: %s", strerror(errno));
    *fiber = (struct hb_fiber){.stack = memory + page, .stack_bytes = STACK_BYTES};
    return HB_OK;
}

void hb_fiber_release(struct hb_fiber *fiber)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (fiber->stack)
        munmap(fiber->stack - page, STACK_BYTES + page);
    *fiber = (struct hb_fiber){0};
}

void hb_fiber_prepare(struct hb_fiber *fiber, void (*entry)(void))
{
    fiber->entry = entry;
    fiber->fake_stack = NULL;
#ifdef ADDRESS_SANITIZER
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes); /* of frames that were given up */
#endif
#ifdef HB_FIBER_ASSEMBLY
    fiber->stack_pointer = first_frame(fiber->stack + fiber->stack_bytes);
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = fiber->stack_bytes;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, begin, 0);
#endif
}

void hb_fiber_switch(struct hb_fiber *from, struct hb_fiber *to)
{
    left = from;
    entered = to;
#ifdef ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef HB_FIBER_ASSEMBLY
    hb_fiber_switch_stacks(&from->stack_pointer, to->stack_pointer);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrived(from);
}
