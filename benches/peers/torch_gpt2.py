#!/usr/bin/env python3
"""Measures GPT-2 shapes with random weights in PyTorch, for comparison with
`wgpt bench model --random` on a GPU.

Measures, in f16 on CUDA (f32 on the CPU):
  - prefill of 512 tokens and decode of single tokens with a static KV cache, eager
    and compiled (torch.compile, mode "reduce-overhead": CUDA graphs);
  - torch.mm at the shapes of the prefill's four projections;
  - the bandwidth of a copy.
Medians over repetitions, as one JSON object on stdout.

Usage: torch_gpt2.py [gpt2|gpt2-medium|gpt2-large|gpt2-xl] [--device cuda|cpu]
                     [--prompt N] [--tokens N] [--repetitions N]
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = {
    "tiny": (2, 64, 4),
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
}
VOCAB, N_CTX = 50257, 1024


class Block(torch.nn.Module):
    def __init__(self, n_embd, n_head, device, dtype):
        super().__init__()
        kwargs = {"device": device, "dtype": dtype}
        self.n_head = n_head
        self.ln_1 = torch.nn.LayerNorm(n_embd, **kwargs)
        self.c_attn = torch.nn.Linear(n_embd, 3 * n_embd, **kwargs)
        self.c_proj = torch.nn.Linear(n_embd, n_embd, **kwargs)
        self.ln_2 = torch.nn.LayerNorm(n_embd, **kwargs)
        self.c_fc = torch.nn.Linear(n_embd, 4 * n_embd, **kwargs)
        self.mlp_proj = torch.nn.Linear(4 * n_embd, n_embd, **kwargs)
        head_dim = n_embd // n_head
        for name in ("k", "v"):
            cache = torch.zeros(1, n_head, N_CTX, head_dim, device=device, dtype=dtype)
            self.register_buffer(name, cache, persistent=False)

    def forward(self, x, positions, mask):
        rows = x.shape[1]
        q, k, v = self.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        split = lambda t: t.view(1, rows, self.n_head, -1).transpose(1, 2)
        self.k.index_copy_(2, positions, split(k))
        self.v.index_copy_(2, positions, split(v))
        scores = split(q) @ self.k.transpose(-1, -2) / self.k.shape[-1] ** 0.5
        heads = torch.softmax(scores + mask, dim=-1) @ self.v
        x = x + self.c_proj(heads.transpose(1, 2).reshape(1, rows, -1))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))


class Gpt2(torch.nn.Module):
    def __init__(self, shape, device, dtype):
        super().__init__()
        n_layer, n_embd, n_head = SHAPES[shape]
        self.wte = torch.nn.Embedding(VOCAB, n_embd, device=device, dtype=dtype)
        self.wpe = torch.nn.Embedding(N_CTX, n_embd, device=device, dtype=dtype)
        self.blocks = torch.nn.ModuleList(Block(n_embd, n_head, device, dtype) for _ in range(n_layer))
        self.ln_f = torch.nn.LayerNorm(n_embd, device=device, dtype=dtype)
        causal = torch.full((N_CTX, N_CTX), float("-inf"), device=device, dtype=dtype).triu(1)
        self.register_buffer("causal", causal, persistent=False)

    def forward(self, tokens, positions):
        x = self.wte(tokens) + self.wpe(positions)
        mask = self.causal[positions]
        for block in self.blocks:
            x = block(x, positions, mask)
        return self.ln_f(x[:, -1]) @ self.wte.weight.t()


def seconds(device, work, repetitions):
    """Median time of `work`, including the wait for the device."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    times = []
    for _ in range(repetitions + 2):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def measure(model, forward, args, device):
    tokens = torch.randint(VOCAB, (1, args.prompt), device=device)
    positions = torch.arange(args.prompt, device=device)
    prefill = seconds(device, lambda: forward(tokens, positions), args.repetitions)
    one = torch.randint(VOCAB, (1, 1), device=device)
    steps = [torch.tensor([i], device=device) for i in range(args.tokens)]

    def decode():
        for position in steps:
            forward(one, position)

    return {
        "prefill_tokens_per_second": args.prompt / prefill,
        "decode_tokens_per_second": args.tokens / seconds(device, decode, args.repetitions),
    }


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shape", nargs="?", default="gpt2", choices=SHAPES)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    device = args.device
    dtype = torch.float16 if device == "cuda" else torch.float32
    model = Gpt2(args.shape, device, dtype).eval()
    report = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "dtype": str(dtype),
        "shape": args.shape,
        "prompt": args.prompt,
        "tokens": args.tokens,
        "eager": measure(model, model, args, device),
        "compiled": None,
    }
    if hasattr(torch, "compile") and device == "cuda":
        compiled = torch.compile(model, mode="reduce-overhead", dynamic=False)
        report["compiled"] = measure(model, compiled, args, device)
    n_embd = SHAPES[args.shape][1]
    report["mm"] = []
    for n, k in ((3 * n_embd, n_embd), (n_embd, n_embd), (4 * n_embd, n_embd), (n_embd, 4 * n_embd)):
        x = torch.randn(args.prompt, k, device=device, dtype=dtype)
        w = torch.randn(k, n, device=device, dtype=dtype)
        rate = 2 * args.prompt * n * k / seconds(device, lambda: torch.mm(x, w), args.repetitions)
        report["mm"].append({"m": args.prompt, "n": n, "k": k, "gflops": rate / 1e9})
    a = torch.empty((256 if device == "cuda" else 16) << 20, device=device, dtype=torch.uint8)
    b = torch.empty_like(a)
    report["copy_gb_per_second"] = 2 * a.numel() / seconds(device, lambda: b.copy_(a), args.repetitions) / 1e9
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
