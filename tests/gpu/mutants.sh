#!/bin/sh
# A few of the mistakes of tools/mutate-kernels, which make check-long makes all of: each is noticed.
set -eu
command -v python3 >/dev/null || { echo "there is no python3"; exit 77; }
[ -f "$HB_BUILDDIR/src/gpu/.libs/checked.so" ] || { echo "this build has no checked kernels"; exit 77; }
for mistake in "no barrier between the numbers of a norm" "no barrier before the choice" "mul and add in the gradient" \
    "no guard on rows past the end"; do
    "$HB_SRCDIR/tools/mutate-kernels" --build "$HB_BUILDDIR" --only "$mistake"
done
