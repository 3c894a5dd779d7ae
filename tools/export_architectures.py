#!/usr/bin/env python3
"""Makes and checks the golden checkpoints tests/golden/MODEL_TYPE/VARIANT of the architectures other than GPT-2.

    export_architectures.py export [MODEL_TYPE/VARIANT ...]
                                   the cases of tools/reference/*.py, all or only the named ones: random weights, with
                                   logits by transformers (by tools/reference if the case gives a reason)
    export_architectures.py import MODEL_TYPE/VARIANT DIR
                                   copies the parts that the tests need of one of IMPORTED, a checkpoint whose
                                   golden.safetensors was made elsewhere
    export_architectures.py stories DIR
                                   the trained stories260k with its golden.safetensors, and its logits in float64
    export_architectures.py verify compares all goldens with the float64 decoders of tools/reference, which share no
                                   code with transformers, and checks that each case catches an engine that ignores
                                   its fields; needs only numpy
    export_architectures.py table  copies the text of the folders' READMEs into the table of tests/golden/README.md

Set-up as in tools/export_golden.py. A second run writes the same bytes: random weights come from numpy's PCG64, seeded
by the folder's name; a seed whose greedy path has a near tie is skipped.
"""
import argparse
import contextlib
import json
import math
import re
import shutil
import zlib
from pathlib import Path

import numpy as np

from gpt2_numpy import read_safetensors
from reference import BY_MODEL_TYPE, FILES, forward, layout
from reference.case import Case

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
CASES = {name: case for file in FILES for name, case in file.CASES.items()}
# Name -> how many positions of row 0 keep their logits, and `deaf` as in a Case.
IMPORTED = {
    "llama/gqa-tied": (24, dict(rope_theta=1e5)),
    "llama/gqa-untied": (24, dict(rope_theta=1e4)),
    "llama/mha-headdim": (24, dict(rms_norm_eps=1e-3)),
    "llama/llama3": (72, dict(rope_scaling=None)),
    "mistral/window16": (24, dict(sliding_window=None)),
    "qwen2/tied": (24, dict(attention_bias=False)),
    "gpt_neox/parallel": (24, dict(rotary_pct=0.5, use_parallel_residual=False, hidden_act="gelu_new")),
    "gpt_neox/sequential": (24, dict(rotary_pct=0.25, use_parallel_residual=True, hidden_act="gelu_new")),
}
STORIES = "llama/stories260k"
GREEDY_PROMPT, GREEDY_NEW = 8, 24
SEEDS = 200
GREEDY_GAP = 0.05  # more than twice the error of 2e-2 that an engine in f16 may have
AGREEMENT = 1e-9  # both sides are float64
# The imported goldens come from a float64 run that computed norms and rotary positions in float32.
AGREEMENT_IMPORTED = 1e-5
DEAF = 1e-3  # engines are held to 2e-4
LICENCE = "Random numbers, no licence needed; placed under this repository's MIT OR Apache-2.0."


# ---- random checkpoints -------------------------------------------------------------------------------------------


def random_tensors(shapes, model_type, seed):
    """Weights scaled so that logits have a deviation of some units and activations leave their linear part.

    Gemma multiplies embeddings by sqrt(hidden_size) and also uses them as its head. If they were as large as in the
    other models, a token would predict itself. So they are small here, and the last norm compensates for that.
    """
    rng, out, gemma = np.random.default_rng(seed), {}, model_type.startswith("gemma")
    for name, shape in sorted(shapes.items()):
        x = rng.standard_normal(shape)
        if len(shape) == 2:
            embeds = any(part in name for part in ("embed", "wte", "wpe", "lm_head"))
            x *= (0.15 if gemma else 0.5) if embeds else 1.5 / math.sqrt(shape[1])
        elif ("norm" in name or "ln_" in name) and name.endswith("weight"):
            x = 0.2 * x + (3 if name == "model.norm.weight" else 0) if gemma else 1 + 0.2 * x
        else:
            x *= 0.2
        out[name] = x.astype(np.float32)
    return out


def hf_config(case, model_type):
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    config = transformers.AutoConfig.for_model(model_type, **case.config, torch_dtype=case.dtype)
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]]
    return config


