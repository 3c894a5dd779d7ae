"""The cases of single verbs, most of them on the demo model and on the trained stories260k."""
import re
import subprocess
from pathlib import Path

from builds.case import FIXED, NO_DRIVER, REPOSITORY, Case, Step
from builds.models import F32, GOLDEN, GREEDY, JSON, SAMPLED, Model, cases_of_model, generate, golden_models, logits

WEIGHTS = REPOSITORY / "weights"
EXCERPT = "tests/golden/demo-excerpt.txt"
TRAINED_ON = "tests/golden/demo-train-excerpt.txt"
TASKS = "tests/golden/tasks"
TINY = ["-m", "tests/golden/gpt2-tiny"]
# About 40 tokens, so that tiles of 32 rows are more than one.
STORY = ("Once upon a time, there was a little girl named Lily. She had a red ball and a big dog. One day, the dog "
         "ran to the park with the ball. Lily was sad.")
DEMO = Model("demo", [], ["-p", STORY])
STORIES = Model("llama/stories260k", ["-m", "tests/golden/llama/stories260k"], ["-p", STORY])
RANDOM = Model("random", ["--random", "n_layer=2,n_embd=48,n_head=3,vocab_size=301,n_positions=64"], ["--tokens", "1,2,3"])
PROTOCOLS = ("hf", "llama", "lm-eval", "segments")
DTYPES = {"f16": [], "f32": F32}
# One token at a time: the operations of decoding compute the logits.
DECODE = ["--prefill-chunk", "1"]
BENCH_KERNELS = ["bench", "kernels", "--max-seconds", "0.02", "-r", "3", "--cold-mib", "1", "--probe-mib", "1"]
# Operations with their smallest shapes.
KERNEL_SHAPES = [
    ("gemv", "16x16,3x16x16"), ("norm_gemv", "16x16"), ("rms_gemv", "16x16"), ("gemm", "9x16x16"), ("gated", "3x24"),
    ("layer_norm", "3x24"), ("rms_norm", "3x24"), ("qk_norm", "3x2x8"), ("embedding", "2x8"), ("argmax", "50"),
    ("sample", "50"), ("score", "3x50"), ("kv_append", "3x2x8"), ("attention_prefill", "5x2x8"),
    ("attention_decode", "20x2x8:kv=1:window=9"), ("attention_reduce", "600x2x8"),
]


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
    """Forces each variant where it runs: logits of a prompt, of single tokens, or scores of a text."""
    cases = []
    for op, names in candidates(old).items():
        model = STORIES if op.startswith("rms") else DEMO
        short = Model(model.name, model.flags, ["-p", "Once upon a time, there was a dog"])
        for name in names:
            steps = []
            for flags in DTYPES.values():
                forced = [*flags, "--variant", f"{op}={name}"]
                if op == "score":
                    step = Step(["perplexity", EXCERPT, "--limit", "1", "-c", "64", "--tokens-table", "--json", *forced], out="json")
                elif op in ("gemv", "norm_gemv", "rms_gemv", "attention_decode"):
                    step = logits(short, *DECODE, *forced)
                else:
                    step = logits(model, *forced)
                # Some devices cannot run some variants; the error must be the same, too.
                step.codes = (0, 4)
                steps.append(step)
            cases.append(Case(f"{model.name}, variants", f"{op}={name}", steps, quick=name == names[0]))
        wrong = Step(["logits", "-p", "x", "--output", "@none", "--variant", f"{op}=none"], codes=(2,))
        cases.append(Case("demo, variants", f"names of {op}", [wrong], quick=True))
    return cases


