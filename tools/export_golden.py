#!/usr/bin/env python3
"""Makes and checks the golden data under tests/golden/ that comes from Hugging Face transformers.

    export_golden.py oddvocab      tests/golden/gpt2-oddvocab
    export_golden.py variants      tests/golden/gpt2-variants/*
    export_golden.py nanosort      tests/golden/gpt-nano-sort/golden_f64.safetensors
    export_golden.py perplexity [--validation FILE]
                                   tests/golden/demo-perplexity.json; with FILE (the validation.txt that
                                   tools/train_demo.py writes) also the excerpt and the figures over all of FILE
    export_golden.py verify [--validation FILE]
                                   compares all goldens with the float64 GPT-2 of gpt2_numpy.py, which shares
                                   no code with transformers; needs only numpy and tokenizers
    export_golden.py all [--validation FILE]

Set-up on Debian 12, with its packaged torch (1.13, CPU):

    apt-get install python3-torch python3-venv
    /usr/bin/python3 -m venv --system-site-packages VENV
    VENV/bin/pip install transformers==4.46.3 "safetensors<0.6" "numpy<2" tokenizers
    VENV/bin/python tools/export_golden.py all

A second run writes the same bytes. Random weights come from numpy's PCG64; a seed whose greedy path
has a near tie is skipped, so that no rounding of an engine can change the greedy ids.
"""
import argparse
import hashlib
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np

from gpt2_numpy import DEFAULTS, forward, perplexity, read_model, read_safetensors

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
VARIANTS = GOLDEN / "gpt2-variants"
DEMO = ROOT / "weights"
EXCERPT = GOLDEN / "demo-excerpt.txt"
PERPLEXITY = GOLDEN / "demo-perplexity.json"
SEPARATOR = "\n<|endoftext|>\n"
EXCERPT_BYTES = 12 * 1024
GREEDY_PROMPT, GREEDY_NEW = 8, 16
GREEDY_GAP = 0.05  # more than twice the error of 2e-2 that an engine in f16 may have
AGREEMENT = 1e-9  # both sides are float64; differences seen are below 1e-12
LICENCE = "Random numbers, no licence needed; placed under this repository's MIT OR Apache-2.0."

# name -> (config in addition to DEFAULTS, how it is written, what it covers)
CASES = {
    "gelu-inner37": (
        dict(activation_function="gelu", n_inner=37, vocab_size=101, n_positions=32, n_embd=20, n_layer=2, n_head=4),
        dict(), "exact gelu, n_inner 37, head_dim 5"),
    "gelu_new-untied": (
        dict(tie_word_embeddings=False, vocab_size=131, n_positions=24, n_embd=18, n_layer=2, n_head=2),
        dict(), "gelu_new, tie_word_embeddings false with its own lm_head.weight, head_dim 9"),
    "gelu_pytorch_tanh-sharded": (
        dict(activation_function="gelu_pytorch_tanh", vocab_size=103, n_positions=40, n_embd=24, n_layer=2, n_head=3),
        dict(shards=2), "gelu_pytorch_tanh, two shards with model.safetensors.index.json, the layers mixed over both"),
    "gelu_fast-positions11": (
        dict(activation_function="gelu_fast", vocab_size=97, n_positions=11, n_embd=22, n_layer=2, n_head=2),
        dict(), "gelu_fast, n_positions 11 filled to the last"),
    "quick_gelu-unscaled": (
        dict(activation_function="quick_gelu", scale_attn_weights=False, vocab_size=107, n_positions=48, n_embd=24,
             n_layer=2, n_head=2),
        dict(), "quick_gelu, scale_attn_weights false, head_dim 12"),
    "relu-inverse_layer_idx": (
        dict(activation_function="relu", scale_attn_by_inverse_layer_idx=True, vocab_size=109, n_positions=32,
             n_embd=18, n_layer=3, n_head=3),
        dict(), "relu, scale_attn_by_inverse_layer_idx true over three layers"),
    "silu-epsilon1e-3": (
        dict(activation_function="silu", layer_norm_epsilon=1e-3, tie_word_embeddings=False, vocab_size=113,
             n_positions=32, n_embd=16, n_layer=2, n_head=2),
        dict(embed_std=0.05), "silu, layer_norm_epsilon 1e-3 on rows of small variance, untied head"),
    "tanh-25heads-bf16": (
        dict(activation_function="tanh", n_inner=7, vocab_size=97, n_positions=24, n_embd=75, n_layer=1, n_head=25),
        dict(dtype="bfloat16"), "tanh, n_embd 75 with 25 heads of head_dim 3, n_inner 7, bf16 file"),
    "gelu_new-f16-headcopy": (
        dict(vocab_size=127, n_positions=64, n_embd=24, n_layer=2, n_head=4),
        dict(dtype="float16", head_copy=True),
        "f16 file, tied head of which the file also holds a copy as lm_head.weight"),
    "all-at-once": (
        dict(activation_function="quick_gelu", n_inner=83, layer_norm_epsilon=1e-3, scale_attn_weights=False,
             scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False, vocab_size=111, n_positions=27,
             n_embd=14, n_layer=4, n_head=1),
        dict(dtype="float16", shards=2, masks=True, embed_std=0.05),
        "every field away from its default at once: quick_gelu, n_inner 83 (beyond 4 n_embd), epsilon 1e-3, unscaled "
        "but divided by the layer, untied, one head, f16 in two shards, mask buffers with the prefix"),
}
ODDVOCAB = (
    dict(vocab_size=50257, n_positions=64, n_embd=20, n_layer=2, n_head=1),
    dict(dtype="float16", prefix="", masks=True, rows=1, positions=4),
    "the 50257 rows of GPT-2's vocabulary, one head of head_dim 20, f16 file, names without the transformer. prefix, "
    "mask buffers h.N.attn.bias (U8 in layer 0, F32 in layer 1) and h.N.attn.masked_bias (shape []) as in the hub's "
    "old GPT-2 files")


