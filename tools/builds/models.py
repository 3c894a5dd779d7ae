"""The golden models, and cases that all of them run."""

import json
from dataclasses import dataclass

from builds.case import REPOSITORY, Case, Step
from builds.formats import read_input_ids

GOLDEN = REPOSITORY / "tests" / "golden"
WEIGHTS = REPOSITORY / "weights"
EXCERPT = "tests/golden/demo-excerpt.txt"
TRAINED_ON = "tests/golden/demo-train-excerpt.txt"
TASKS = "tests/golden/tasks"
TINY = ["-m", "tests/golden/gpt2-tiny"]
N_NEW = 10
F32 = ["--dtype", "f32", "--kv-dtype", "f32"]
GREEDY = ["--temp", "0", "-s", "1"]
# All samplers at once; the seed is fixed.
SAMPLED = [
    "--temp",
    "0.9",
    "--top-k",
    "30",
    "--top-p",
    "0.9",
    "--min-p",
    "0.01",
    "--repeat-penalty",
    "1.1",
    "--presence-penalty",
    "0.2",
    "--frequency-penalty",
    "0.1",
    "-s",
    "42",
]
JSON = ["--output-format", "json"]
# Models that take more positions than their config's length, and how many.
BEYOND_CONFIG = {"llama/dynamic": 48}
# Every fifth model also runs these, so each of them runs on several architectures.
SOME_MODELS = 5


@dataclass(frozen=True)
class Model:
    """A model and its prompts."""

    name: str
    # Arguments that choose it.
    flags: list[str]
    # Arguments that give the prompt of `logits`.
    prompt: list[str]
    # The prompt of `generate`, if the other one fills the context.
    short: list[str] | None = None


# About 40 tokens, which need more than one tile of 32 rows.
STORY = (
    "Once upon a time, there was a little girl named Lily. She had a red ball and a big dog. One day, the dog "
    "ran to the park with the ball. Lily was sad."
)
DEMO = Model("demo", [], ["-p", STORY])
STORIES = Model("llama/stories260k", ["-m", "tests/golden/llama/stories260k"], ["-p", STORY])


def context(config: dict) -> int:
    lengths = (config.get(key) for key in ("n_positions", "max_position_embeddings"))
    return next(length for length in lengths if length)


def golden_models() -> list[Model]:
    """Returns every folder under tests/golden with a config and weights, in order of the path."""
    models = []
    for config_path in sorted(GOLDEN.rglob("config.json")):
        folder = config_path.parent
        if not any((folder / name).exists() for name in ("model.safetensors", "model.safetensors.index.json")):
            continue
        name = str(folder.relative_to(GOLDEN))
        n_ctx = BEYOND_CONFIG.get(name) or context(json.loads(config_path.read_text()))
        ids = [str(token) for token in read_input_ids(folder / "golden.safetensors")]
        flags = ["-m", str(folder.relative_to(REPOSITORY))]
        long, short = (["--tokens", ",".join(ids[:n])] for n in (n_ctx, max(n_ctx - N_NEW, 2)))
        models.append(Model(name, flags, long, short))
    return models


def logits(model: Model, *more: str) -> Step:
    args = ["logits", *model.flags, *model.prompt, *more, "--output", "@logits.safetensors"]
    return Step(args, files={"logits.safetensors": "safetensors"})


def generate(model: Model, *more: str, out: str = "text", n: int = N_NEW) -> Step:
    return Step(["generate", *model.flags, *(model.short or model.prompt), "-n", str(n), *more], out=out)


def cases_of_model(model: Model, index: int) -> list[Case]:
    """Returns the cases of one golden model."""

    def case(name: str, *steps: Step, quick: bool = False) -> Case:
        return Case(model.name, name, list(steps), quick)

    greedy_json = [*GREEDY, *JSON, "--logprobs", "3"]
    cases = [
        case("logits f16", logits(model), quick=True),
        case("logits f32", logits(model, *F32)),
        case("greedy, JSON", generate(model, *greedy_json, out="json"), quick=True),
        case("greedy f32, text", generate(model, *GREEDY, *F32)),
        case("sampled, JSON", generate(model, *SAMPLED, *JSON, out="json")),
        case("inspect", Step(["inspect", *model.flags]), Step(["inspect", *model.flags, "--json"], out="json")),
    ]
    if index % SOME_MODELS == 0:
        cases += [
            case(
                "deterministic",
                logits(model, "--deterministic"),
                logits(model, "--deterministic", "--prefill-chunk", "3"),
                generate(model, *GREEDY, *JSON, "--deterministic", out="json"),
            ),
            case("prompt lookup", generate(model, *GREEDY, *JSON, "--prompt-lookup", "4", out="json")),
        ]
    if index % SOME_MODELS == 1:
        cases += [
            case("sampled on the GPU", generate(model, *SAMPLED, *JSON, "--steps-ahead", "4", out="json")),
            case("chunks", logits(model, "--prefill-chunk", "5"), logits(model, "--prefill-chunk", "1")),
        ]
    if index % SOME_MODELS == 2:
        cases.append(case("floor", logits(model, "--features-floor")))
    return cases