def text_cases() -> list[Case]:
    """generate and logits with a tokenizer, sessions included."""
    cases = []
    for model in (DEMO, STORIES):
        def case(name: str, *steps: Step, quick: bool = False) -> None:
            cases.append(Case(f"{model.name}, text", name, list(steps), quick))

        def one(*args: str, out: str = "text") -> Step:
            return Step(["generate", *model.flags, *args, "-n", "24"], out=out)

        case("logits", *(logits(model, *flags, *more) for flags in DTYPES.values() for more in ([], ["--deterministic"])))
        case("logits, mixed types", logits(model, "--dtype", "f32"), logits(model, "--kv-dtype", "f32"))
        case("logits by chunks", *(logits(model, "--prefill-chunk", n) for n in ("1", "7", "32")))
        case("logits on the floor", logits(model, "--features-floor"))
        case("greedy", generate(model, *GREEDY, n=40), generate(model, *GREEDY, *JSON, out="json", n=40), quick=True)
        case("sampled", generate(model, *SAMPLED), generate(model, *SAMPLED, *JSON, "--logprobs", "2", out="json"), quick=True)
        case("sampled on the GPU", *(generate(model, *SAMPLED, *JSON, "--steps-ahead", n, out="json") for n in ("0", "1", "4")))
        case("prompt lookup", *(generate(model, *GREEDY, *JSON, "--prompt-lookup", n, out="json", n=40) for n in ("1", "5")))
        case("deterministic", generate(model, *GREEDY, *JSON, "--deterministic", out="json"))
        case("log-probabilities as a table", generate(model, *GREEDY, "--logprobs", "3", n=6))
        case("stop, echo, bias", one("-p", "Once", *GREEDY, "--echo", "--stop", "little"),
             one("-p", "Once", *GREEDY, *JSON, "--logit-bias", "262=-inf", "--logit-bias", "300+1.5", out="json"))
        case("prompts", Step(["generate", *model.flags, "-", "-n", "5", *GREEDY], stdin="The dog\n"),
             Step(["generate", *model.flags, "--prompt-file", "-", "-n", "5", *GREEDY], stdin="The dog\n"),
             one("-p", "", *SAMPLED), one("--tokens", "5,6,7", *GREEDY))
        case("overflow", one("-p", STORY, *GREEDY, "-c", "64", "--overflow", "slide", *JSON, out="json"),
             one("-p", STORY, *GREEDY, "-c", "64", "--ignore-eos"), generate(model, *GREEDY, *JSON, out="json", n=0))
        save = one("-p", "Once upon a time", *GREEDY, "--save-session", "@a.session")
        save.files = {"a.session": "session"}
        go_on = one("-p", " The dog", *GREEDY, *JSON, "--session", "@a.session", "--save-session", "@b.session", out="json")
        go_on.files = {"b.session": "session"}
        other = one("-p", "", *GREEDY, "--session", "@a.session", *F32)
        case("session", save, go_on, other, quick=True)
        saved_by_old = Step(save.args, files=save.files, old_in_both=True)
        case("session of OLD", saved_by_old, go_on, other)
    cases.append(Case("random weights", "all", [
        logits(RANDOM), logits(RANDOM, *F32, "--random-seed", "3"), generate(RANDOM, *GREEDY, *JSON, out="json"),
        Step(["inspect", *RANDOM.flags]), Step(["inspect", "--random", "gpt2-xl", "--json"], out="json"),
        Step(["inspect", "--random", "smollm2-135m", "--json"], out="json")]))
    return cases


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
            case("perplexity", f"{model.name}, {protocol}", Step([*args, "--json"], out="json"), Step(few),
                 Step([*few, "--json", "--tokens-table", *F32], out="json"), quick=protocol == "llama")
    outputs = ["--csv", "@tokens.csv", "--html", "@page.html"]
    case("perplexity", "outputs", Step(["perplexity", EXCERPT, "--limit", "1", "-c", "128", "--tokens-table", *outputs],
                                       files={"tokens.csv": "text", "page.html": "text"}),
         Step(["perplexity", EXCERPT, "--limit", "3", "-c", "128", "--stride", "100", "--batch-tokens", "64", "--json"], out="json"),
         Step(["perplexity", EXCERPT, TRAINED_ON, "--documents", "rows", "--limit", "2", "--json"], out="json"),
         Step(["perplexity", EXCERPT, "--protocol", "llama", "-c", "64", "--bos", "always", "--limit", "3", "--json"], out="json"),
         Step(["perplexity", EXCERPT, "--limit", "2", "--deterministic", "--json"], out="json"))

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
            case("eval", f"{model.name}, {name}", *(Step([*command, *more, "--json", "--answers"], out="json") for more in by),
                 Step(command), quick=model is DEMO and name == "choices")
    resume = ["eval", "choices", f"{TASKS}/choices.jsonl", "--resume", "@run.json"]
    kept = {"run.json": "json"}
    case("eval", "resume, no sharing", Step(resume, files=kept), Step([*resume, "--json"], out="json", files=kept),
         Step([*resume, "--seed", "9"], codes=(4,)),
         Step(["eval", "choices", f"{TASKS}/choices.jsonl", "--no-share", "--json", "--answers"], out="json"))

    types = ["--dtype", "f32", "--kv-dtype", "f32", "--dtype-b", "f16", "--kv-dtype-b", "f16"]
    for more in ([], ["--json"]):
        out = "json" if more else "text"
        golden = ["tests/golden/llama/stories260k"] * 2
        case("compare", " ".join(["two precisions", *more]),
             Step(["compare", "demo", "demo", EXCERPT, "--limit", "200", "--top", "4", *types, *more], out=out),
             Step(["compare", *golden, EXCERPT, "--limit", "200", "--stride", "50", *types, *more], out=out), quick=bool(more))

    log = "weights/training_log.json"
    picture = {"curve.svg": "text"}
    case("curve", "log", Step(["curve", log, "--n-parameters", "2271360", "--plot", "@curve.svg"], files=picture),
         Step(["curve", log, "--x", "tokens", "--plot", "@curve.svg", "--json", "--title", "A run"], out="json", files=picture), quick=True)
    rows = "".join(f"{i * 100 + 100},{4 - 0.2 * i},{4 + 0.1 * abs(i - 5)}\n" for i in range(12))
    case("curve", "CSV", Step(["curve", "@log.csv", "--tokens-per-step", "512", "--json"], out="json"), Step(["curve", "@log.csv"]),
         inputs={"log.csv": f"step,train,validation\n{rows}".encode()})
    weights = WEIGHTS / "model.safetensors"
    run = {"checkpoint-20.safetensors": weights, "checkpoint-3.safetensors": weights, "config.json": WEIGHTS / "config.json",
           "tokenizer.json": WEIGHTS / "tokenizer.json"}
    texts = ["--train", TRAINED_ON, "--validation", EXCERPT, "--limit", "300"]
    case("curve", "checkpoints", Step(["curve", "@", *texts, "--plot", "@curve.svg", "--json"], out="json", files=picture),
         Step(["curve", "@checkpoint-3.safetensors", "7=@checkpoint-20.safetensors", *texts]), inputs=run)
    return cases