# ---- random checkpoints -------------------------------------------------------------------------------------------


def shapes(c):
    """Name without prefix -> shape, of every parameter of a GPT-2; Conv1D matrices are [in, out]."""
    e, inner = c["n_embd"], c["n_inner"] or 4 * c["n_embd"]
    out = {"wte.weight": (c["vocab_size"], e), "wpe.weight": (c["n_positions"], e)}
    for i in range(c["n_layer"]):
        for name, n_in, n_out in [("attn.c_attn", e, 3 * e), ("attn.c_proj", e, e), ("mlp.c_fc", e, inner),
                                  ("mlp.c_proj", inner, e)]:
            out[f"h.{i}.{name}.weight"], out[f"h.{i}.{name}.bias"] = (n_in, n_out), (n_out,)
        for name in ("ln_1", "ln_2"):
            out[f"h.{i}.{name}.weight"] = out[f"h.{i}.{name}.bias"] = (e,)
    out["ln_f.weight"] = out["ln_f.bias"] = (e,)
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (c["vocab_size"], e)
    return out


def random_tensors(c, seed, embed_std=0.5):
    """Float32 weights scaled so that logits have a deviation of some units and activations leave their linear part."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, shape in sorted(shapes(c).items()):
        x = rng.standard_normal(shape)
        if name in ("wte.weight", "wpe.weight"):
            x *= embed_std
        elif name == "lm_head.weight":
            x *= 0.5
        elif len(shape) == 2:
            x *= 1.5 / math.sqrt(shape[0])
        elif ".ln_" in "." + name and name.endswith("weight"):
            x = 1 + 0.2 * x
        else:
            x *= 0.1
        out[name] = x.astype(np.float32)
    return out


def mask_buffers(c):
    n, out = c["n_positions"], {}
    for i in range(c["n_layer"]):
        mask = np.tri(n, dtype=np.uint8 if i % 2 == 0 else np.float32)
        out[f"h.{i}.attn.bias"] = mask.reshape(1, 1, n, n)
        out[f"h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)
    return out


def write_checkpoint(folder, config, tensors, dtype="float32", shards=1, prefix="transformer.", masks=False,
                     head_copy=False):
    """A model folder in Hugging Face layout; the weights are rounded to dtype, buffers are not."""
    import torch
    from safetensors.torch import save_file
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    head = dict(architectures=["GPT2LMHeadModel"], model_type="gpt2", torch_dtype=dtype)
    tail = dict(bos_token_id=0, eos_token_id=0)
    (folder / "config.json").write_text(json.dumps({**head, **config, **tail}, indent=2) + "\n")
    out = {k: torch.from_numpy(v).to(getattr(torch, dtype)) for k, v in tensors.items()}
    if head_copy:
        out["lm_head.weight"] = out["wte.weight"].clone()
    out.update({k: torch.from_numpy(v) for k, v in (mask_buffers(config) if masks else {}).items()})
    out = {k if k.startswith("lm_head") else prefix + k: v.contiguous() for k, v in out.items()}
    if shards == 1:
        return save_file(out, folder / "model.safetensors", metadata={"format": "pt"})
    names = sorted(out)
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        save_file({k: out[k] for k in names[i::shards]}, folder / file, metadata={"format": "pt"})
    index = dict(metadata=dict(total_size=sum(v.numel() * v.element_size() for v in out.values())),
                 weight_map={k: files[i % shards] for i, k in enumerate(names)})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


# ---- goldens from transformers ------------------------------------------------------------------------------------


def versions():
    import torch
    import transformers
    return (f"transformers {transformers.__version__}, torch {torch.__version__} (CPU, eager attention), "
            f"numpy {np.__version__}")


def load_hf(folder, dtype):
    """The checkpoint loaded by transformers, without progress bars and warnings about unused mask buffers."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=getattr(torch, dtype), attn_implementation="eager").eval()


