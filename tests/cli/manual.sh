#!/bin/sh
# The manual page and every --help name the same commands and options.
set -eu
program=${HB_PROGRAM:-hornbook}
manual=${HB_SRCDIR:-.}/man/hornbook.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

options() { grep -oE -e '--[a-z][a-z-]*' | sort -u; }
# What the page says of a command: its synopsis, and the entry among the commands.
part() {
    sed 's/\\-/-/g; s/\\f[BIR]//g' "$manual" | awk -v name="$1" '
        /^\.SH/ { inside = 0 }
        /^\.B hornbook / { inside = $3 == name }
        entry && /^\.B / { inside = $2 == name }
        { entry = $0 == ".TP" }
        inside'
}

commands=$("$program" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p')
[ "$(echo $commands | wc -w)" -ge 12 ]
for command in $commands; do
    "$program" "$command" --help > "$work/help"
    [ "$command" != data ] || "$program" data build --help >> "$work/help"
    grep -e '^usage:' -e '^  *-' -e '^      *hornbook' "$work/help" | options | grep -v -e '^--help$' > "$work/said" || true
    part "$command" | options > "$work/written" || true
    comm -23 "$work/said" "$work/written" > "$work/missing"
    [ ! -s "$work/missing" ] || { echo "man/hornbook.1 lacks of $command:" $(cat "$work/missing"); failed=1; }
    options < "$work/help" | comm -13 - "$work/written" > "$work/stray"
    [ ! -s "$work/stray" ] || { echo "man/hornbook.1 has, but not hornbook $command --help:" $(cat "$work/stray"); failed=1; }
done
exit ${failed:-0}
