#!/bin/sh
# Runs kernel tests, golden models and benchmarks on a machine that has a GPU but no
# toolchain. The binaries are built elsewhere.
#
# Usage:
#   tools/gpu_bench.sh pack PACKED_DIR
#       builds, and copies everything that a run needs into PACKED_DIR,
#       including this script
#   PACKED_DIR/gpu_bench.sh run PACKED_DIR OUT_DIR
#       writes OUT_DIR/gpu_bench.json, OUT_DIR/gpu_bench.md, OUT_DIR/gpu_bench.svg
#       (kernels on the roofline, tokens per second by depth), one log per step
#       and one Chrome trace per profile
#
# A run needs a POSIX shell, coreutils, awk and a Vulkan driver. It ends within
# 8 minutes: each step has a limit, and a step without time left is skipped and
# listed as skipped. The exit code is 1 if a step failed.
#
# Environment of a run:
#   WGPT_DEVICE         the adapter, as for wgpt
#   GPU_BENCH_SECONDS   time for all steps [450]
#   GPU_BENCH_ARGS      arguments of `wgpt bench model` [its defaults]
#   GPU_BENCH_KERNELS   arguments of `wgpt bench kernels` [--shapes-of gpt2,gpt2-xl]
#   GPU_BENCH_SHAPES    shapes of `wgpt --random` [gpt2 gpt2-medium gpt2-large gpt2-xl llama-3.2-1b llama-3.1-8b]
#   GPU_BENCH_PROFILES  shapes that are also profiled [gpt2 gpt2-xl llama-3.2-1b]
#   GPU_BENCH_TORCH     shapes to measure with PyTorch, if it is installed with CUDA [gpt2 gpt2-xl]
#   GPU_BENCH_TUNED     shapes to tune and measure again [gpt2 gpt2-xl llama-3.2-1b]
set -eu