def hf_logits(model, ids):
    import torch
    with torch.no_grad():
        return model(torch.as_tensor(np.array(ids)), use_cache=False).logits.double().numpy()


def greedy(model, prompt, new):
    """Ids [prompt + new] and the smallest gap between the two best logits on the way."""
    ids, gap = list(prompt), math.inf
    for _ in range(new):
        last = hf_logits(model, [ids])[0, -1]
        second, first = np.partition(last, -2)[-2:]
        gap = min(gap, first - second)
        ids.append(int(last.argmax()))
    return ids, gap


def export_random(folder, case, first_seed, n):
    """Writes the model of the first seed whose greedy path has no near tie and is not one repeated token."""
    from safetensors.numpy import save_file
    config, how, covers = case
    config = {**DEFAULTS, **config}
    how = dict(how)
    embed_std, rows, positions = how.pop("embed_std", 0.5), how.pop("rows", 2), how.pop("positions", n)
    for seed in itertools.count(first_seed):
        write_checkpoint(folder, config, random_tensors(config, seed, embed_std), **how)
        ids = np.random.default_rng([seed, 1]).integers(0, config["vocab_size"], (2, n))
        ids[0, 0], ids[1, 0] = config["vocab_size"] - 1, 0  # both ends of the embedding
        model, prompt = load_hf(folder, "float64"), ids[0, :GREEDY_PROMPT]
        path, gap = greedy(model, prompt, min(GREEDY_NEW, config["n_positions"] - len(prompt)))
        if gap > GREEDY_GAP and len(set(path[len(prompt):])) >= min(4, len(path) - len(prompt)):
            break
    logits = hf_logits(model, ids)
    logits32 = hf_logits(load_hf(folder, "float32"), ids)
    assert greedy(load_hf(folder, "float32"), prompt, len(path) - len(prompt))[0] == path
    out = {"input_ids": ids, "logits_f64": np.ascontiguousarray(logits[:rows, :positions]),
           "greedy_ids": np.array([path])}
    shape = list(out["logits_f64"].shape)
    note = f"logits_f64 {shape} belong to input_ids {list(ids.shape)}"
    if (rows, positions) != ids.shape:
        out["argmax_ids"] = logits.argmax(-1)
        peak = logits.max(-1)
        out["logsumexp_f64"] = peak + np.log(np.exp(logits - peak[..., None]).sum(-1))
        note = (f"logits_f64 {shape} belong to the first {rows} row(s) and {positions} positions of input_ids "
                f"{list(ids.shape)}; argmax_ids and logsumexp_f64 {list(ids.shape)} stand for all of them")
    # only one metadata key: safetensors writes several in random order
    save_file(out, folder / "golden.safetensors", metadata={"made_with": versions()})
    (folder / "README").write_text(
        f"GPT-2 with random weights (seed {seed}), {sum(map(math.prod, shapes(config).values()))} parameters: {covers}. "
        f"Golden: {versions()}, the file's weights in float64; {note}; logits' deviation {logits.std():.2f}, f32 of the "
        f"same differs by at most {abs(logits - logits32).max():.1e}; greedy_ids = the first {len(prompt)} ids of row 0 "
        f"and {len(path) - len(prompt)} greedy ones (least gap of the two best logits {gap:.3f}). "
        f"Written by tools/export_golden.py. {LICENCE}\n")
    print(f"{folder.relative_to(ROOT)}: seed {seed}, gap {gap:.3f}")


def export_variants():
    shutil.rmtree(VARIANTS, ignore_errors=True)
    for i, (name, case) in enumerate(CASES.items()):
        export_random(VARIANTS / name, case, 1000 * (i + 1), 11 if case[0]["n_positions"] == 11 else 17)


