#!/usr/bin/env python3
"""Negative log-likelihoods by every perplexity protocol, for tests/golden/perplexity.json.

    export_nll.py export     writes the file: transformers in float64 and float32
    export_nll.py verify     compares it with the float64 GPT-2 of gpt2_numpy.py, which shares no code with
                             transformers; needs only numpy and tokenizers

Set-up as in export_golden.py. The protocols are written here from their published descriptions:

hf        huggingface.co/docs/transformers/perplexity, the loop on that page
llama     llama.cpp, tools/perplexity/perplexity.cpp, function perplexity
lm-eval   lm-evaluation-harness, loglikelihood_rolling of models/huggingface.py, process_results of
          tasks/wikitext/preprocess_wikitext.py
segments  each document separately: begin-of-text token, then the text, cut off at the context

The text is demo-excerpt.txt. If a protocol has documents, they are the stories, without the white space around
"<|endoftext|>"; otherwise the text is the whole file unchanged. The demo model uses its own tokenizer. gpt2-tiny has
no tokenizer and gets the first 2,500 bytes: token b is byte b.
"""
import argparse
import json
import math
import re

import numpy as np

from export_golden import AGREEMENT, DEMO, EXCERPT, GOLDEN, hf_logits, load_hf, sha256, versions
from gpt2_numpy import forward, read_model

OUT = GOLDEN / "perplexity.json"
SEPARATOR = "<|endoftext|>"
BOS = 0  # for both models, from their config.json
WINDOWS = 8  # number of windows whose sums the file lists


def log_softmax(logits):
    peak = logits.max(-1, keepdims=True)
    return logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))


def nll(model, inputs, targets):
    """-ln p of each target; the last len(targets) rows of the inputs' logits predict them."""
    rows = log_softmax(model(inputs))[len(inputs) - len(targets):]
    return [-float(row[target]) for row, target in zip(rows, targets)]


# ---- the protocols: lists of nll, one per window --------------------------------------------------------------------


def hf(model, ids, window, stride):
    """The page's loop: trg_len new tokens per window. The labels are shifted by one, so the first window loses one
    token; with stride = window every window does."""
    out, previous = [], 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        trg_len = min(end - previous, end - begin - 1)
        out.append(nll(model, ids[begin:end - 1], ids[end - trg_len:end]) if trg_len else [])
        previous = end
        if end == len(ids):
            break
    return out


def llama(model, ids, n_ctx, bos):
    """llama.cpp's loop: first = n_ctx / 2, logits first .. n_ctx - 2 of each chunk are scored."""
    tokens = ([bos] if bos is not None else []) + ids
    out, first = [], n_ctx // 2
    for i in range(len(tokens) // n_ctx):
        chunk = tokens[i * n_ctx:(i + 1) * n_ctx]
        targets = chunk[first + 1:]
        if bos is not None:
            chunk[0] = bos
        out.append(nll(model, chunk[:-1], targets))
    return out


def rolling(model, ids, max_length, prefix):
    """Windows of max_length inputs and targets without overlap, as in loglikelihood_rolling with context_len 1. The last
    window's inputs include earlier tokens to reach max_length too."""
    out = [nll(model, ([prefix] + ids)[:min(max_length, len(ids))], ids[:max_length])]
    done = len(out[0])
    while done < len(ids):
        end = min(done + max_length, len(ids))
        out.append(nll(model, ids[end - max_length - 1:end - 1], ids[done:end]))
        done = end
    return out


def segments(model, ids, n_ctx, bos):
    tokens = ([bos] + ids)[:n_ctx]
    return [nll(model, tokens[:-1], tokens[1:])]


# ---- results --------------------------------------------------------------------------------------------------------


def summary(windows, texts=None):
    """Mean, standard error and perplexity over all tokens; with texts, also the figures of lm-eval."""
    values = [x for window in windows for x in window]
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1))
    stderr = deviation / math.sqrt(len(values))
    out = dict(tokens_scored=len(values), nll=mean, nll_stderr=stderr, perplexity=math.exp(mean),
               perplexity_stderr=math.exp(mean) * stderr)
    if texts:
        total = math.fsum(values)
        words = sum(len(re.split(r"\s+", text)) for text in texts)
        n_bytes = sum(len(text.encode()) for text in texts)
        out.update(words_scored=words, bytes_scored=n_bytes, word_perplexity=math.exp(total / words),
                   byte_perplexity=math.exp(total / n_bytes), bits_per_byte=total / n_bytes / math.log(2))
    # The sums of the first windows and the first tokens one by one, to help locate a difference.
    out["windows"] = [dict(tokens=len(window), nll_sum=math.fsum(window)) for window in windows[:WINDOWS]]
    out["first_nlls"] = values[:8]
    return out


