#!/bin/sh
# examples/check-your-kernel: its mistake is found, its repair has the bits of ref, a missing barrier is a race.
set -eu
example="$HB_SRCDIR/examples/check-your-kernel"
"$HB_PROGRAM" ops | grep -q '^cuda-emulated .*processor' || { echo "no C++ compiler in this build"; exit 77; }
case "${HB_TEST_CFLAGS:-}" in *-fsanitize=*) echo "the checker takes a sanitizer's place"; exit 77 ;; esac
scratch=$(mktemp -d "${TMPDIR:-/tmp}/hornbook-example.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

check() { # FILE WANTED-STATUS PATTERN
    status=0
    HB_KERNEL="$1" "$example/check" emulated "$HB_BUILDDIR" >"$scratch/out" 2>&1 || status=1
    if [ $status != "$2" ] || ! grep -q "$3" "$scratch/out"; then
        echo "example.sh: $1: status $status, or no line with '$3':" >&2
        cat "$scratch/out" >&2
        exit 1
    fi
}

! command -v cc >/dev/null || export HB_CC=cc # a name that is also a shell's word must not matter
check "$example/kernel.cu" 1 'first wrong element'
sed 's/i + 31 - lane < D/i < D/' "$example/kernel.cu" >"$scratch/right.cu"
check "$scratch/right.cu" 0 '15 covered, 0 failed'
awk '!/^        __syncwarp/' "$scratch/right.cu" >"$scratch/race.cu"
line=$(grep -n 'part\[lane\] = part\[lane\] + ' "$scratch/race.cu" | cut -d: -f1)
check "$scratch/race.cu" 1 "race: writes part .* at race.cu:$line; thread (0,0,0) reads it at race.cu:$line"
