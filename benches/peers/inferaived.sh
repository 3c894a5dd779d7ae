#!/bin/sh
# Measures decode of a shape with random weights: wgpt (f16) and inferaived 0.1.0 (Llama,
# bf16) in turn on the same adapter. inferaived has no GPT-2. For gpt2, its Llama gets a
# shape with GPT-2 124M's width, depth, vocabulary and number of weights.
#
# Usage: [TIMES=5] inferaived.sh BUILD_DIR WGPT OUT_DIR [SHAPE]
#   BUILD_DIR     inferaived is fetched and built there, unpatched, and kept for the next run
#   WGPT          a release build of wgpt
#   OUT_DIR       gets inferaived-N.json and wgpt-N.json; with - the script only builds
#   SHAPE         gpt2 (the default) or smollm2-135m
set -eu
case $# in 3 | 4) ;; *) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
build=$1 wgpt=$2 out=$3 shape=${4:-gpt2}
times=${TIMES:-5}
case $shape in gpt2) peer_shape=gpt2-sized ;; *) peer_shape=$shape ;; esac
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$build"
cp -R "$here"/*.rs "$here/inferaived" "$build/"
(cd "$build/inferaived" && cargo build --release)
[ "$out" != - ] || exit 0
mkdir -p "$out"
i=1
while [ "$i" -le "$times" ]; do
    "$build/inferaived/target/release/peer-inferaived" "$peer_shape" 12 >"$out/inferaived-$i.json"
    "$wgpt" bench model --random "$shape" --n-prompt 0 --n-gen 12 --n-depth 8 -r 1 --json \
        >"$out/wgpt-$i.json"
    i=$((i + 1))
done
grep avg_ts "$out"/inferaived-*.json "$out"/wgpt-*.json