def machine_cases() -> list[Case]:
    """devices, doctor, inspect, profile, bench and tune: names, counts and checks; times are dropped."""
    def case(group: str, name: str, *steps: Step, quick: bool = False) -> Case:
        return Case(group, name, list(steps), quick)

    # Small models: the head of larger ones is cut into as many dispatches as their measured cost asks for.
    profile = ["profile", "-n", "8", "-r", "1"]
    bench = ["bench", "model", "-p", "8", "-n", "4", "-r", "2"]
    records = [f"benches/record/2026-11-{day}-2core-lavapipe25-demo.json" for day in ("24", "24b")]
    # TIMED tables cannot show whether a kernel is right; JSON has a row for each that passed its check.
    kernels = [case("bench kernels", op, Step([*BENCH_KERNELS, "--op", op, "--shape", shape, "--cache", "warm", "-o", "json"],
                                              out="json")) for op, shape in KERNEL_SHAPES]
    return [
        case("devices", "all", Step(["devices"]), Step(["devices", "--json"], out="json"),
             Step(["devices", "--backend", "metal"], codes=(0, 3)), Step(["devices"], env=NO_DRIVER, codes=(3,)), quick=True),
        case("doctor", "report", Step(["doctor", "--seconds", "0", "--json"], out="json"), Step(["doctor", "--seconds", "0"])),
        case("doctor", "benchmark", Step(["doctor", "--seconds", "0.1", "--json", *TINY], out="json")),
        case("doctor", "no driver", Step(["doctor", "--json"], env=NO_DRIVER, out="json", codes=(3,)),
             Step(["doctor"], env=NO_DRIVER, codes=(3,)), quick=True),
        case("inspect", "demo", *(Step(["inspect", *more, *flags], out="json" if more else "text") for more in ([], ["--json"])
                                  for flags in ([], F32, ["-c", "100"], ["--features-floor"], ["--deterministic"],
                                                ["--memory-budget", "10MB"], ["--memory-budget", "1GiB"])), quick=True),
        case("inspect", "no driver", Step(["inspect", "--json"], env=NO_DRIVER, out="json")),
        case("profile", "JSON", Step([*profile, "-o", "json", *TINY], out="json"), Step([*profile, "-o", "json", *STORIES.flags], out="json"), quick=True),
        case("profile", "tables", Step([*profile, *TINY], out="timed"), Step([*profile, *TINY, "-o", "csv"], out="csv"),
             Step(["profile", *STORIES.flags, "-p", "Once upon a time", "-r", "1", *F32, "-o", "json"], out="json")),
        case("profile", "trace", Step(["profile", "-n", "4", "-r", "1", *TINY, "--trace", "@trace.json", "-o", "json"], out="json",
                                      files={"trace.json": "json"})),
        case("bench model", "JSON", Step([*bench, *TINY, "-o", "json"], out="json"), Step([*bench, *STORIES.flags, "-d", "0,16", "-o", "json"], out="json"), quick=True),
        case("bench model", "others", Step([*bench, *TINY], out="timed"), Step([*bench, *TINY, "-o", "csv"], out="csv"),
             Step(["bench", "model", "-p", "0", "-n", "4", "-r", "1", "--batch", "1,2,5", *TINY, "-o", "json"], out="json")),
        *kernels,
        case("bench kernels", "formats", *(Step([*BENCH_KERNELS, "--op", "argmax", "--shape", "8", "-o", out], out=kind)
                                           for out, kind in (("md", "timed"), ("csv", "csv"))),
             Step([*BENCH_KERNELS, "--op", "gemv", "--shape", "8x8", "--variant", "per_thread", "--features-floor", "--wall", "-o", "json"], out="json"),
             Step([*BENCH_KERNELS, "--op", "argmax", "--shape", "8,9", "--total-seconds", "0", "-o", "json"], out="json"), quick=True),
        case("bench compare", "records", Step(["bench", "compare", *records]), Step(["bench", "compare", *records, "-o", "json"], out="json"),
             Step(["bench", "compare", *records, "--confidence", "99", "-o", "csv"]),
             Step(["bench", "plot", *records, "@rates.svg"], files={"rates.svg": "text"}), quick=True),
        case("tune", "tiny", Step(["tune", *TINY, "--json", "--seconds", "60"], out="json")),
    ]


