#!/bin/sh
# The tests of ranks, by 2, 3 and 5 of them. Skipped without MPI.
set -eu
[ -n "${HB_MPIEXEC:-}" ] || exit 77
for n in 2 3 5; do
    for test in comm alarm; do
        echo "$test: $n ranks"
        "$HB_MPIEXEC" -n $n "$HB_BUILDDIR/tests/comm/$test.test" >"ranks-$n.log" 2>&1 || { cat "ranks-$n.log"; exit 1; }
        rm -f "ranks-$n.log"
    done
done
