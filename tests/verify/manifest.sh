#!/bin/sh
# The golden cases are those of the manifest, to the byte, and no others.
set -eu
cd "${HB_SRCDIR:-.}/golden"
sha256sum -c --quiet MANIFEST.sha256
listed=$(wc -l < MANIFEST.sha256)
(cd scaler && sha256sum -c --quiet MANIFEST.sha256)
[ "$(wc -l < scaler/MANIFEST.sha256)" -eq "$(ls scaler/*.txt | wc -l)" ] || { echo "golden/scaler has a file that its manifest does not list" >&2; exit 1; }
there=$(ls ops | wc -l)
[ "$listed" -eq "$there" ] || { echo "golden/ops has $there files, the manifest lists $listed" >&2; exit 1; }
bytes=$(cat ops/* onnx/* | wc -c)
[ "$bytes" -lt 10000000 ] || { echo "golden has $bytes bytes, must stay below 10 MB" >&2; exit 1; }