def config_and_shapes(case, model_type):
    """config.json as transformers would save it, and the parameters' shapes without tied ones."""
    if model_type in ("qwen3", "gemma3_text"):
        return case.config, BY_MODEL_TYPE[model_type].shapes(case.config)
    import transformers
    config = hf_config(case, model_type)
    fields = json.loads(config.to_json_string())
    fields.update({k: v for k, v in case.config.items() if k == "rope_scaling"})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return {k: v for k, v in fields.items() if k not in case.drop}, shapes


def write_checkpoint(folder, config, tensors, dtype):
    import torch
    from safetensors.torch import save_file
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    out = {k: torch.from_numpy(v).to(getattr(torch, dtype)) for k, v in tensors.items()}
    save_file(out, folder / "model.safetensors", metadata={"format": "pt"})


def read_model(folder):
    tensors = {k: v.astype(np.float64) for k, v in read_safetensors(folder / "model.safetensors").items()}
    return json.loads((folder / "config.json").read_text()), tensors


# ---- transformers in float64 --------------------------------------------------------------------------------------


@contextlib.contextmanager
def float32_means_float64():
    """Replaces the casts to float32 inside transformers' models (norms, rotary positions, softmax) with float64."""
    import torch
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept
        torch.set_default_dtype(torch.float32)


class Transformers:
    """The checkpoint of a folder by transformers, in float64 throughout or in float32."""

    def __init__(self, folder, case, double):
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        self.double, self.stepwise = double, case.stepwise
        config = transformers.AutoConfig.from_pretrained(folder)
        for field, value in case.hf.items():
            setattr(config, field, value)
        dtype = "float64" if double else "float32"
        with self.mode():
            # Position tables and similar buffers are created here; loading only the weights would omit them.
            self.model = transformers.AutoModelForCausalLM.from_config(
                config, attn_implementation="eager", torch_dtype=getattr(torch, dtype)).eval()
        weights = {k: torch.from_numpy(v.astype(dtype))
                   for k, v in read_safetensors(folder / "model.safetensors").items()}
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        tied = {"lm_head.weight", "embed_out.weight"} if config.tie_word_embeddings else set()
        assert not unexpected and set(missing) <= tied, (missing, unexpected)

    def mode(self):
        return float32_means_float64() if self.double else contextlib.nullcontext()

    def logits(self, ids):
        """The logits [n, vocab_size] of one row."""
        import torch
        ids = torch.as_tensor(np.array([ids]))
        with torch.no_grad(), self.mode():
            if not self.stepwise:
                return self.model(ids, use_cache=False).logits[0].double().numpy()
            cache, rows = None, []
            for token in ids.split(1, dim=1):
                step = self.model(token, past_key_values=cache, use_cache=True)
                cache = step.past_key_values
                rows.append(step.logits[0, 0].double().numpy())
            return np.stack(rows)


class Reference:
    """The checkpoint of a folder by tools/reference."""

    def __init__(self, folder, double):
        self.config, tensors = read_model(folder)
        self.tensors = {k: v if double else v.astype(np.float32) for k, v in tensors.items()}

    def logits(self, ids):
        return forward(self.config, self.tensors, ids).astype(np.float64)


# ---- goldens ------------------------------------------------------------------------------------------------------


def greedy(model, prompt, new):
    """Ids [prompt + new] and the smallest gap between the two best logits on the way."""
    ids, gap = list(prompt), math.inf
    for _ in range(new):
        last = model.logits(ids)[-1]
        second, first = np.partition(last, -2)[-2:]
        gap = min(gap, first - second)
        ids.append(int(last.argmax()))
    return ids, gap


def log_sum_exp(logits):
    peak = logits.max(-1)
    return peak + np.log(np.exp(logits - peak[..., None]).sum(-1))


def write_golden(path, ids, logits, greedy_ids, made_with, positions=None):
    """Writes the logits of row 0 up to `positions`, and for all other positions values that reveal wrong logits."""
    from safetensors.numpy import save_file
    out = {"input_ids": np.asarray(ids, np.int64), "logits_f64": np.ascontiguousarray(logits[:1, :positions]),
           "logsumexp_f64": log_sum_exp(logits), "greedy_ids": np.array([greedy_ids], np.int64)}
    # only one metadata key: safetensors writes several in random order
    save_file(out, path, metadata={"made_with": made_with})