usage() {
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# --- pack ------------------------------------------------------------------

# built NAME: the path of a test program, from cargo's JSON messages on stdin.
built() {
    sed -n 's/.*"name":"'"$1"'".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

pack() {
    packed=$1
    cd "$(dirname "$0")/.."
    mkdir -p "$packed/bin" "$packed/tests"
    packed=$(cd "$packed" && pwd)
    target=${CARGO_TARGET_DIR:-target}
    cargo build --release --locked --bin wgpt
    messages=$(cargo test --release --locked --no-run --test inner --test models --message-format=json)
    cp "$target/release/wgpt" "$packed/bin/"
    for name in inner models; do
        program=$(printf '%s\n' "$messages" | built "$name")
        [ -n "$program" ] || { echo "gpu_bench: cargo built no test program $name" >&2; exit 1; }
        cp "$program" "$packed/bin/$name"
    done
    # Debug information is nine tenths of the size.
    if command -v strip >/dev/null 2>&1; then strip "$packed"/bin/*; fi
    rm -rf "$packed/tests/golden"
    cp -r tests/golden "$packed/tests/golden"
    cp tools/gpu_bench.sh benches/peers/torch_gpt2.py "$packed/"
    { git describe --always --abbrev=40 --dirty 2>/dev/null || echo unknown; } >"$packed/commit"
    du -sh "$packed" >&2
}

# --- run -------------------------------------------------------------------

now() { date +%s; }
left() { echo $((deadline - $(now))); }

# record NAME STATUS SECONDS [RESULTS_FILE]: adds a step to both reports.
# RESULTS_FILE is JSON that the step wrote; it is embedded unchanged.
record() {
    {
        printf '%s    {"step": "%s", "status": "%s", "seconds": %s' "$separator" "$1" "$2" "$3"
        if [ -n "${4:-}" ]; then
            printf ', "results": '
            cat "$4"
        fi
        printf '}'
    } >>"$out/steps.tmp"
    separator=',
'
    printf '| %s | %s | %s |\n' "$1" "$2" "$3" >>"$out/steps_md.tmp"
    printf 'gpu_bench: %-18s %s, %s s\n' "$1" "$2" "$3" >&2
}

# step NAME LIMIT COMMAND...: runs the command within LIMIT and the time left.
# Standard output goes to NAME.out, messages to NAME.log. Sets $status.
step() {
    name=$1 limit=$2
    shift 2
    if [ "$(left)" -lt 10 ]; then
        status=skipped
        record "$name" "skipped: no time left" 0
        return
    fi
    cut=
    if [ "$limit" -gt "$(left)" ]; then limit=$(left) cut=1; fi
    started=$(now)
    code=0
    timeout -k 5 "$limit" "$@" >"$out/$name.out" 2>"$out/$name.log" </dev/null || code=$?
    results=
    case $code in
    0)
        status=ok
        # Test programs print text, wgpt prints JSON.
        case $name in bench_* | profile_* | tune_* | devices) results=$out/$name.out ;; esac
        ;;
    # The exit codes of `timeout` after it ended or killed the command.
    124 | 137)
        status="timeout after $limit s"
        if [ -n "$cut" ]; then status="ended after $limit s: no time left"; else failed=1; fi
        ;;
    *) status="failed, exit code $code" failed=1 ;;
    esac
    record "$name" "$status" "$(($(now) - started))" "$results"
}

# Prints rows of the benchmark table from the JSON of one `wgpt bench model`.
bench_rows() {
    # One field per line for any layout. Values of these fields contain no comma.
    tr ',{}' '[\n*]' <"$1" | awk '
        function value() { sub(/^[^:]*:[ \t]*/, ""); gsub(/"/, ""); return $0 }
        /^[ \t]*"model"[ \t]*:/ { model = value() }
        /^[ \t]*"model_n_params"[ \t]*:/ { params = value() }
        /^[ \t]*"dtype"[ \t]*:/ { dtype = value() }
        /^[ \t]*"test"[ \t]*:/ { test = value() }
        /^[ \t]*"avg_ts"[ \t]*:/ { rate = value() }
        /^[ \t]*"stddev_ts"[ \t]*:/ {
            printf "| %s | %.1f M | %s | %s | %.1f ± %.1f |\n", model, params / 1e6, dtype, test, rate, value()
        }'
}

# Prints rows of the profile table from the JSON of one `wgpt profile`.
profile_rows() {
    tr ',{}' '[\n*]' <"$1" | awk '
        function value() { sub(/^[^:]*:[ \t]*/, ""); gsub(/"/, ""); return $0 }
        /^[ \t]*"model"[ \t]*:/ { model = value() }
        /^[ \t]*"step"[ \t]*:/ { step = value() }
        /^[ \t]*"kernel"[ \t]*:/ { kernel = value() }
        /^[ \t]*"workgroups"[ \t]*:/ { workgroups = value() }
        /^[ \t]*"calls"[ \t]*:/ { calls = value() }
        /^[ \t]*"total_us"[ \t]*:/ { total = value() }
        /^[ \t]*"percent"[ \t]*:/ {
            printf "| %s | %s | %s | %s | %s | %.1f | %.1f |\n", model, step, kernel, workgroups, calls, total, value()
        }'
}

# Assembles the two reports from the files of the steps.
write_reports() {
    {
        printf '{\n  "date": "%s",\n  "commit": "%s",\n' "$date" "$commit"
        printf '  "bench_args": "%s",\n' "$(printf '%s' "${GPU_BENCH_ARGS:-}" | tr -d '\042\134')"
        printf '  "seconds": %s,\n  "steps": [\n' "$(($(now) - begun))"
        cat "$out/steps.tmp"
        printf '\n  ]\n}\n'
    } >"$out/gpu_bench.json"
    {
        printf '# wgpt on a GPU machine\n\n%s, commit %s\n\n' "$date" "$commit"
        if [ -s "$out/device.out" ]; then
            printf '```\n'
            cat "$out/device.out"
            printf '```\n\n'
        fi
        printf '| model | parameters | weights | test | tokens/s |\n|---|---|---|---|---|\n'
        for file in "$out"/bench_*.out; do
            [ -s "$file" ] && bench_rows "$file"
        done
        printf '\n| model | step | kernel | workgroups | calls | us | %% |\n|---|---|---|---|---|---|---|\n'
        for file in "$out"/profile_*.out; do
            [ -s "$file" ] && profile_rows "$file"
        done
        printf '\n| step | status | seconds |\n|---|---|---|\n'
        cat "$out/steps_md.tmp"
    } >"$out/gpu_bench.md"
    rm -f "$out/steps.tmp" "$out/steps_md.tmp"
}

run() {
    mkdir -p "$2"
    packed=$(cd "$1" && pwd)
    out=$(cd "$2" && pwd)
    # Test programs read tests/golden from here.
    cd "$packed"
    # Removes the results of an earlier run.
    rm -f "$out"/*.out "$out"/*.log "$out"/*.tmp "$out"/trace_*.json "$out/gpu_bench.svg"
    : >"$out/steps.tmp"
    : >"$out/steps_md.tmp"
    begun=$(now)
    deadline=$((begun + ${GPU_BENCH_SECONDS:-450}))
    date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    commit=$(cat commit)
    failed=0 separator=''
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
        export XDG_RUNTIME_DIR="$scratch/runtime"
        mkdir -m 700 "$XDG_RUNTIME_DIR"
    fi
    # This is empty until the last steps tune, so all other steps measure the defaults.
    export WGPT_CACHE_DIR="$scratch/cache"
    step devices 30 bin/wgpt devices --json
    if [ "$status" = ok ]; then
        bin/wgpt devices >"$out/device.out" 2>/dev/null || true
        measure
    fi
    write_reports
    bin/wgpt bench plot "$out/gpu_bench.json" -o "$out/gpu_bench.svg" 2>"$out/plot.log" ||
        echo "gpu_bench: no picture, see plot.log" >&2
    return "$failed"
}

measure() {
    step kernels 180 bin/inner kernels::
    step golden 120 bin/models golden::
    # The word splitting of the arguments is intended.
    # shellcheck disable=SC2086
    step bench_demo 60 bin/wgpt bench model --json ${GPU_BENCH_ARGS:-}
    # The roofline, and every variant compared with it. The record lists the
    # variants for which no time was left.
    # shellcheck disable=SC2086
    step bench_kernels 110 bin/wgpt bench kernels --json --total-seconds 75 \
        ${GPU_BENCH_KERNELS:---shapes-of gpt2,gpt2-xl}
    for shape in ${GPU_BENCH_SHAPES:-gpt2 gpt2-medium gpt2-large gpt2-xl llama-3.2-1b llama-3.1-8b}; do
        # shellcheck disable=SC2086
        step "bench_$shape" 120 bin/wgpt bench model --random "$shape" --json ${GPU_BENCH_ARGS:-}
        step "bench_${shape}_batch" 60 bin/wgpt bench model --random "$shape" --n-prompt 0 --n-gen 32 -r 3 \
            --batch 1,2,4,8,16 --json
    done
    for shape in ${GPU_BENCH_PROFILES:-gpt2 gpt2-xl llama-3.2-1b}; do
        step "profile_$shape" 90 bin/wgpt profile --random "$shape" --json --trace "$out/trace_$shape.json"
    done
    # PyTorch on the same shapes, if the machine has it.
    if python3 -c "import torch, sys; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then
        for shape in ${GPU_BENCH_TORCH:-gpt2 gpt2-xl}; do
            step "bench_torch_$shape" 120 python3 torch_gpt2.py "$shape"
        done
    fi
    # The gain from tuning: the same figures with the tuned kernels.
    for shape in ${GPU_BENCH_TUNED:-gpt2 gpt2-xl llama-3.2-1b}; do
        step "tune_$shape" 60 bin/wgpt tune --random "$shape" --seconds 20 --json
        # shellcheck disable=SC2086
        step "bench_tuned_$shape" 120 bin/wgpt bench model --random "$shape" --json ${GPU_BENCH_ARGS:-}
    done
}

case "${1:-} $#" in
"pack 2") pack "$2" ;;
"run 3") run "$2" "$3" ;;
*) usage ;;
esac
