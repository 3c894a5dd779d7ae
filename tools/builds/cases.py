"""The cases of single verbs, most of them on the demo model and on the trained stories260k."""

import re
import subprocess
from pathlib import Path

from builds.case import FIXED, Case, Step
from builds.machine import chat_cases, machine_cases
from builds.models import (
    DEMO,
    EXCERPT,
    F32,
    GREEDY,
    JSON,
    SAMPLED,
    STORIES,
    STORY,
    TASKS,
    TRAINED_ON,
    WEIGHTS,
    Model,
    cases_of_model,
    generate,
    golden_models,
    logits,
)
from builds.refusals import error_cases, help_cases

RANDOM = Model(
    "random", ["--random", "n_layer=2,n_embd=48,n_head=3,vocab_size=301,n_positions=64"], ["--tokens", "1,2,3"]
)
PROTOCOLS = ("hf", "llama", "lm-eval", "segments")
DTYPES = {"f16": [], "f32": F32}
# One token at a time, so the operations of decoding compute the logits.
DECODE = ["--prefill-chunk", "1"]
# Small enough that a busy machine need not cut them by measured cost, and with more rows than a batch of decoding (8),
# because a remainder of few rows uses other kernels.
UNCUT = ["--prefill-chunk", "24"]


def candidates(old: Path) -> dict[str, list[str]]:
    """Returns the variants of each operation, as the error texts of OLD list them."""

    def listed(argument: str) -> list[str]:
        args = [old, "logits", "-p", "x", "--output", "none", "--variant", argument]
        stderr = subprocess.run(args, capture_output=True, text=True, env=FIXED, check=False).stderr
        found = re.search(r"there are (.+)", stderr)
        if not found:
            raise SystemExit(f"error: {old} lists no candidates for --variant {argument}: {stderr}")
        return found[1].split(", ")

    return {op: listed(f"{op}=none") for op in listed("none=none")}


def variant_cases(old: Path) -> list[Case]:
    """Forces each variant in a run that uses it: logits of a prompt, of single tokens, or scores of a text."""
    cases = []
    for op, names in candidates(old).items():
        model = STORIES if op.startswith("rms") else DEMO
        short = Model(model.name, model.flags, ["-p", "Once upon a time, there was a dog"])
        for name in names:
            steps = []
            for flags in DTYPES.values():
                forced = [*flags, "--variant", f"{op}={name}"]
                if op == "score":
                    step = Step(
                        ["perplexity", EXCERPT, "--limit", "1", "-c", "64", "--tokens-table", "--json", *forced],
                        out="json",
                    )
                elif op in ("gemv", "norm_gemv", "rms_gemv", "attention_decode"):
                    step = logits(short, *DECODE, *forced)
                else:
                    step = logits(model, *UNCUT, *forced)
                # Some devices cannot run some variants; the error must be the same, too.
                step.codes = (0, 4)
                steps.append(step)
            cases.append(Case(f"variants of {op}", f"{op}={name}", steps, quick=name == names[0]))
        wrong = Step(["logits", "-p", "x", "--output", "@none", "--variant", f"{op}=none"], codes=(2,))
        cases.append(Case(f"variants of {op}", "names", [wrong], quick=True))
    return cases


