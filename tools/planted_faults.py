#!/usr/bin/env python3
"""Plants one fault after the other in a copy of the project and checks that the tests see it.

Usage: tools/planted_faults.py [--all-tests] [--only NUMBER[,NUMBER...]] [--list]

Each fault changes one place in a shader or in Rust code. The tests that should see the
fault run and must fail; with --all-tests the whole of `make test` runs. The exit code is
1 if a fault no longer compiles or if no test sees it. The copy and its build are in
target/planted_faults. Needs Python 3.9 and the requirements of `make test`.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "planted_faults"

# The Makefile's variables for the programs that compile most kernels.
SHORT_COMPILES = dict(
    variable.split("=")
    for variable in re.search(r"^SHORT_COMPILES := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
)

INNER = ["--test", "inner"]
QUICK = [*INNER, "kernels::per_thread_kernels_match_their_reference"]
WORKGROUP = [*INNER, "kernels::workgroup_kernels_match_their_reference"]
GOLDEN = ["--test", "models", "golden::"]
ENGINE = ["--test", "engine"]
LIB = ["--lib"]

# (kind, text that occurs once in shaders/ and src/, its replacement, tests that must see it)
FAULTS = [
    ("wrong index", "(position % PAGE_SIZE) * packs + pack;", "(position % PAGE_SIZE) * packs;", QUICK),
    ("wrong page", "row_page(row, position / PAGE_SIZE)];\n    let to", "row_page(row, 0u)];\n    let to", QUICK),
    ("off by one at a tile's edge: a stray write", "if (m + 3u < step.n_rows) {", "if (m + 3u <= step.n_rows) {", WORKGROUP),
    ("off by one at a tile's edge: a key left out", "let n_keys = min(WORKGROUP_SIZE, end - tile);",
     "let n_keys = min(WORKGROUP_SIZE - 1u, end - tile);", WORKGROUP),
    ("off by one in a window", "return kv_len - min(kv_len, window);", "return kv_len - min(kv_len, window + 1u);", QUICK),
    ("swapped operands", "let correction = exp4_nonpositive(running_max - new_max);",
     "let correction = exp4_nonpositive(new_max - running_max);", WORKGROUP),
    ("swapped operands in a block of sums", "fma(vec4<f32>(x4.y), w4, sum[1]),", "fma(vec4<f32>(x4.x), w4, sum[1]),", WORKGROUP),
    ("dropped bias", "value += bias[column];", "value += bias[column] * 0.0;", QUICK),
    ("dropped residual", "value += out[at];", "value = out[at] * 0.0 + value;", QUICK),
    ("missing barrier before a tile is read",
     "if (loads_w) { keep_w(next_w, w_row4, w_k); }\n        workgroupBarrier();",
     "if (loads_w) { keep_w(next_w, w_row4, w_k); }", WORKGROUP),
    ("missing barrier in a merge", "shares[lane.index] = acc[i];\n        workgroupBarrier();", "shares[lane.index] = acc[i];",
     WORKGROUP),
    ("wrong layout of weights", "return 4u * block_threads(row, n) * k8;", "return 4u * block_threads(row, n) * (k8 - 1u);", QUICK),
    ("rotation past its part of a row", "if (column >= params.rotated4) {", "if (column > params.rotated4) {", QUICK),
    ("wrong tie of equal logits", "best_index[other] < best_index[lane]", "best_index[other] > best_index[lane]", QUICK),
    ("a draw counted twice", "state[0].draws = wide_add(state[0].draws, vec2<u32>(1u, 0u));",
     "state[0].draws = wide_add(state[0].draws, vec2<u32>(2u, 0u));", [*INNER, "sampling::"]),
    ("angle of the wrong position", "let (sin, cos) = (position as f64 * frequency).sin_cos();",
     "let (sin, cos) = ((position + 1) as f64 * frequency).sin_cos();", ["--test", "models", "naive_model"]),
    ("rows of k and v exchanged", "(1 + head / kv, head % kv * dim + e)", "(2 - head / kv, head % kv * dim + e)",
     ["--test", "models", "golden::"]),
    ("a shared page written in place", "self.pages.get(index).is_some_and(|&page| pool.is_shared(page)).then_some(index)",
     "self.pages.get(index).is_some_and(|&page| pool.is_shared(page) && len == 0).then_some(index)", [*ENGINE, "session::"]),
    ("a page kept too few", "let keep = len.div_ceil(PAGE_SIZE).min(self.pages.len());",
     "let keep = (len / PAGE_SIZE).min(self.pages.len());", [*ENGINE, "session::"]),
    ("a stop string found too late", "let seen = self.held.len();\n        self.held.push_str(piece);",
     "self.held.push_str(piece);\n        let seen = self.held.len();", LIB),
    ("a nucleus one token short", "crossed = mass >= top_p;", "crossed = mass >= top_p;\n        n = n.saturating_sub(1);", LIB),
    ("an f16 cast that rounds up", "SourceDType::F16 => bytemuck::cast_slice::<u8, half::f16>(bytes).convert_to_f32_slice(out),",
     "SourceDType::F16 => bytemuck::cast_slice::<u8, half::bf16>(bytes).convert_to_f32_slice(out),",
     ["--test", "models", "checkpoint::"]),
]


def sources():
    for folder, ending in (("shaders", "*.wgsl"), ("src", "*.rs")):
        yield from (COPY / folder).rglob(ending)


def plant(old, new):
    """Returns the changed file and its text before the change."""
    found = [path for path in sources() if path.read_text(encoding="utf-8").count(old)]
    if len(found) != 1 or found[0].read_text(encoding="utf-8").count(old) != 1:
        sys.exit(f"planted_faults: {old!r} should occur once in shaders/ and src/; it is in {found or 'no file'}")
    before = found[0].read_text(encoding="utf-8")
    found[0].write_text(before.replace(old, new), encoding="utf-8")
    return found[0], before


def cargo(*arguments):
    command = ["cargo", "test", "--locked", *arguments]
    short = "inner" in arguments or "models" in arguments
    environment = os.environ | (SHORT_COMPILES if short else {})
    return subprocess.run(command, cwd=COPY, env=environment, capture_output=True, text=True, check=False)


def sees(tests, all_tests):
    """Returns whether a test fails. Exits if the code does not compile."""
    if all_tests:
        built = cargo("--no-run")
        if built.returncode:
            sys.exit(f"planted_faults: the fault does not compile:\n{built.stderr[-2000:]}")
        return cargo("--no-fail-fast").returncode != 0
    wgpt = ["-p", "wgpt", "--features", "internals,demo-model"]
    built = cargo(*wgpt, *tests[:2] if tests[0] == "--test" else tests, "--no-run")
    if built.returncode:
        sys.exit(f"planted_faults: the fault does not compile:\n{built.stderr[-2000:]}")
    run = cargo(*wgpt, *tests)
    if "0 passed; 0 failed" in run.stdout and "FAILED" not in run.stdout:
        sys.exit(f"planted_faults: no test has the name {tests[-1]}")
    return run.returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all-tests", action="store_true", help="run all tests for each fault")
    parser.add_argument("--only", help="numbers of faults, separated by commas")
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    args = parser.parse_args()
    chosen = {int(n) for n in args.only.split(",")} if args.only else set(range(1, len(FAULTS) + 1))
    if args.list:
        for number, (kind, old, new, tests) in enumerate(FAULTS, 1):
            print(f"{number:2} {kind}: {' '.join(tests)}\n   - {old}\n   + {new}")
        return
    COPY.mkdir(parents=True, exist_ok=True)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        source, copy = ROOT / name, COPY / name
        if not source.is_file():
            continue
        # Unchanged files keep their modification time, so that little is built again.
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    unseen = []
    for number, (kind, old, new, tests) in enumerate(FAULTS, 1):
        if number not in chosen:
            continue
        path, before = plant(old, new)
        started = time.monotonic()
        try:
            seen = sees(tests, args.all_tests)
        finally:
            path.write_text(before, encoding="utf-8")
        verdict = "seen" if seen else "NOT SEEN"
        print(f"{number:2} {verdict}: {kind} ({path.relative_to(COPY)}), {time.monotonic() - started:.0f} s", flush=True)
        if not seen:
            unseen.append(number)
    print(f"{len(chosen) - len(unseen)} of {len(chosen)} faults seen")
    if unseen:
        sys.exit(1)


if __name__ == "__main__":
    main()
