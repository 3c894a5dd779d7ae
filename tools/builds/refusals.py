"""The cases of input that must be refused, and of help."""

import subprocess
from pathlib import Path

from builds.case import FIXED, NO_DRIVER, Case, Step
from builds.models import EXCERPT, GOLDEN, TASKS, TINY


def error_cases() -> list[Case]:
    """Input that must be refused: exit codes and messages."""
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
        "weights cut short": {"config.json": config, "model.safetensors": weights[: len(weights) // 2]},
        "weights empty": {"config.json": config, "model.safetensors": b""},
        "header damaged": {"config.json": config, "model.safetensors": weights[:20] + b"\xff" + weights[21:]},
        "no weights": {"config.json": config},
        "no config": {"model.safetensors": weights},
    }
    cases = [
        Case(
            "errors",
            f"model: {name}",
            [
                Step([verb, "-m", "@", *more], codes=(4,))
                for verb, more in (("generate", ["--tokens", "1,2", "-n", "2"]), ("inspect", []))
            ],
            quick=True,
            inputs=inputs,
        )
        for name, inputs in damaged.items()
    ]

    def refused(name: str, code: int, *runs: list[str], stdin: str = "", inputs=None) -> None:
        steps = [Step(args, stdin, codes=(code,)) for args in runs]
        cases.append(Case("errors", name, steps, quick=True, inputs=inputs or {}))

    tokens, out = ["--tokens", "1,2,3,4,5"], ["--output", "@x.safetensors"]
    refused(
        "no such model",
        4,
        *(
            [*verb, "-m", "no/such/folder", *more]
            for verb, more in (
                (["generate"], tokens),
                (["logits"], [*tokens, *out]),
                (["inspect"], []),
                (["perplexity"], [EXCERPT]),
                (["chat"], []),
                (["eval"], ["choices", f"{TASKS}/choices.jsonl"]),
                (["doctor"], []),
                (["bench", "model"], []),
                (["profile"], []),
                (["tune"], []),
            )
        ),
    )
    refused(
        "tokens",
        4,
        ["generate", *TINY, "--tokens", "1,1000"],
        ["logits", *TINY, "--tokens", "1,1000", *out],
        ["generate", *TINY, *tokens, "-c", "4"],
        ["logits", *TINY, *tokens, "-c", "2", *out],
        ["generate", *TINY, "-p", "Once"],
        ["logits", "-p", "", *out],
    )
    refused(
        "sampling",
        4,
        *(
            ["generate", "-p", "Once", *more]
            for more in (
                ["--temp", "-1"],
                ["--top-p", "2"],
                ["--repeat-penalty", "0"],
                ["--prompt-lookup", "3", "--temp", "1"],
            )
        ),
    )
    refused(
        "usage",
        2,
        [],
        ["generate"],
        ["generate", "-p"],
        ["generate", "-p", "a", "--tokens", "1"],
        ["nonsense"],
        ["generate", "-p", "x", "--dtype", "f8"],
        ["generate", "-p", "x", "--steps-ahead", "17"],
        ["logits", "-p", "x"],
        ["generate", "-p", "x", "--variant", "none=none"],
        ["generate", "-p", "x", "--memory-budget", "much"],
        ["curve"],
        ["generate", "-p", "x", "--timeout", "-1"],
        ["bench", "kernels", "--shape", "8x8"],
        ["completions", "tcl"],
        ["generate", "--random", "gpt3", "--tokens", "1"],
        ["perplexity", EXCERPT, "--protocol", "none"],
        ["eval", "none", "x"],
    )
    refused(
        "devices",
        3,
        ["generate", "-p", "x", "--device", "voodoo2"],
        ["inspect", "--device", "99"],
        ["bench", "kernels", "--device", "voodoo2"],
    )
    refused(
        "memory and variants",
        4,
        ["generate", "-p", "x", "--memory-budget", "1kB"],
        ["generate", "-p", "x", "--memory-budget", "4MB"],
        ["generate", "-p", "x", "--features-floor", "--variant", "gemv=subgroup_64"],
    )
    refused(
        "files",
        4,
        ["generate", "--prompt-file", "no/such.txt"],
        ["perplexity", "no/such.txt"],
        ["perplexity", "@latin1.txt"],
        ["generate", "--prompt-file", "@latin1.txt"],
        ["eval", "hellaswag", "no/such.jsonl"],
        ["eval", "lambada", "@latin1.txt"],
        ["curve", "no/such"],
        ["curve", "@log.csv"],
        ["curve", "@log.csv", "--train", EXCERPT],
        ["compare", "demo", "demo", "no/such.txt"],
        ["compare", "demo", "tests/golden/gpt2-tiny", EXCERPT],
        ["generate", "-p", "x", "--session", "@latin1.txt"],
        ["bench", "compare", "no/such.json", "no/such.json"],
        ["bench", "plot", "@log.csv", "@x.svg"],
        ["profile", *TINY, "-n", "128"],
        ["bench", "model", *TINY, "-p", "129"],
        ["bench", "model", *TINY, "-p", "0", "-n", "0"],
        ["logits", "-m", "@", *tokens, "--output", "@model.safetensors"],
        inputs={
            "latin1.txt": b"caf\xe9",
            "log.csv": b"step,train\n10,2.5\n20,two\n",
            "config.json": config,
            "model.safetensors": weights,
        },
    )
    refused(
        "places",
        1,
        ["logits", "-p", "x", "--output", "no/such/x.safetensors"],
        ["generate", "-p", "x", "-n", "1", "-s", "1", "--save-session", "no/such/x"],
        ["curve", "weights/training_log.json", "--plot", "no/such/x.svg"],
        ["perplexity", EXCERPT, "--html", "no/such/x.html"],
    )
    refused(
        "texts",
        4,
        *(
            ["perplexity", "-", *more]
            for more in (["--stride", "0"], ["--protocol", "llama"], ["--bos", "never"], ["--limit", "0"])
        ),
        stdin="Once upon",
    )
    refused("empty text", 4, ["perplexity", "-"])
    without = [
        Step(args, env=NO_DRIVER, codes=(3,))
        for args in (
            ["generate", "-p", "x"],
            ["logits", "-p", "x", *out],
            ["bench", "model"],
            ["bench", "kernels"],
            ["profile"],
            ["chat", "--chat-template", "plain"],
        )
    ]
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