def excerpt(n_bytes):
    return EXCERPT.read_bytes()[:n_bytes].decode()


def cases(model, encode, text, n_positions):
    """Every protocol at the model's context and at a smaller one."""
    stories = [story.strip() for story in text.split(SEPARATOR)]
    stream, documents = encode(text), [encode(story) for story in stories]
    n, small = n_positions, n_positions // 8
    for context, stride in [(n, n // 2), (n, n), (small * 2, small // 2)]:
        yield dict(protocol="hf", context=context, stride=stride, bos=None,
                   **summary(hf(model, stream, context, stride)))
    for context, bos in [(n, None), (n, BOS), (small, BOS), (small - 1, None)]:
        yield dict(protocol="llama", context=context, stride=context, bos=bos,
                   **summary(llama(model, stream, context, bos)))
    for context in (n, small):
        windows = [window for ids in documents for window in rolling(model, ids, context, BOS)]
        yield dict(protocol="lm-eval", context=context, stride=context, bos=BOS, **summary(windows, stories))
        windows = [window for ids in documents for window in segments(model, ids, context, BOS)]
        yield dict(protocol="segments", context=context, stride=context, bos=BOS, **summary(windows))


def demo_encode(text):
    from tokenizers import Tokenizer
    return Tokenizer.from_file(str(DEMO / "tokenizer.json")).encode(text, add_special_tokens=False).ids


# name -> (folder, text to ids, bytes of the excerpt: bytes are many tokens)
MODELS = {"demo": (DEMO, demo_encode, EXCERPT.stat().st_size),
          "gpt2-tiny": (GOLDEN / "gpt2-tiny", lambda text: list(text.encode()), 2500)}


def export():
    out = dict(made_with=versions(), text=dict(file=EXCERPT.name, sha256=sha256(EXCERPT)), models={})
    for name, (folder, encode, n_bytes) in MODELS.items():
        text = excerpt(n_bytes)
        n_positions = json.loads((folder / "config.json").read_text())["n_positions"]
        model = {dtype: load_hf(folder, dtype) for dtype in ("float64", "float32")}
        results = {dtype: list(cases(lambda ids: hf_logits(hf_model, [ids])[0], encode, text, n_positions))
                   for dtype, hf_model in model.items()}
        for f64, f32 in zip(results["float64"], results["float32"]):
            f64["nll_f32"] = f32["nll"]
        out["models"][name] = dict(model_sha256=sha256(folder / "model.safetensors"), n_positions=n_positions,
                                   n_bytes=n_bytes, n_tokens=len(encode(text)), cases=results["float64"])
    # One window per line.
    OUT.write_text(re.sub(r'\{\s+"tokens": (\d+),\s+"nll_sum": ([^\s]+)\s+\}', r'{"tokens": \1, "nll_sum": \2}',
                          json.dumps(out, indent=1)) + "\n")
    for name, model in out["models"].items():
        for case in model["cases"]:
            print(name, case["protocol"], case["context"], case["stride"], case["bos"], case["tokens_scored"],
                  case["nll"], f"f32 off by {abs(case['nll_f32'] / case['nll'] - 1):.1e}")


def verify():
    recorded = json.loads(OUT.read_text())
    assert recorded["text"]["sha256"] == sha256(EXCERPT), "the excerpt has changed"
    for name, (folder, encode, n_bytes) in MODELS.items():
        golden = recorded["models"][name]
        assert golden["model_sha256"] == sha256(folder / "model.safetensors"), f"the model {name} has changed"
        config, tensors = read_model(folder)
        found = list(cases(lambda ids: forward(config, tensors, ids), encode, excerpt(n_bytes), golden["n_positions"]))
        assert len(found) == len(golden["cases"])
        for case, expected in zip(found, golden["cases"]):
            what = (name, *(case[key] for key in ("protocol", "context", "stride", "bos")))
            assert all(case[key] == expected[key] for key in ("protocol", "context", "stride", "bos", "tokens_scored"))
            worst = max(abs(case[key] - expected[key]) for key in ("nll", "nll_stderr"))
            assert worst < AGREEMENT, (what, worst)
            print(*what, f"nll differs by {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["export", "verify"])
    {"export": export, "verify": verify}[parser.parse_args().step]()


if __name__ == "__main__":
    main()
