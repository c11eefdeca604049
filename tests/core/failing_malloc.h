/* A malloc that fails when a test wants it to. For one source of a program, which
 * includes this first: the functions here are its malloc.
 *
 * `countdown` n lets the n-th allocation from now on fail, and with `for_good` all
 * behind it as well; 0: none. `refusals` counts those that failed, `live` the blocks
 * that are not free. Where OWN_MALLOC is not 1 there is nothing of all this. */
#ifndef HB_TESTS_CORE_FAILING_MALLOC_H
#define HB_TESTS_CORE_FAILING_MALLOC_H

#define _GNU_SOURCE 1 /* dladdr */

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A sanitizer has a malloc of its own; clang's OpenMP ends the program when it gets no memory. */
#if defined __SANITIZE_ADDRESS__ || defined __clang__
#define OWN_MALLOC 0
#endif
#if !defined OWN_MALLOC && defined __GLIBC__
#define OWN_MALLOC 1
#endif

#if OWN_MALLOC
/* Ours come before the C library's; these names are its own entries. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);
void *__libc_memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size);

static int64_t countdown, refusals, live;
static bool for_good;

/* libgomp keeps teams for reuse and ends the process without memory: not ours to judge. */
static bool ours(const void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname && !strstr(info.dli_fname, "libgomp");
}

static bool refused(const void *caller)
{
    if (countdown == 0 || !ours(caller) || (countdown > 1 && --countdown))
        return false;
    countdown = for_good ? 1 : 0;
    refusals++;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    void *memory = refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
    live += memory != NULL;
    return memory;
}

void *calloc(size_t n, size_t size)
{
    void *memory = refused(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
    live += memory != NULL;
    return memory;
}

void *realloc(void *old, size_t size)
{
    void *memory = refused(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
    live += !old && memory;
    return memory;
}

void free(void *memory)
{
    live -= memory != NULL;
    __libc_free(memory);
}

void *memalign(size_t alignment, size_t size)
{
    void *memory = refused(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
    live += memory != NULL;
    return memory;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    void *memory = refused(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
    live += memory != NULL;
    return memory;
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    if (refused(__builtin_return_address(0)))
        return ENOMEM;
    *memory = __libc_memalign(alignment, size);
    live += *memory != NULL;
    return *memory ? 0 : ENOMEM;
}
#endif

#endif