def chat_cases() -> list[Case]:
    """Scripted conversations: wgpt's own templates on trained models, published templates on the demo's weights."""
    script = "There was a cat.\n/stats\nIt was \\\nred.\n\"\"\"\nThe\n\nend.\n\"\"\"\n/system Be kind.\n/system\n/reset\nHi\n/stats\n/help\n/exit\nno\n"
    steps = [Step(["chat", *model.flags, "--chat-template", template, "-n", "6", *more], stdin=script)
             for model in (DEMO, STORIES) for template, more in (("plain", GREEDY), ("chatml", SAMPLED))]
    plain = ["chat", "--chat-template", "plain", "-n", "5", *GREEDY]
    saved = [Step([*plain, "--system", "Be kind."], stdin="Tom had a dog.\n/save @talk.json\n", files={"talk.json": "json"}),
             Step([*plain, "--load", "@talk.json"], stdin="And then?\n"), Step(plain, stdin="/load @talk.json\nAnd then?\n/system\n"),
             Step([*plain, "-c", "48", "--overflow", "drop"], stdin="The dog ran.\nThe cat sat.\nThe end came.\n/stats\n"),
             Step([*plain, "--load", "no/such.json"], codes=(4,)), Step(plain, stdin="/load no/such.json\n", codes=(4,))]
    cases = [Case("chat", "own templates", steps, quick=True), Case("chat", "files", saved)]
    demo = {name: WEIGHTS / name for name in ("config.json", "model.safetensors", "tokenizer.json")}
    for folder in sorted(GOLDEN.glob("chat/*/")):
        inputs = demo | {path.name: path for path in folder.iterdir() if path.name not in ("cases.json", "README.md")}
        # A template may refuse a message or overflow the context: the error must be the same.
        talk = [Step(["chat", "-m", "@", "-n", "4", *GREEDY, *more], stdin="Hello there.\nWhat is it?\n", codes=(0, 1, 4))
                for more in ([], ["--system", "Be kind.", "--template-var", "enable_thinking=false"])]
        cases.append(Case("chat", folder.name, talk, inputs=inputs))
    return cases


