#!/bin/sh
# Measures a published shape in f16 with random weights: wgpt and llama.cpp's Vulkan backend in
# turn on the same adapter. It measures decode at depth 0. With DEPTH=1000 it measures decode at
# that depth, with PROMPT=128 a prefill of that many tokens. With UBATCH=8, llama.cpp fills the
# depth eight rows at a time with its decode kernels: its prefill kernels take minutes per batch
# on CPU adapters.
#
# Usage: [PROMPT=N] [DEPTH=N] [UBATCH=512] [TIMES=5] [REPEAT=3] \
#            llama_cpp.sh LLAMA_BENCH MODEL.gguf WGPT OUT_DIR [SHAPE]
#   LLAMA_BENCH   built as described in README.md next to this script
#   MODEL.gguf    written by random_gguf.py
#   WGPT          a release build of wgpt
#   OUT_DIR       gets llama-N.json and wgpt-N.json
#   SHAPE         gpt2 (the default) or smollm2-135m; the shape of MODEL.gguf
set -eu
case $# in 4 | 5) ;; *) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
bench=$1 model=$2 wgpt=$3 out=$4 shape=${5:-gpt2}
prompt=${PROMPT:-0} depth=${DEPTH:-0} times=${TIMES:-5}
n=32
[ "$prompt" = 0 ] || n=0
mkdir -p "$out"
i=1
while [ "$i" -le "$times" ]; do
    # Without the variable, llama.cpp ignores CPU adapters.
    GGML_VK_VISIBLE_DEVICES=0 "$bench" -m "$model" -p "$prompt" -n "$n" -d "$depth" -r "${REPEAT:-3}" -ngl 99 \
        -ub "${UBATCH:-512}" -o json >"$out/llama-$i.json"
    "$wgpt" bench model --random "$shape" --n-prompt "$prompt" --n-gen "$n" --n-depth "$depth" -r 3 --json \
        >"$out/wgpt-$i.json"
    i=$((i + 1))
done
grep -h avg_ts "$out"/llama-*.json "$out"/wgpt-*.json
