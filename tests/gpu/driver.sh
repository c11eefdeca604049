#!/bin/sh
# A program built with CUDA, where the driver is missing, too old, broken or finds no device: it starts, says which, and
# refuses only what needs a device. The driver is one of this test: the run time asks its library for functions by name.
set -eu
"$HB_PROGRAM" ops | grep -q '^cuda .*not built' && { echo "built without CUDA"; exit 77; }
case "${HB_TEST_CFLAGS:-}" in *-fsanitize=*) echo "a sanitizer wants to be the first library"; exit 77 ;; esac
scratch=$(mktemp -d "${TMPDIR:-/tmp}/hornbook-driver.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

cat >"$scratch/driver.c" <<'END'
#include <stdlib.h>
#include <string.h>

int cuDriverGetVersion(int *version)
{
    *version = atoi(getenv("DRIVER_VERSION"));
    return 0;
}

int cuInit(unsigned flags)
{
    (void)flags;
    return atoi(getenv("DRIVER_INIT"));
}

static int no_device(void)
{
    return 100;
}

int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, void *found)
{
    (void)version;
    (void)flags;
    (void)found;
    if (strcmp(name, "cuDriverGetVersion") == 0)
        *function = (void *)cuDriverGetVersion;
    else if (strcmp(name, "cuInit") == 0)
        *function = (void *)cuInit;
    else if (strcmp(name, "cuGetProcAddress") == 0)
        *function = (void *)cuGetProcAddress_v2;
    else
        *function = (void *)no_device;
    return 0;
}
END
${HB_CC:-cc} -shared -fPIC "$scratch/driver.c" -o "$scratch/libcuda.so.1"

expect() { # VERSION CUINIT'S-ANSWER PATTERN
    export DRIVER_VERSION="$1" DRIVER_INIT="$2"
    library=$scratch
    [ "$1" != none ] || library=/nowhere
    LD_LIBRARY_PATH="$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$HB_PROGRAM" ops >"$scratch/ops"
    grep -q "^cuda .*$3" "$scratch/ops" || { echo "driver.sh: no '$3':" >&2; grep '^cuda' "$scratch/ops" >&2; exit 1; }
    if LD_LIBRARY_PATH="$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$HB_PROGRAM" verify --golden "$HB_SRCDIR/golden/ops" \
        --backend cuda --op add >"$scratch/out" 2>"$scratch/err"; then
        echo "driver.sh: verified on a device that is not there" >&2
        exit 1
    fi
    [ "$(wc -l <"$scratch/err")" = 1 ] && grep -q "$3" "$scratch/err" || { cat "$scratch/err" >&2; exit 1; }
}

expect 11020 0 'the driver is too old: it speaks CUDA 11.2, this program needs'
expect 99000 100 'no device (the driver is there and finds none)'
expect 99000 999 'no device ('
expect 0 0 'no device (driver not found)'
ldconfig -p 2>/dev/null | grep -q libcuda || expect none 0 'no device (driver not found)'
"$HB_PROGRAM" verify --golden "$HB_SRCDIR/golden/ops" --backend cpu --op add >/dev/null