def export_nanosort():
    """Every 48th of the 729 inputs of six letters, followed by the first five letters of the sorted answer."""
    from safetensors.numpy import save_file
    folder = GOLDEN / "gpt-nano-sort"
    rows = [row + tuple(sorted(row))[:5] for row in list(itertools.product(range(3), repeat=6))[::48]]
    logits = hf_logits(load_hf(folder, "float64"), rows)
    assert all((l[5:].argmax(-1) == sorted(r[:6])).all() for r, l in zip(rows, logits)), "the model sorts"
    save_file({"input_ids": np.array(rows), "logits_f64": logits}, folder / "golden_f64.safetensors",
              metadata={"made_with": versions()})
    print(f"{folder.relative_to(ROOT)}: {len(rows)} rows")


# ---- perplexity of the demo model, hf protocol --------------------------------------------------------------------

DEFINITION = (
    "The text is one stream of n tokens, no BOS put in front; '<|endoftext|>' in it is token 0. For begin = 0, stride, "
    "2 stride, ...: end = min(begin + window, n); the model sees tokens begin..end from position 0; scored are the "
    "targets from the previous window's end (0 at first) to end, save the token at begin itself, which has no context "
    "in its window; stop when end = n. nll = sum of -ln p over all scored tokens / tokens_scored, perplexity = exp(nll).")


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def demo_ids(path):
    from tokenizers import Tokenizer
    text = Path(path).read_bytes().decode("utf-8")
    return Tokenizer.from_file(str(DEMO / "tokenizer.json")).encode(text, add_special_tokens=False).ids


def hf_perplexity(model, ids, window, stride):
    """The loop of transformers' "Perplexity of fixed-length models": labels at -100 are context.

    Returns the result and the contribution of each window. Cross-entropy and sums are float64, whatever type the model
    computes in. Tokens are counted after the labels are shifted by one, which drops the first token of a window.
    """
    import torch
    ids, windows, previous = torch.tensor([ids]), [], 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + window, ids.shape[1])
        target = ids[:, begin:end].clone()
        target[:, : previous - end] = -100
        logits, label = torch.from_numpy(hf_logits(model, ids[:, begin:end]))[0, :-1], target[0, 1:]
        nll = torch.nn.functional.cross_entropy(logits, label, ignore_index=-100, reduction="sum")
        windows.append(dict(begin=begin, end=end, tokens_scored=int((label != -100).sum()), nll_sum=float(nll)))
        previous = end
        if end == ids.shape[1]:
            break
    scored = sum(w["tokens_scored"] for w in windows)
    nll = math.fsum(w["nll_sum"] for w in windows) / scored
    return dict(stride=stride, nll=nll, perplexity=math.exp(nll), tokens_scored=scored), windows


def describe_text(path, ids):
    return dict(file=Path(path).name, bytes=Path(path).stat().st_size, sha256=sha256(path), n_tokens=len(ids),
                first_ids=ids[:16])


def export_perplexity(validation):
    if validation:
        text = validation.read_bytes()[:EXCERPT_BYTES].decode("utf-8", "ignore")
        EXCERPT.write_bytes(text[: text.rindex(SEPARATOR)].encode())
    window = json.loads((DEMO / "config.json").read_text())["n_positions"]
    ids = demo_ids(EXCERPT)
    out = dict(protocol="hf", definition=DEFINITION, made_with=versions(), window=window,
               model_sha256=sha256(DEMO / "model.safetensors"), tokenizer_sha256=sha256(DEMO / "tokenizer.json"),
               text=describe_text(EXCERPT, ids))
    f32, f64 = load_hf(DEMO, "float32"), load_hf(DEMO, "float64")
    out["f32"] = [hf_perplexity(f32, ids, window, s)[0] for s in (512, 256, 128)]
    out["f64"] = [{**r, "windows": w} for r, w in (hf_perplexity(f64, ids, window, s) for s in (512, 256, 128))]
    if validation:
        whole = demo_ids(validation)
        out["whole_validation"] = dict(text=describe_text(validation, whole),
                                       f32=[hf_perplexity(f32, whole, window, 256)[0]])
    elif PERPLEXITY.exists():
        out["whole_validation"] = json.loads(PERPLEXITY.read_text())["whole_validation"]
    PERPLEXITY.write_text(json.dumps(out, indent=1) + "\n")
    for r in out["f32"] + out["f64"] + out.get("whole_validation", {}).get("f32", []):
        print({k: v for k, v in r.items() if k != "windows"})