def text_cases(model: Model) -> list[Case]:
    """generate and logits with the model's tokenizer, including sessions."""
    cases = []

    def case(name: str, *steps: Step, quick: bool = False) -> None:
        cases.append(Case(f"{model.name}, text", name, list(steps), quick))

    def one(*args: str, out: str = "text") -> Step:
        return Step(["generate", *model.flags, *args, "-n", "24"], out=out)

    case("logits", *(logits(model, *flags, *more) for flags in DTYPES.values() for more in ([], ["--deterministic"])))
    case("logits, mixed types", logits(model, "--dtype", "f32"), logits(model, "--kv-dtype", "f32"))
    case("logits by chunks", *(logits(model, "--prefill-chunk", n) for n in ("1", "7", "32")))
    case("logits on the floor", logits(model, "--features-floor"))
    case("greedy", generate(model, *GREEDY, n=40), generate(model, *GREEDY, *JSON, out="json", n=40), quick=True)
    case(
        "sampled",
        generate(model, *SAMPLED),
        generate(model, *SAMPLED, *JSON, "--logprobs", "2", out="json"),
        quick=True,
    )
    case(
        "sampled on the GPU",
        *(generate(model, *SAMPLED, *JSON, "--steps-ahead", n, out="json") for n in ("0", "1", "4")),
    )
    case(
        "prompt lookup",
        *(generate(model, *GREEDY, *JSON, "--prompt-lookup", n, out="json", n=40) for n in ("1", "5")),
    )
    case("deterministic", generate(model, *GREEDY, *JSON, "--deterministic", out="json"))
    case("log-probabilities as a table", generate(model, *GREEDY, "--logprobs", "3", n=6))
    case(
        "stop, echo, bias",
        one("-p", "Once", *GREEDY, "--echo", "--stop", "little"),
        one("-p", "Once", *GREEDY, *JSON, "--logit-bias", "262=-inf", "--logit-bias", "300+1.5", out="json"),
    )
    case(
        "prompts",
        Step(["generate", *model.flags, "-", "-n", "5", *GREEDY], stdin="The dog\n"),
        Step(["generate", *model.flags, "--prompt-file", "-", "-n", "5", *GREEDY], stdin="The dog\n"),
        one("-p", "", *SAMPLED),
        one("--tokens", "5,6,7", *GREEDY),
    )
    case(
        "overflow",
        one("-p", STORY, *GREEDY, "-c", "64", "--overflow", "slide", *JSON, out="json"),
        one("-p", STORY, *GREEDY, "-c", "64", "--ignore-eos"),
        generate(model, *GREEDY, *JSON, out="json", n=0),
    )
    save = one("-p", "Once upon a time", *GREEDY, "--save-session", "@a.session")
    save.files = {"a.session": "session"}
    go_on = one("-p", " The dog", *GREEDY, *JSON, "--session", "@a.session", "--save-session", "@b.session", out="json")
    go_on.files = {"b.session": "session"}
    other = one("-p", "", *GREEDY, "--session", "@a.session", *F32)
    case("session", save, go_on, other, quick=True)
    saved_by_old = Step(save.args, files=save.files, old_in_both=True)
    case("session of OLD", saved_by_old, go_on, other)
    return cases


def random_cases() -> list[Case]:
    """Weights without a file."""
    return [
        Case(
            "random weights",
            "all",
            [
                logits(RANDOM),
                logits(RANDOM, *F32, "--random-seed", "3"),
                generate(RANDOM, *GREEDY, *JSON, out="json"),
                Step(["inspect", *RANDOM.flags]),
                Step(["inspect", "--random", "gpt2-xl", "--json"], out="json"),
                Step(["inspect", "--random", "smollm2-135m", "--json"], out="json"),
            ],
        )
    ]