def versions(case):
    import torch
    import transformers
    if case.by_reference:
        return f"tools/reference in float64, numpy {np.__version__}"
    return (f"transformers {transformers.__version__}, torch {torch.__version__} (CPU, eager attention, float64 "
            f"throughout)")


def models(folder, case):
    """The golden's own model in float64 and in float32."""
    if case.by_reference:
        return Reference(folder, True), Reference(folder, False)
    return Transformers(folder, case, True), Transformers(folder, case, False)


def export(name):
    case, model_type, folder = CASES[name], name.split("/")[0], GOLDEN / name
    config, shapes = config_and_shapes(case, model_type)
    first_seed = zlib.crc32(name.encode()) % 1_000_000
    for seed in range(first_seed, first_seed + SEEDS):
        write_checkpoint(folder, config, random_tensors(shapes, model_type, seed), case.dtype)
        ids = np.random.default_rng([seed, 1]).integers(0, config["vocab_size"], (2, case.n))
        ids[0, :2] = config["vocab_size"] - 1, 0  # both ends of the embedding
        double, single = models(folder, case)
        path, gap = greedy(double, ids[0, :GREEDY_PROMPT], GREEDY_NEW)
        if gap > GREEDY_GAP and len(set(path[GREEDY_PROMPT:])) >= 6:
            break
    else:
        raise SystemExit(f"{name}: none of {SEEDS} seeds has a greedy path without ties or repetition")
    logits = np.stack([double.logits(row) for row in ids])
    rounding = abs(logits - np.stack([single.logits(row) for row in ids])).max()
    write_golden(folder / "golden.safetensors", ids, logits, path, versions(case))
    source = f"{versions(case)} ({case.by_reference})" if case.by_reference else versions(case)
    (folder / "README").write_text(
        f"{model_type} with random weights (seed {seed}, {case.dtype}), {sum(map(math.prod, shapes.values()))} "
        f"parameters: {case.covers}. Golden: {source}, the file's weights; input_ids {list(ids.shape)}, logits_f64 of "
        f"row 0; logits' deviation {logits.std():.2f}, f32 of the same differs by at most {rounding:.1e}; greedy_ids = "
        f"the first {GREEDY_PROMPT} ids of row 0 and {GREEDY_NEW} greedy ones (least gap of the two best logits "
        f"{gap:.3f}). Written by tools/export_architectures.py. {LICENCE}\n")
    print(f"{name}: seed {seed}, deviation {logits.std():.2f}, f32 {rounding:.1e}, gap {gap:.3f}", flush=True)


def copy_files(source, folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, folder / name)


def import_golden(name, source):
    """Omits the float32 logits and hidden states, and keeps full logits only for row 0."""
    folder, golden = GOLDEN / name, read_safetensors(source / "golden.safetensors")
    copy_files(source, folder, ("config.json", "model.safetensors"))
    positions, n = IMPORTED[name][0], golden["input_ids"].shape[1]
    note = f"Here: logits_f64 of the first {positions} of {n} positions of row 0. {LICENCE}\n"
    (folder / "README").write_text((source / "README").read_text().rstrip() + " " + note)
    write_golden(folder / "golden.safetensors", golden["input_ids"], golden["logits_f64"], golden["greedy_ids"][0],
                 "the torch and transformers that README names", positions)


def export_stories(source):
    """golden.safetensors stays unchanged; the rows of golden_f64.safetensors are its two greedy texts."""
    folder = GOLDEN / STORIES
    copy_files(source, folder, ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                "golden.safetensors", "README"))
    golden = read_safetensors(folder / "golden.safetensors")
    texts = [golden[f"{i}.greedy_ids"] for i in range(2)]
    n, case = min(map(len, texts)), Case("", {})
    double, single = models(folder, case)
    ids = np.stack([text[:n] for text in texts])
    logits = np.stack([double.logits(row) for row in ids])
    rounding = abs(logits - np.stack([single.logits(row) for row in ids])).max()
    for i, row in enumerate(logits):
        prompt = golden[f"{i}.logits"]
        assert abs(row[: len(prompt)] - prompt).max() < 1e-4, "the logits that came with the model"
        assert (row[len(prompt) - 1 : -1].argmax(-1) == texts[i][len(prompt) : n]).all(), "its greedy text"
    path, gap = greedy(double, ids[0, :GREEDY_PROMPT], GREEDY_NEW)
    write_golden(folder / "golden_f64.safetensors", ids, logits, path, versions(case))
    with (folder / "README").open("a") as file:
        file.write(
            f"\ngolden.safetensors: of two prompts the ids, float32 logits, greedy continuation (texts in its "
            f"metadata). golden_f64.safetensors: {versions(case)}; input_ids {list(ids.shape)} are the two texts, logits_f64 of "
            f"row 0, f32 of the same differs by at most {rounding:.1e}; greedy_ids = the first {GREEDY_PROMPT} ids of "
            f"row 0 and {GREEDY_NEW} greedy ones (least gap of the two best logits {gap:.3f}). Written by "
            f"tools/export_architectures.py.\n")
    print(f"{STORIES}: deviation {logits.std():.2f}, f32 {rounding:.1e}, gap {gap:.3f}")


