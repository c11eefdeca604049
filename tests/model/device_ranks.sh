#!/bin/sh
# Where the host waits in a step of two ranks: tests/model/device.c. Skipped without MPI.
set -eu
[ -n "${HB_MPIEXEC:-}" ] || exit 77
"$HB_MPIEXEC" -n 2 "$HB_BUILDDIR/tests/model/device.test" </dev/null
