/* A place in machine code as file and line. */
#ifndef HB_EMULATOR_PLACE_H
#define HB_EMULATOR_PLACE_H

enum { HB_PLACE_TEXT = 160 };

/* "rmsnorm.cu:31" of the call that returns to `address`, by the program addr2line
 * (binutils); without it, or without debugging information, "plugin.so+0x1a2b".
 * Returns `text`. */
char *hb_place_text(const void *address, char text[HB_PLACE_TEXT]);

#endif
