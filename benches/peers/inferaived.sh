#!/bin/sh
# Decode with 124M random weights: wgpt (GPT-2, f16) beside inferaived 0.1.0 (Llama,
# bf16) on the same adapter, five times in turn. inferaived has no GPT-2; its Llama
# gets a shape with GPT-2 124M's width, depth, vocabulary and number of weights.
#
# Usage: inferaived.sh BUILD_DIR WGPT OUT_DIR
#   BUILD_DIR     inferaived is fetched and built there, unpatched; kept for the next time
#   WGPT          a release build of wgpt
#   OUT_DIR       gets inferaived-N.json and wgpt-N.json; with - it only builds
set -eu
[ $# = 3 ] || { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 wgpt=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$build"
cp -R "$here/report.rs" "$here/inferaived" "$build/"
(cd "$build/inferaived" && cargo build --release)
[ "$out" != - ] || exit 0
mkdir -p "$out"
for i in 1 2 3 4 5; do
    "$build/inferaived/target/release/peer-inferaived" gpt2-sized 12 >"$out/inferaived-$i.json"
    "$wgpt" bench model --random gpt2 -p 0 -n 12 -d 8 -r 1 -o json >"$out/wgpt-$i.json"
done
grep avg_ts "$out"/inferaived-*.json "$out"/wgpt-*.json