# ---- verify -------------------------------------------------------------------------------------------------------


def verify(name):
    folder = GOLDEN / name
    config, tensors = read_model(folder)
    deaf = CASES[name].deaf if name in CASES else IMPORTED[name][1] if name in IMPORTED else {}
    golden = read_safetensors(folder / ("golden.safetensors" if name != STORIES else "golden_f64.safetensors"))
    ids, expected = golden["input_ids"], golden["logits_f64"][0]
    found = np.stack([forward(config, tensors, row) for row in ids])
    worst = max(abs(found[0, : len(expected)] - expected).max(),
                abs(log_sum_exp(found) - golden["logsumexp_f64"]).max())
    assert worst < (AGREEMENT_IMPORTED if name in IMPORTED else AGREEMENT), f"{name}: differs by {worst:.1e}"
    row = golden["greedy_ids"][0]
    path = forward(config, tensors, row)[GREEDY_PROMPT - 1 : -1].argmax(-1)
    assert (path == row[GREEDY_PROMPT:]).all(), f"{name}: greedy"
    effect = {}
    for field, value in deaf.items():
        other = forward({**config, field: value}, tensors, ids[0, : len(expected)])
        effect[field] = float(abs(other - expected).max())
        assert effect[field] > DEAF, f"{name}: {field} has no effect"
    print(f"{name}: max difference {worst:.1e}" + "".join(f"; without {k} {v:.1e}" for k, v in effect.items()))


# ---- the table in tests/golden/README.md --------------------------------------------------------------------------

TABLE_HEAD = "| folder | covers | file | seed | f32 off by | least gap |\n|---|---|---|---|---|---|\n"
FIELDS = {
    "covers": r"parameters: (.*?)\. Golden|^[^:]*: (.*?); random weights", "file": r"seed \d+, (\w+)\)",
    "seed": r"seed (\d+)", "off": r"at most (\S+?);|fp64\| (\S+?);", "gap": r"logits (\d\S+?)\)|gap (\d\S+?)\)"}


def table():
    rows = []
    for name in sorted({*IMPORTED, *CASES}):
        text, row = (GOLDEN / name / "README").read_text(), {}
        for field, pattern in FIELDS.items():
            found = re.search(pattern, text)
            row[field] = next(group for group in found.groups() if group) if found else "float32"
        rows.append("| `{}` | {covers} | {file} | {seed} | {off} | {gap} |\n".format(name, **row))
    return TABLE_HEAD + "".join(rows)


def write_table():
    readme = GOLDEN / "README.md"
    before, after = readme.read_text().split(TABLE_HEAD)
    rest = after.split("\n\n", 1)[1]
    readme.write_text(before + table() + "\n" + rest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["export", "import", "stories", "verify", "table"])
    parser.add_argument("arguments", nargs="*")
    args = parser.parse_args()
    if args.step == "export":
        for name in args.arguments or CASES:
            export(name)
    elif args.step == "import":
        import_golden(args.arguments[0], Path(args.arguments[1]))
    elif args.step == "stories":
        export_stories(Path(args.arguments[0]))
    elif args.step == "table":
        write_table()
    else:
        folders = {f"{model_type}/{p.name}" for model_type in BY_MODEL_TYPE for p in (GOLDEN / model_type).iterdir()}
        assert folders == {STORIES, *IMPORTED, *CASES}, "a folder without a case, or a case without its folder"
        assert table() in (GOLDEN / "README.md").read_text(), "the table of README.md is old: run the step table"
        layout.check()
        for name in sorted(folders):
            verify(name)


if __name__ == "__main__":
    main()