def error_cases() -> list[Case]:
    """What must be refused: exit codes and messages."""
    tiny = GOLDEN / "gpt2-tiny"
    config, weights = ((tiny / name).read_bytes() for name in ("config.json", "model.safetensors"))

    def changed(old: bytes, new: bytes) -> dict[str, bytes]:
        return {"config.json": config.replace(old, new), "model.safetensors": weights}

    damaged = {
        "config cut short": {"config.json": config[:20], "model.safetensors": weights},
        "unknown model_type": changed(b'"gpt2"', b'"mamba"'),
        "other n_embd": changed(b'"n_embd": 64', b'"n_embd": 32'),
        "n_head no divisor": changed(b'"n_head": 4', b'"n_head": 5'),
        "unknown activation": changed(b'"gelu_new"', b'"gelu_9000"'),
        "unknown field": changed(b'"n_embd"', b'"attention_sinks": 4, "n_embd"'),
        "weights cut short": {"config.json": config, "model.safetensors": weights[:len(weights) // 2]},
        "weights empty": {"config.json": config, "model.safetensors": b""},
        "header damaged": {"config.json": config, "model.safetensors": weights[:20] + b"\xff" + weights[21:]},
        "no weights": {"config.json": config},
        "no config": {"model.safetensors": weights},
    }
    cases = [Case("errors", f"model: {name}", [Step([verb, "-m", "@", *more], codes=(4,)) for verb, more in
                                               (("generate", ["--tokens", "1,2", "-n", "2"]), ("inspect", []))],
                  quick=True, inputs=inputs) for name, inputs in damaged.items()]

    def refused(name: str, code: int, *runs: list[str], stdin: str = "", inputs=None) -> None:
        steps = [Step(args, stdin, codes=(code,)) for args in runs]
        cases.append(Case("errors", name, steps, quick=True, inputs=inputs or {}))

    tokens, out = ["--tokens", "1,2,3,4,5"], ["--output", "@x.safetensors"]
    refused("no such model", 4, *([*verb, "-m", "no/such/folder", *more] for verb, more in (
        (["generate"], tokens), (["logits"], [*tokens, *out]), (["inspect"], []), (["perplexity"], [EXCERPT]), (["chat"], []),
        (["eval"], ["choices", f"{TASKS}/choices.jsonl"]), (["doctor"], []), (["bench", "model"], []), (["profile"], []), (["tune"], []))))
    refused("tokens", 4, ["generate", *TINY, "--tokens", "1,1000"], ["logits", *TINY, "--tokens", "1,1000", *out],
            ["generate", *TINY, *tokens, "-c", "4"], ["logits", *TINY, *tokens, "-c", "2", *out], ["generate", *TINY, "-p", "Once"],
            ["logits", "-p", "", *out])
    refused("sampling", 4, *(["generate", "-p", "Once", *more] for more in (
        ["--temp", "-1"], ["--top-p", "2"], ["--repeat-penalty", "0"], ["--prompt-lookup", "3", "--temp", "1"])))
    refused("usage", 2, [], ["generate"], ["generate", "-p"], ["generate", "-p", "a", "--tokens", "1"], ["nonsense"],
            ["generate", "-p", "x", "--dtype", "f8"], ["generate", "-p", "x", "--steps-ahead", "17"], ["logits", "-p", "x"],
            ["generate", "-p", "x", "--variant", "none=none"], ["generate", "-p", "x", "--memory-budget", "much"], ["curve"],
            ["generate", "-p", "x", "--timeout", "-1"], ["bench", "kernels", "--shape", "8x8"], ["completions", "tcl"],
            ["generate", "--random", "gpt3", "--tokens", "1"], ["perplexity", EXCERPT, "--protocol", "none"], ["eval", "none", "x"])
    refused("devices", 3, ["generate", "-p", "x", "--device", "voodoo2"], ["inspect", "--device", "99"], ["bench", "kernels", "--device", "voodoo2"])
    refused("memory and variants", 4, ["generate", "-p", "x", "--memory-budget", "1kB"], ["generate", "-p", "x", "--memory-budget", "4MB"],
            ["generate", "-p", "x", "--features-floor", "--variant", "gemv=subgroup_64"])
    refused("files", 4, ["generate", "--prompt-file", "no/such.txt"], ["perplexity", "no/such.txt"], ["perplexity", "@latin1.txt"],
            ["generate", "--prompt-file", "@latin1.txt"], ["eval", "hellaswag", "no/such.jsonl"], ["eval", "lambada", "@latin1.txt"],
            ["curve", "no/such"], ["curve", "@log.csv"], ["curve", "@log.csv", "--train", EXCERPT], ["compare", "demo", "demo", "no/such.txt"],
            ["compare", "demo", "tests/golden/gpt2-tiny", EXCERPT], ["generate", "-p", "x", "--session", "@latin1.txt"],
            ["bench", "compare", "no/such.json", "no/such.json"], ["bench", "plot", "@log.csv", "@x.svg"], ["profile", *TINY, "-n", "128"],
            ["bench", "model", *TINY, "-p", "129"], ["bench", "model", *TINY, "-p", "0", "-n", "0"],
            ["logits", "-m", "@", *tokens, "--output", "@model.safetensors"],
            inputs={"latin1.txt": b"caf\xe9", "log.csv": b"step,train\n10,2.5\n20,two\n", "config.json": config, "model.safetensors": weights})
    refused("places", 1, ["logits", "-p", "x", "--output", "no/such/x.safetensors"], ["generate", "-p", "x", "-n", "1", "-s", "1", "--save-session", "no/such/x"],
            ["curve", "weights/training_log.json", "--plot", "no/such/x.svg"], ["perplexity", EXCERPT, "--html", "no/such/x.html"])
    refused("texts", 4, *(["perplexity", "-", *more] for more in (
        ["--stride", "0"], ["--protocol", "llama"], ["--bos", "never"], ["--limit", "0"])), stdin="Once upon")
    refused("empty text", 4, ["perplexity", "-"])
    without = [Step(args, env=NO_DRIVER, codes=(3,)) for args in (
        ["generate", "-p", "x"], ["logits", "-p", "x", *out], ["bench", "model"], ["bench", "kernels"], ["profile"],
        ["chat", "--chat-template", "plain"])]
    cases.append(Case("errors", "no driver", without, quick=True))
    return cases


def help_cases(old: Path) -> list[Case]:
    """Help, version and completions, whose wording may change: reported."""
    def listed(*verb: str) -> list[str]:
        text = subprocess.run([old, *verb, "--help"], capture_output=True, text=True, env=FIXED, check=False).stdout
        block = text.partition("Commands:\n")[2].partition("\n\n")[0]
        return [line.split()[0] for line in block.splitlines() if line.split()[0] != "help"]

    verbs = [[], *([verb] for verb in listed()), *(["bench", verb] for verb in listed("bench"))]
    texts = [[*verb, flag] for verb in verbs for flag in ("-h", "--help")]
    texts += [["completions", shell] for shell in ("bash", "elvish", "fish", "powershell", "zsh")]
    cases = [Case("help", " ".join(args), [Step(args, report=True)], quick=True) for args in texts]
    return [*cases, Case("help", "--version", [Step(["--version"])], quick=True)]


def all_cases(old: Path) -> list[Case]:
    """Returns all cases, those of a group together."""
    models = golden_models()
    by_model = [case for i, model in enumerate(models) for case in cases_of_model(model, i)]
    return [*by_model, *cases_of_model(DEMO, 0), *text_cases(), *variant_cases(old), *evaluation_cases(), *chat_cases(),
            *machine_cases(), *error_cases(), *help_cases(old)]
