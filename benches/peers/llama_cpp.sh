#!/bin/sh
# Decode of GPT-2 124M's shape, f16, random weights: wgpt beside llama.cpp's Vulkan
# backend on the same adapter, five times in turn.
#
# Usage: llama_cpp.sh LLAMA_BENCH MODEL.gguf WGPT OUT_DIR
#   LLAMA_BENCH   built as README.md beside this script says
#   MODEL.gguf    written by random_gguf.py
#   WGPT          a release build of wgpt
#   OUT_DIR       gets llama-N.json and wgpt-N.json
set -eu
[ $# = 4 ] || { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bench=$1 model=$2 wgpt=$3 out=$4
mkdir -p "$out"
for i in 1 2 3 4 5; do
    # Without the variable llama.cpp leaves CPU adapters out.
    GGML_VK_VISIBLE_DEVICES=0 "$bench" -m "$model" -p 0 -n 32 -r 3 -ngl 99 -o json >"$out/llama-$i.json"
    "$wgpt" bench model --random gpt2 -p 0 -n 32 -r 3 -o json >"$out/wgpt-$i.json"
done
grep -h avg_ts "$out"/llama-*.json "$out"/wgpt-*.json
