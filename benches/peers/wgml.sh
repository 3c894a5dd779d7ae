#!/bin/sh
# Measures decode of a published shape with random weights: wgpt and wgml 0.2.0 in turn on
# the same adapter. wgml stores the file's f16 weights as f32; wgpt runs with both types.
#
# Usage: [TIMES=5] wgml.sh BUILD_DIR MODEL.gguf WGPT OUT_DIR [SHAPE]
#   BUILD_DIR     wgml is fetched, patched and built there, and kept for the next run
#   MODEL.gguf    written by random_gguf.py
#   WGPT          a release build of wgpt
#   OUT_DIR       gets wgml-N.json, wgpt-f16-N.json and wgpt-f32-N.json; with - the script
#                 only builds
#   SHAPE         gpt2 (the default) or smollm2-135m; the shape of MODEL.gguf
#
# wgml binds GPT-2's token embedding and head as one f32 buffer each, of 147 MiB, but
# lavapipe binds at most 128 MiB. The patch splits each into two buffers of half the
# vocabulary and changes nothing else. wgml's Llama is not patched: SmolLM2-135M's
# embedding has 108 MiB.
set -eu
case $# in 4 | 5) ;; *) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
build=$1 model=$2 wgpt=$3 out=$4 shape=${5:-gpt2}
times=${TIMES:-5}
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
i=1
while [ "$i" -le "$times" ]; do
    "$build/wgml/target/release/peer-wgml" "$model" 12 >"$build/wgml.out"
    # wgml prints the file's header before the report.
    sed -n '/^{/,$p' "$build/wgml.out" >"$out/wgml-$i.json"
    for dtype in f16 f32; do
        "$wgpt" bench model --random "$shape" --dtype $dtype --n-prompt 0 --n-gen 12 --n-depth 8 -r 1 --json \
            >"$out/wgpt-$dtype-$i.json"
    done
    i=$((i + 1))
done
grep avg_ts "$out"/wgml-*.json "$out"/wgpt-*.json
