"""The cases of verbs that measure or describe the machine, and conversations."""

import json

from builds.case import NO_DRIVER, REPOSITORY, Case, Step
from builds.models import DEMO, F32, GOLDEN, GREEDY, SAMPLED, STORIES, TINY, WEIGHTS

BENCH_KERNELS = ["bench", "kernels", "--max-seconds", "0.02", "-r", "3", "--cold-mib", "1", "--probe-mib", "1"]
# Operations with their smallest shapes.
KERNEL_SHAPES = [
    ("gemv", "16x16,3x16x16"),
    ("norm_gemv", "16x16"),
    ("rms_gemv", "16x16"),
    ("gemm", "9x16x16"),
    ("gated", "3x24"),
    ("layer_norm", "3x24"),
    ("rms_norm", "3x24"),
    ("qk_norm", "3x2x8"),
    ("embedding", "2x8"),
    ("argmax", "50"),
    ("sample", "50"),
    ("score", "3x50"),
    ("kv_append", "3x2x8"),
    ("attention_prefill", "5x2x8"),
    ("attention_decode", "20x2x8:kv=1:window=9"),
    ("attention_reduce", "600x2x8"),
]


def slower(record: str) -> bytes:
    """Returns a record of `bench model` with rates that are a fifth lower."""
    document = json.loads((REPOSITORY / record).read_text())
    for row in (row for step in document["steps"] for row in step["results"]):
        row["avg_ts"] *= 0.8
        row["samples_ts"] = [rate * 0.8 for rate in row["samples_ts"]]
    return json.dumps(document).encode()


def machine_cases() -> list[Case]:
    """devices, doctor, inspect, profile, bench and tune: names, counts and checks; times are dropped."""

    def case(group: str, name: str, *steps: Step, quick: bool = False, inputs=None) -> Case:
        return Case(group, name, list(steps), quick, inputs or {})

    # Small models only: the head of a larger one is cut into a number of dispatches that depends on measured times.
    profile = ["profile", "-n", "8", "-r", "1"]
    bench = ["bench", "model", "-p", "8", "-n", "4", "-r", "2"]
    record = "benches/record/2026-11-24b-2core-lavapipe25-gpt2-124m.json"
    records = [record, "@slower.json"]
    # TIMED tables cannot show whether a kernel is right; JSON has a row for each kernel that passed its check.
    kernels = [
        case(
            "bench kernels",
            op,
            Step([*BENCH_KERNELS, "--op", op, "--shape", shape, "--cache", "warm", "-o", "json"], out="json"),
        )
        for op, shape in KERNEL_SHAPES
    ]
    return [
        case(
            "devices",
            "all",
            Step(["devices"]),
            Step(["devices", "--json"], out="json"),
            Step(["devices", "--backend", "metal"], codes=(0, 3)),
            Step(["devices"], env=NO_DRIVER, codes=(3,)),
            quick=True,
        ),
        case(
            "doctor",
            "report",
            Step(["doctor", "--seconds", "0", "--json"], out="json"),
            Step(["doctor", "--seconds", "0"]),
        ),
        case("doctor", "benchmark", Step(["doctor", "--seconds", "0.1", "--json"], out="json")),
        case(
            "doctor",
            "no driver",
            Step(["doctor", "--json"], env=NO_DRIVER, out="json", codes=(3,)),
            Step(["doctor"], env=NO_DRIVER, codes=(3,)),
            quick=True,
        ),
        case(
            "inspect",
            "demo",
            *(
                Step(["inspect", *more, *flags], out="json" if more else "text")
                for more in ([], ["--json"])
                for flags in (
                    [],
                    F32,
                    ["-c", "100"],
                    ["--features-floor"],
                    ["--deterministic"],
                    ["--memory-budget", "10MB"],
                    ["--memory-budget", "1GiB"],
                )
            ),
            quick=True,
        ),
        case("inspect", "no driver", Step(["inspect", "--json"], env=NO_DRIVER, out="json")),
        case(
            "profile",
            "JSON",
            Step([*profile, "-o", "json", *TINY], out="json"),
            Step([*profile, "-o", "json", *STORIES.flags], out="json"),
            quick=True,
        ),
        case(
            "profile",
            "tables",
            Step([*profile, *TINY], out="timed"),
            Step([*profile, *TINY, "-o", "csv"], out="csv"),
            Step(["profile", *STORIES.flags, "-p", "Once upon a time", "-r", "1", *F32, "-o", "json"], out="json"),
        ),
        case(
            "profile",
            "trace",
            Step(
                ["profile", "-n", "4", "-r", "1", *TINY, "--trace", "@trace.json", "-o", "json"],
                out="json",
                files={"trace.json": "json"},
            ),
        ),
        case(
            "bench model",
            "JSON",
            Step([*bench, *TINY, "-o", "json"], out="json"),
            Step([*bench, *STORIES.flags, "-d", "0,16", "-o", "json"], out="json"),
            quick=True,
        ),
        case(
            "bench model",
            "others",
            Step([*bench, *TINY], out="timed"),
            Step([*bench, *TINY, "-o", "csv"], out="csv"),
            Step(
                ["bench", "model", "-p", "0", "-n", "4", "-r", "1", "--batch", "1,2,5", *TINY, "-o", "json"], out="json"
            ),
        ),
        *kernels,
        case(
            "bench kernels",
            "formats",
            *(
                Step([*BENCH_KERNELS, "--op", "argmax", "--shape", "8", "-o", out], out=kind)
                for out, kind in (("md", "timed"), ("csv", "csv"))
            ),
            Step(
                [
                    *BENCH_KERNELS,
                    "--op",
                    "gemv",
                    "--shape",
                    "8x8",
                    "--variant",
                    "per_thread",
                    "--features-floor",
                    "--wall",
                    "-o",
                    "json",
                ],
                out="json",
            ),
            Step(
                [*BENCH_KERNELS, "--op", "argmax", "--shape", "8,9", "--total-seconds", "0", "-o", "json"], out="json"
            ),
            quick=True,
        ),
        case(
            "bench compare",
            "records",
            Step(["bench", "compare", *records]),
            Step(["bench", "compare", *records, "-o", "json"], out="json"),
            Step(["bench", "compare", *records, "--confidence", "99", "-o", "csv"]),
            Step(["bench", "plot", *records, "@rates.svg"], files={"rates.svg": "text"}),
            quick=True,
            inputs={"slower.json": slower(record)},
        ),
        case("tune", "tiny", Step(["tune", *TINY, "--json", "--seconds", "60"], out="json")),
    ]


