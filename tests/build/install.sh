#!/bin/sh
# Installs into a temporary folder and uses the installed copy as a stranger
# would: pkg-config, the public headers, the library, the program.
set -eu
root=$(mktemp -d "${TMPDIR:-/tmp}/hornbook-install.XXXXXX")
trap 'rm -rf "$root"' EXIT

make -s -C "$HB_BUILDDIR" install DESTDIR="$root" >"$root/log" 2>&1 || { cat "$root/log"; exit 1; }
there() { # NAME: where it was installed
    find "$root" -name "$1" | head -n 1 | grep . || { echo "$1 was not installed" >&2; exit 1; }
}
program=$(find "$root" -name hornbook -type f | head -n 1)
library=$(dirname "$(there 'libhornbook.so*')")
pc=$(there hornbook.pc)
headers=$(dirname "$(there hornbook.h)")
there hornbook.1 >"$root/log"
# The library is not where the program was told to look for it.
LD_LIBRARY_PATH=$library "$program" --version

cat >"$root/stranger.c" <<'END'
#include <hornbook/hornbook.h>
#include <stdio.h>
#include <string.h>

/* ref and cpu live in host memory, so their tensors may be arrays of ours. */
static int run(const char *name, float out[8])
{
    static float x[8] = {1, -2, 3, -4, 5, -6, 7, -8}, weight[4] = {1, 0.5f, 2, 1}, rstd[2];
    const struct hb_backend *backend;
    struct hb_context context;
    if (hb_backend_find(name, &backend) != HB_OK || hb_context_open(backend, HB_CANONICAL, 1, &context) != HB_OK)
        return 1;
    struct hb_rmsnorm_forward_args args = {
        .x = hb_tensor_2d(&context, x, HB_F32, 2, 4),
        .weight = hb_tensor_1d(&context, weight, HB_F32, 4),
        .y = hb_tensor_2d(&context, out, HB_F32, 2, 4),
        .rstd = hb_tensor_1d(&context, rstd, HB_F32, 2),
        .eps = 1e-6f,
    };
    hb_status status = hb_rmsnorm_forward(&context, &args);
    hb_context_close(&context);
    return status != HB_OK;
}

int main(void)
{
    float ref[8], cpu[8];
    if (run("ref", ref) || run("cpu", cpu)) {
        printf("%s\n", hb_error());
        return 1;
    }
    printf("%d ops, y[0] = %a\n", hb_op_count, (double)ref[0]);
    return memcmp(ref, cpu, sizeof ref) != 0;
}
END
PKG_CONFIG_PATH=$(dirname "$pc")${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
# The test's flags and compiler are those of the build (a sanitizer needs its own library).
${HB_CC:-cc} -std=c11 -Wall -Wextra -Werror $(pkg-config --cflags hornbook) ${HB_TEST_CFLAGS:-} \
    -o "$root/stranger" "$root/stranger.c" $(pkg-config --libs hornbook) -Wl,-rpath,"$library"
"$root/stranger"

# Every public header stands by itself.
(cd "$headers" && find . -name '*.h' | sed 's,^\./,,') | while read -r header; do
    printf '#include "%s"\n' "$header" >"$root/alone.c"
    ${HB_CC:-cc} -std=c11 -Wall -Wextra -Werror $(pkg-config --cflags hornbook) -fsyntax-only "$root/alone.c" ||
        { echo "$header does not stand by itself"; exit 1; }
done