# ---- verify -------------------------------------------------------------------------------------------------------


def neighbours(config):
    """Field -> the value that an engine would use if it ignored the field."""
    c = {**DEFAULTS, **config}
    out = {k: v for k, v in DEFAULTS.items() if c[k] != v and k not in ("activation_function", "n_inner")}
    out["activation_function"] = "gelu_new" if c["activation_function"] == "gelu" else "gelu"
    return out


def verify_folder(folder, file="golden.safetensors"):
    config, tensors = read_model(folder)
    golden = read_safetensors(folder / file)
    ids, expected = golden["input_ids"], golden["logits_f64"]
    rows, positions = expected.shape[:2]
    found = np.stack([forward(config, tensors, row) for row in ids])
    part = found[:rows, :positions]
    worst = abs(part - expected).max()
    assert worst < AGREEMENT, f"{folder.name}: logits differ by {worst:.1e}"
    for row in golden.get("greedy_ids", []):
        new = min(GREEDY_PROMPT, ids.shape[1])
        assert (forward(config, tensors, row)[new - 1 : -1].argmax(-1) == row[new:]).all(), f"{folder.name}: greedy"
    if "argmax_ids" in golden:
        assert (found.argmax(-1) == golden["argmax_ids"]).all(), f"{folder.name}: argmax"
        lse = np.log(np.exp(found).sum(-1))
        assert abs(lse - golden["logsumexp_f64"]).max() < AGREEMENT, f"{folder.name}: logsumexp"
    # Only a case whose logits depend on the field can catch an engine that ignores it. Engines must be within 2e-4;
    # the smallest difference, gelu against its tanh form, must be at least five times larger.
    effect = {}
    for field, value in neighbours(config).items():
        other = {**tensors, "lm_head.weight": tensors["wte.weight"]} if field == "tie_word_embeddings" else tensors
        changed = np.stack([forward({**config, field: value}, other, row) for row in ids[:rows, :positions]])
        effect[field] = float(abs(changed - part).max())
        assert effect[field] > 1e-3 or folder.name == "gpt-nano-sort", f"{folder.name}: {field} has no effect"
    print(f"{folder.name}: max difference {worst:.1e}; without " +
          ", ".join(f"{k} {v:.1e}" for k, v in effect.items()))


def verify_perplexity(validation):
    recorded = json.loads(PERPLEXITY.read_text())
    config, tensors = read_model(DEMO)
    assert recorded["model_sha256"] == sha256(DEMO / "model.safetensors"), "the demo model has changed"
    assert recorded["tokenizer_sha256"] == sha256(DEMO / "tokenizer.json"), "the demo tokenizer has changed"
    sets = [(EXCERPT, recorded["text"], recorded["f32"] + recorded["f64"])]
    if validation:
        sets.append((validation, recorded["whole_validation"]["text"], recorded["whole_validation"]["f32"]))
    for path, text, results in sets:
        ids = demo_ids(path)
        assert text == describe_text(path, ids), f"{path.name} is not the text of the figures"
        for r in results:
            nll, scored = perplexity(lambda row: forward(config, tensors, row), ids, recorded["window"], r["stride"])
            assert scored == r["tokens_scored"], (path.name, r["stride"])
            difference = abs(nll - r["nll"])
            assert difference < (AGREEMENT if "windows" in r else 1e-6), (path.name, r["stride"], difference)
            print(f"{path.name} stride {r['stride']}: nll differs by {difference:.1e}")


def verify(validation):
    verify_folder(GOLDEN / "gpt2-tiny")
    verify_folder(GOLDEN / "gpt-nano-sort", "golden_f64.safetensors")
    verify_folder(GOLDEN / "gpt2-oddvocab")
    for name in CASES:
        verify_folder(VARIANTS / name)
    verify_perplexity(validation)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = {"oddvocab": lambda v: export_random(GOLDEN / "gpt2-oddvocab", ODDVOCAB, 1, 6),
             "variants": lambda v: export_variants(), "nanosort": lambda v: export_nanosort(),
             "perplexity": export_perplexity, "verify": verify}
    parser.add_argument("step", choices=[*steps, "all"])
    parser.add_argument("--validation", type=Path, help="validation.txt of the demo model's training")
    args = parser.parse_args()
    for name, step in steps.items():
        if args.step in (name, "all"):
            step(args.validation)


if __name__ == "__main__":
    main()
