/* The device's memory, as the rest of the emulator needs it. */
#ifndef HB_EMULATOR_DEVICE_H
#define HB_EMULATOR_DEVICE_H

#include "emulator/arena.h"
#include "emulator/emulator.h"

#define HB_EMULATED "cuda-emulated: "

/* Kernels and copies may touch the memory between the two. */
HB_MUST_USE hb_status hb_device_open(struct hb_emulator *emulator);
HB_MUST_USE hb_status hb_device_close(struct hb_emulator *emulator);

bool hb_device_holds(const struct hb_emulator *emulator, const void *memory);
struct hb_checker *hb_device_checker(struct hb_emulator *emulator); /* NULL: none */
uint64_t hb_device_schedule(struct hb_emulator *emulator);

/* The checker did not see what the launch wrote: all that it was given counts as written. */
void hb_device_written(const struct hb_emulated_launch *launch);

/* While it is open: did the launch leave the surroundings of its tensors alone? HB_EINTERNAL. */
HB_MUST_USE hb_status hb_device_guarded(const struct hb_emulated_launch *launch);

/* --- the launch that runs --- */

/* Ends the launch from one of its threads, whose place the message gets. Does not return. */
void hb_emulated_give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* "thread (3,0,0)" */
char *hb_emulated_thread_text(int thread, char text[96]);

/* The name without its folder. */
const char *hb_emulated_file(const char *path);

#endif
