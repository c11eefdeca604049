/* Fibers: threads that take turns by a switch of stacks, 4 ns each. */
#ifndef HB_EMULATOR_FIBER_H
#define HB_EMULATOR_FIBER_H

#include <stddef.h>

#include "core/status.h"

#if defined __ELF__ && (defined __x86_64__ || defined __aarch64__)
#define HB_FIBER_ASSEMBLY 1
#else
#include <ucontext.h>
#endif

struct hb_fiber {
#ifdef HB_FIBER_ASSEMBLY
    void *stack_pointer; /* while it does not run */
#else
    ucontext_t context; /* likewise; two system calls a switch */
#endif
    char *stack;         /* its lowest byte; below it a page that nobody may touch */
    size_t stack_bytes;  /* 0: the stack of the caller, not a fiber of ours */
    void (*entry)(void); /* where it begins */
    void *fake_stack;    /* AddressSanitizer's */
};

/* A fiber with a stack. HB_EMEMORY. */
HB_MUST_USE hb_status hb_fiber_init(struct hb_fiber *fiber);
void hb_fiber_release(struct hb_fiber *fiber);

/* The next switch to it calls `entry`, which never returns. What it did before is forgotten. */
void hb_fiber_prepare(struct hb_fiber *fiber, void (*entry)(void));

/* Leaves `from`, which runs, for `to`; returns when somebody switches back. */
void hb_fiber_switch(struct hb_fiber *from, struct hb_fiber *to);

#endif
