"""Makes tests/data/tiny/<name>/hidden.json: transformers' last_hidden_state, alone and with an adapter of PEFT.

    python tests/reference/embeddings.py

Tokens are those of the case base-long in golden.json. Oracle and versions: gguf_hf.py.
"""

import json
import os

import gguf_hf
import torch
from gguf_hf import f32
from tiny_models import OUT, with_adapters

MODELS = ["llama-tied", "qwen2", "gemma3"]


@torch.no_grad()
def hidden_of(model, tokens):
    return model.model(torch.tensor([tokens]), use_cache=False).last_hidden_state[0].float()


def measure(model, adapters, tokens):
    hidden = hidden_of(model, tokens)
    row = lambda values: [f32(x) for x in values]
    return {"adapters": adapters, "tokens": tokens, "first": row(hidden[0]), "middle": row(hidden[len(tokens) // 2]),
            "last": row(hidden[-1]), "mean": row(hidden.double().mean(0))}


def main():
    for name in MODELS:
        folder = os.path.join(OUT, name)
        with open(os.path.join(folder, "golden.json")) as f:
            tokens = next(c["tokens"] for c in json.load(f)["cases"] if c["name"] == "base-long")
        model = gguf_hf.read_model(os.path.join(folder, "model.gguf"))
        cases = [measure(model, [], tokens)]
        with_adapters(model, os.path.join(folder, "adapters"), [("all-linear", 1.0)])
        cases.append(measure(model, [{"dir": "adapters/all-linear", "weight": 1.0}], tokens))
        text = {"model": "model.gguf", "versions": gguf_hf.versions(), "cases": cases}
        with open(os.path.join(folder, "hidden.json"), "w") as f:
            f.write(json.dumps(text, separators=(",", ":")).replace('{"adapters"', '\n{"adapters"') + "\n")


if __name__ == "__main__":
    main()
