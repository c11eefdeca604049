/* What gcc's and clang's -fsanitize=thread call at every access, without the run
 * time of either: the checker is told. Linked into modules of checked kernels
 * (never into the library), of which only the kernels are compiled so. */
#include "emulator/emulator.h"

#define ACCESS(bytes)                                                                            \
    void __tsan_read##bytes(void *address);                                                      \
    void __tsan_read##bytes(void *address)                                                       \
    {                                                                                            \
        hb_emulated_access(address, bytes, false, __builtin_return_address(0));                  \
    }                                                                                            \
    void __tsan_write##bytes(void *address);                                                     \
    void __tsan_write##bytes(void *address)                                                      \
    {                                                                                            \
        hb_emulated_access(address, bytes, true, __builtin_return_address(0));                   \
    }                                                                                            \
    void __tsan_read_write##bytes(void *address);                                                \
    void __tsan_read_write##bytes(void *address)                                                 \
    {                                                                                            \
        hb_emulated_access(address, bytes, false, __builtin_return_address(0));                  \
        hb_emulated_access(address, bytes, true, __builtin_return_address(0));                   \
    }                                                                                            \
    void __tsan_unaligned_read##bytes(void *address);                                            \
    void __tsan_unaligned_read##bytes(void *address)                                             \
    {                                                                                            \
        hb_emulated_access(address, bytes, false, __builtin_return_address(0));                  \
    }                                                                                            \
    void __tsan_unaligned_write##bytes(void *address);                                           \
    void __tsan_unaligned_write##bytes(void *address)                                            \
    {                                                                                            \
        hb_emulated_access(address, bytes, true, __builtin_return_address(0));                   \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void *address, size_t bytes);
void __tsan_read_range(void *address, size_t bytes)
{
    hb_emulated_access(address, bytes, false, __builtin_return_address(0));
}

void __tsan_write_range(void *address, size_t bytes);
void __tsan_write_range(void *address, size_t bytes)
{
    hb_emulated_access(address, bytes, true, __builtin_return_address(0));
}

void __tsan_init(void);
void __tsan_init(void)
{
}

void __tsan_func_entry(void *from);
void __tsan_func_entry(void *from)
{
    (void)from;
}

void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}
