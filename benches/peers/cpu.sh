#!/bin/sh
# Measures SmolLM2-135M's shape with random weights: wgpt on the adapter and, in turn,
# engines that compute on the CPU: candle (f16), transformers (f32), llama.cpp (f16, its
# CPU backend). It measures prefill of 128 tokens and decode at depths 8 and 1000. The
# engines use the same hardware only if the adapter is a software adapter.
#
# Usage: [TIMES=3] cpu.sh BUILD_DIR LLAMA_BENCH MODEL.gguf WGPT OUT_DIR
#   BUILD_DIR     candle's driver is built there and kept for the next run
#   LLAMA_BENCH   built as described in README.md next to this script; - skips llama.cpp
#   MODEL.gguf    written by random_gguf.py for smollm2-135m; - if LLAMA_BENCH is -
#   WGPT          a release build of wgpt
#   OUT_DIR       gets candle-DEPTH-N.json, transformers-DEPTH-N.json, and for the other two
#                 ENGINE-PROMPT-GENERATED-DEPTH-N.json; with - the script only builds
# PYTHON (python3) imports torch and transformers; if it cannot, transformers is skipped.
set -eu
[ $# -eq 5 ] || { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 llama=$2 model=$3 wgpt=$4 out=$5
python=${PYTHON:-python3} times=${TIMES:-3}
threads=$(nproc)
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$build"
cp -R "$here"/*.rs "$here/candle" "$build/"
(cd "$build/candle" && cargo build --release)
[ "$out" != - ] || exit 0
mkdir -p "$out"
has_transformers=1
"$python" -c 'import torch, transformers' || { has_transformers=; echo "cpu.sh: transformers is left out" >&2; }
# both PROMPT GENERATED DEPTH: runs llama.cpp, then wgpt.
both() {
    name=$1-$2-$3-$i
    [ "$llama" = - ] ||
        "$llama" -m "$model" -dev none -ngl 0 -t "$threads" -p "$1" -n "$2" -d "$3" -r 1 -o json >"$out/llama-$name.json"
    "$wgpt" bench model --random smollm2-135m --n-prompt "$1" --n-gen "$2" --n-depth "$3" -r 1 --json \
        >"$out/wgpt-$name.json"
}
i=1
while [ "$i" -le "$times" ]; do
    # The two drivers prefill the depth in one piece, and time that too.
    for depth in 8 128 1000; do
        "$build/candle/target/release/peer-candle" "$depth" 12 >"$out/candle-$depth-$i.json"
        [ -z "$has_transformers" ] ||
            "$python" "$here/transformers_llama.py" "$depth" 12 >"$out/transformers-$depth-$i.json"
    done
    both 128 0 0
    both 0 12 8
    both 0 12 1000
    i=$((i + 1))
done
grep -H -e _ts "$out"/*.json