def evaluation_cases() -> list[Case]:
    """perplexity, eval, compare and curve."""
    cases = []

    def case(group: str, name: str, *steps: Step, quick: bool = False, inputs=None) -> None:
        cases.append(Case(group, name, list(steps), quick, inputs or {}))

    for model, contexts in ((DEMO, []), (STORIES, ["-c", "256"])):
        for protocol in PROTOCOLS:
            args = ["perplexity", *model.flags, EXCERPT, "--protocol", protocol, *contexts]
            if protocol == "segments":
                args += ["--documents", "blank-lines"]
            few = [*args, "--limit", "2"]
            case(
                "perplexity",
                f"{model.name}, {protocol}",
                Step([*args, "--json", *UNCUT], out="json"),
                Step(few),
                Step([*few, "--json", "--tokens-table", *F32], out="json"),
                quick=protocol == "llama",
            )
    outputs = ["--csv", "@tokens.csv", "--html", "@page.html"]
    case(
        "perplexity",
        "outputs",
        Step(
            ["perplexity", EXCERPT, "--limit", "1", "-c", "128", "--tokens-table", *outputs],
            files={"tokens.csv": "text", "page.html": "text"},
        ),
        Step(
            ["perplexity", EXCERPT, "--limit", "3", "-c", "128", "--stride", "100", "--batch-tokens", "64", "--json"],
            out="json",
        ),
        Step(["perplexity", EXCERPT, TRAINED_ON, "--documents", "rows", "--limit", "2", "--json"], out="json"),
        Step(
            ["perplexity", EXCERPT, "--protocol", "llama", "-c", "64", "--bos", "always", "--limit", "3", "--json"],
            out="json",
        ),
        Step(["perplexity", EXCERPT, "--limit", "2", "--deterministic", "--json"], out="json"),
    )

    tasks = {
        "hellaswag": [f"{TASKS}/hellaswag-200.txt", "--limit", "6"],
        "hellaswag, raw": [f"{TASKS}/hellaswag-raw.jsonl"],
        "mmlu": [f"{TASKS}/mmlu", "--limit", "6", "--shots", "1"],
        "mmlu, plain": [f"{TASKS}/mmlu-plain"],
        "lambada": [f"{TASKS}/lambada-60.jsonl", "--limit", "4"],
        "choices": [f"{TASKS}/choices.jsonl", "--seed", "3"],
    }
    llmc = ("hellaswag, raw", "mmlu, plain", "choices")
    for model in (DEMO, STORIES):
        for name, args in tasks.items():
            command = ["eval", name.split(",")[0], *args, *model.flags]
            by = [[], ["--convention", "llmc"]] if name in llmc else [[]]
            case(
                "eval",
                f"{model.name}, {name}",
                *(Step([*command, *more, "--json", "--answers"], out="json") for more in by),
                Step(command),
                quick=model is DEMO and name == "choices",
            )
    resume = ["eval", "choices", f"{TASKS}/choices.jsonl", "--resume", "@run.json"]
    kept = {"run.json": "json"}
    case(
        "eval",
        "resume, no sharing",
        Step(resume, files=kept),
        Step([*resume, "--json"], out="json", files=kept),
        Step([*resume, "--seed", "9"], codes=(4,)),
        Step(["eval", "choices", f"{TASKS}/choices.jsonl", "--no-share", "--json", "--answers"], out="json"),
    )

    types = ["--dtype", "f32", "--kv-dtype", "f32", "--dtype-b", "f16", "--kv-dtype-b", "f16"]
    for more in ([], ["--json"]):
        out = "json" if more else "text"
        golden = ["tests/golden/llama/stories260k"] * 2
        case(
            "compare",
            " ".join(["two precisions", *more]),
            Step(["compare", "demo", "demo", EXCERPT, "--limit", "200", "--top", "4", *types, *more], out=out),
            Step(["compare", *golden, EXCERPT, "--limit", "200", "--stride", "50", *types, *more], out=out),
            quick=bool(more),
        )

    log = "weights/training_log.json"
    picture = {"curve.svg": "text"}
    case(
        "curve",
        "log",
        Step(["curve", log, "--n-parameters", "2271360", "--plot", "@curve.svg"], files=picture),
        Step(
            ["curve", log, "--x", "tokens", "--plot", "@curve.svg", "--json", "--title", "A run"],
            out="json",
            files=picture,
        ),
        quick=True,
    )
    rows = "".join(f"{i * 100 + 100},{4 - 0.2 * i},{4 + 0.1 * abs(i - 5)}\n" for i in range(12))
    case(
        "curve",
        "CSV",
        Step(["curve", "@log.csv", "--tokens-per-step", "512", "--json"], out="json"),
        Step(["curve", "@log.csv"]),
        inputs={"log.csv": f"step,train,validation\n{rows}".encode()},
    )
    weights = WEIGHTS / "model.safetensors"
    run = {
        "checkpoint-20.safetensors": weights,
        "checkpoint-3.safetensors": weights,
        "config.json": WEIGHTS / "config.json",
        "tokenizer.json": WEIGHTS / "tokenizer.json",
    }
    texts = ["--train", TRAINED_ON, "--validation", EXCERPT, "--limit", "300"]
    case(
        "curve",
        "checkpoints",
        Step(["curve", "@", *texts, "--plot", "@curve.svg", "--json"], out="json", files=picture),
        Step(["curve", "@checkpoint-3.safetensors", "7=@checkpoint-20.safetensors", *texts]),
        inputs=run,
    )
    return cases


def all_cases(old: Path) -> list[Case]:
    """Returns all cases, grouped."""
    models = golden_models()
    by_model = [case for i, model in enumerate(models) for case in cases_of_model(model, i)]
    return [
        *by_model,
        *cases_of_model(DEMO, 0),
        *text_cases(DEMO),
        *text_cases(STORIES),
        *random_cases(),
        *variant_cases(old),
        *evaluation_cases(),
        *chat_cases(),
        *machine_cases(),
        *error_cases(),
        *help_cases(old),
    ]
