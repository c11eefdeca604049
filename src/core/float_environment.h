/* The floating-point environment of a thread: rounding to nearest even, and
 * denormal numbers kept as operands and as results. The bits rest on both
 * (docs/numerics.md), and a library built with -Ofast or -ffast-math may clear
 * them for the thread that loads it. */
#ifndef HB_CORE_FLOAT_ENVIRONMENT_H
#define HB_CORE_FLOAT_ENVIRONMENT_H

#include "core/status.h"

/* HB_EUNSUPPORTED when the calling thread computes otherwise; `who` opens the
 * message. Judges by results, so it needs no knowledge of the processor. */
HB_MUST_USE hb_status hb_float_environment_check(const char *who);

#endif
