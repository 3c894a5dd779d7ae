#!/bin/sh
# Decode of GPT-2 124M's shape, random weights: wgpt beside wgml 0.2.0 on the same
# adapter, five times in turn. wgml keeps the file's f16 weights as f32; wgpt runs
# with both types.
#
# Usage: wgml.sh BUILD_DIR MODEL.gguf WGPT OUT_DIR
#   BUILD_DIR     wgml is fetched, patched and built there; kept for the next time
#   MODEL.gguf    written by random_gguf.py
#   WGPT          a release build of wgpt
#   OUT_DIR       gets wgml-N.json, wgpt-f16-N.json and wgpt-f32-N.json; with - it only builds
#
# The patch: wgml binds the token embedding and the head as one buffer of f32 each,
# 147 MiB, where lavapipe binds 128 MiB at most. Each becomes two buffers of half the
# vocabulary; kernels and all else stay.
set -eu
[ $# = 4 ] || { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 model=$2 wgpt=$3 out=$4
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$build"
cp -R "$here/report.rs" "$here/wgml" "$build/"
cd_build() { (cd "$build/wgml" && "$@"); }
if ! [ -d "$build/wgml/wgml-0.2.0" ]; then
    manifest=$(cd_build cargo metadata --format-version 1 | grep -o '[^"]*/wgml-0\.2\.0/Cargo\.toml' | head -n 1)
    cp -R "$(dirname "$manifest")" "$build/wgml/unpatched"
    chmod -R u+w "$build/wgml/unpatched"
    patch -d "$build/wgml/unpatched" -p1 <"$here/wgml/wgml-0.2.0.patch"
    mv "$build/wgml/unpatched" "$build/wgml/wgml-0.2.0"
fi
cd_build cargo build --release --config 'patch.crates-io.wgml.path="wgml-0.2.0"'
[ "$out" != - ] || exit 0
mkdir -p "$out"
for i in 1 2 3 4 5; do
    "$build/wgml/target/release/peer-wgml" "$model" 12 >"$build/wgml.out"
    # wgml prints the file's header ahead of the report.
    sed -n '/^{/,$p' "$build/wgml.out" >"$out/wgml-$i.json"
    for dtype in f16 f32; do
        "$wgpt" bench model --random gpt2 --dtype $dtype -p 0 -n 12 -d 8 -r 1 -o json >"$out/wgpt-$dtype-$i.json"
    done
done
grep avg_ts "$out"/wgml-*.json "$out"/wgpt-*.json
