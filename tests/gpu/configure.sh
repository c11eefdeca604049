#!/bin/sh
# What configure is asked for and cannot do is an error, not left out. The toolkit is a stand-in whose compiler fails.
# A run takes seconds: two cases, and all of them when HB_TEST_FULL is set.
set -eu
[ -x "$HB_SRCDIR/configure" ] || { echo "no configure in the source folder"; exit 77; }
scratch=$(mktemp -d "${TMPDIR:-/tmp}/hornbook-configure.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/toolkit/bin"
printf '#!/bin/sh\nexit 1\n' >"$scratch/toolkit/bin/nvcc"
chmod +x "$scratch/toolkit/bin/nvcc"
source=$(cd "$HB_SRCDIR" && pwd)
cd "$scratch"

refused() { # PATTERN OPTION...
    pattern=$1
    shift
    if "$source/configure" --quiet --config-cache "$@" >out 2>&1; then
        echo "configure.sh: went through: $*" >&2
        exit 1
    fi
    grep -q "^configure: error: .*$pattern" out || { echo "configure.sh: $*: no '$pattern'" >&2; tail -3 out >&2; exit 1; }
}

refused 'with-cuda-arch is empty' --with-cuda="$scratch/toolkit" --with-cuda-arch=
refused 'toolkit/bin/nvcc does not compile a kernel for 80,90,100' --with-cuda="$scratch/toolkit"
[ -n "${HB_TEST_FULL:-}" ] || exit 0
refused 'there is no nvcc in /nowhere/bin; --with-cuda=DIR names the toolkit' --with-cuda=/nowhere
refused '75 is none of 80, 86' --with-cuda="$scratch/toolkit" --with-cuda-arch=90,75
