#!/bin/sh
# The golden files are those of the manifests, to the byte, and no others.
set -eu
cd "${HB_SRCDIR:-.}/golden"

# check MANIFEST FOLDER FILE...: the manifest, read from FOLDER, lists exactly the files.
check() {
    manifest=$PWD/$1 folder=$2
    shift 2
    (cd "$folder" && sha256sum -c --quiet "$manifest")
    listed=$(wc -l < "$manifest")
    [ "$listed" -eq $# ] || { echo "there are $# files, $manifest lists $listed" >&2; exit 1; }
}
check MANIFEST.sha256 . ops/*
check models/MANIFEST.sha256 models models/*/*
check onnx/MANIFEST.sha256 onnx onnx/*.safetensors
check scaler/MANIFEST.sha256 scaler scaler/*.txt
check tokenizer/MANIFEST.sha256 tokenizer tokenizer/*.jsonl

bytes=$(cat ops/* models/*/* onnx/*.safetensors tokenizer/* | wc -c)
[ "$bytes" -lt 10000000 ] || { echo "golden has $bytes bytes, must stay below 10 MB" >&2; exit 1; }
