#!/bin/sh
# A published shape, f16, random weights: wgpt beside llama.cpp's Vulkan backend on the
# same adapter, in turn. It measures decode at depth 0, with DEPTH=1000 at that depth, and with
# PROMPT=128 a prefill of that many tokens. UBATCH=8 lets llama.cpp fill the depth eight rows at a
# time with its decode kernels: its prefill kernels take minutes per batch on CPU adapters.
#
# Usage: [PROMPT=N] [DEPTH=N] [UBATCH=512] [TIMES=5] [REPEAT=3] \
#            llama_cpp.sh LLAMA_BENCH MODEL.gguf WGPT OUT_DIR [SHAPE]
#   LLAMA_BENCH   built as README.md beside this script says
#   MODEL.gguf    written by random_gguf.py
#   WGPT          a release build of wgpt
#   OUT_DIR       gets llama-N.json and wgpt-N.json
#   SHAPE         gpt2 (the default) or smollm2-135m, as MODEL.gguf
set -eu
case $# in 4 | 5) ;; *) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
bench=$1 model=$2 wgpt=$3 out=$4 shape=${5:-gpt2}
prompt=${PROMPT:-0} depth=${DEPTH:-0} times=${TIMES:-5}
n=32
[ "$prompt" = 0 ] || n=0
mkdir -p "$out"
i=1
while [ "$i" -le "$times" ]; do
    # Without the variable llama.cpp leaves CPU adapters out.
    GGML_VK_VISIBLE_DEVICES=0 "$bench" -m "$model" -p "$prompt" -n "$n" -d "$depth" -r "${REPEAT:-3}" -ngl 99 \
        -ub "${UBATCH:-512}" -o json >"$out/llama-$i.json"
    "$wgpt" bench model --random "$shape" --n-prompt "$prompt" --n-gen "$n" --n-depth "$depth" -r 3 --json \
        >"$out/wgpt-$i.json"
    i=$((i + 1))
done
grep -h avg_ts "$out"/llama-*.json "$out"/wgpt-*.json