def chat_cases() -> list[Case]:
    """Scripted conversations: wgpt's templates on trained models, published templates on the demo model's weights."""
    script = (
        'There was a cat.\n/stats\nIt was \\\nred.\n"""\nThe\n\nend.\n"""\n/system Be kind.\n/system\n'
        "/reset\nHi\n/stats\n/help\n/exit\nno\n"
    )
    steps = [
        Step(["chat", *model.flags, "--chat-template", template, "-n", "6", *more], stdin=script)
        for model in (DEMO, STORIES)
        for template, more in (("plain", GREEDY), ("chatml", SAMPLED))
    ]
    plain = ["chat", "--chat-template", "plain", "-n", "5", *GREEDY]
    saved = [
        Step([*plain, "--system", "Be kind."], stdin="Tom had a dog.\n/save @talk.json\n", files={"talk.json": "json"}),
        Step([*plain, "--load", "@talk.json"], stdin="And then?\n"),
        Step(plain, stdin="/load @talk.json\nAnd then?\n/system\n"),
        Step([*plain, "-c", "48", "--overflow", "drop"], stdin="The dog ran.\nThe cat sat.\nThe end came.\n/stats\n"),
        Step([*plain, "--load", "no/such.json"], codes=(4,)),
        Step(plain, stdin="/load no/such.json\n", codes=(4,)),
    ]
    cases = [Case("chat", "own templates", steps, quick=True), Case("chat", "files", saved)]
    demo = {name: WEIGHTS / name for name in ("config.json", "model.safetensors", "tokenizer.json")}
    for folder in sorted(GOLDEN.glob("chat/*/")):
        inputs = demo | {path.name: path for path in folder.iterdir() if path.name not in ("cases.json", "README.md")}
        # A template may refuse a message or overflow the context: the error must be the same.
        talk = [
            Step(["chat", "-m", "@", "-n", "4", *GREEDY, *more], stdin="Hello there.\nWhat is it?\n", codes=(0, 1, 4))
            for more in ([], ["--system", "Be kind.", "--template-var", "enable_thinking=false"])
        ]
        cases.append(Case("chat", folder.name, talk, inputs=inputs))
    return cases
