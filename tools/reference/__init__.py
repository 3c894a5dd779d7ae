"""Plain float64 decoders in numpy, one file per architecture: an independent check of tests/golden/.

A file has `MODELS`, the `model_type`s of config.json that it computes; `forward(config, tensors, ids)`, which returns
the logits [n, vocab_size] of one row of ids; and `CASES`, the golden checkpoints that tools/export_architectures.py
makes with it. Tensors have Hugging Face's names. Nothing here shares code with transformers: the formulas decide.
"""
from . import gemma, gpt_bigcode, gpt_neo, gpt_neox, gptj, llama, opt, phi, phi3, starcoder2

FILES = (llama, gemma, gpt_neox, gpt_neo, gptj, phi, phi3, opt, gpt_bigcode, starcoder2)
BY_MODEL_TYPE = {model_type: file for file in FILES for model_type in file.MODELS}


def forward(config, tensors, ids):
    return BY_MODEL_TYPE[config["model_type"]].forward(config, tensors, ids)
