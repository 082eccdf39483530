"""Adapters for the real models, made from a hash instead of being stored. tests/common/synth.rs is the same generator in Rust.

    python tests/reference/synth.py MODEL CASE FOLDER      (MODEL, CASE: names in tests/data/real/adapters.json)

Element i (row-major) of the tensor with the safetensors key K is

    h = mix32(fnv1a32(K) + i)              all in wrapping 32-bit arithmetic
    value = ((h >> 8) / 2^24 - 0.5) * width + middle          in float32, each operation rounded

with FNV-1a over the UTF-8 bytes of K and the MurmurHash3 finalizer as mix32.

`cases` are LoRA: the width is `scale_a` or `scale_b` of the model, the middle 0; BF16 and F16 round the float32 value to nearest, ties to
even. rank_pattern and alpha_pattern keys are plain path suffixes here: a key matches a path that equals it or ends in "." + key, and the
first match in file order wins, as in PEFT.

`methods` are all others. `config` is the file's, where "@x" is the model's field x. `tensors` stand at each layer's target modules (or
those in `modules`), `whole` once under their `key`. A dimension is a number, "in" or "out" of the module, or a field of the model, with
"/n" for a part of it. A width may differ from model to model. `times`: multiplied (rounded again) by the model's value for the module and
the layer.
"""

import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

REAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "real")
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def spec():
    with open(os.path.join(REAL, "adapters.json")) as f:
        return json.load(f)


def fnv1a32(key):
    h = 0x811C9DC5
    for byte in key.encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def mix32(h):
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def tensor(key, shape, width, middle=0.0, times=None):
    i = np.arange(int(np.prod(shape)), dtype=np.uint32)
    h = mix32(np.uint32(fnv1a32(key)) + i)
    unit = (h >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)
    value = unit * np.float32(width) + np.float32(middle)
    if times is not None:
        value = value * np.float32(times)
    return torch.from_numpy(value.reshape(shape))


def pick(pattern, path, default):
    return next((v for k, v in pattern.items() if path == k or path.endswith("." + k)), default)


def path_of(layer, module):
    block = "mlp" if module in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    return f"model.layers.{layer}.{block}.{module}"


def lora(shape, case):
    """The config and the tensors of one of `cases`."""
    tensors = {}
    for layer in range(shape["layers"]):
        for module in case["target_modules"]:
            path = path_of(layer, module)
            rank = pick(case["rank_pattern"], path, case["r"])
            out, width = shape["modules"][module]
            for part, dims in (("lora_A", (rank, width)), ("lora_B", (out, rank))):
                key = f"base_model.model.{path}.{part}.weight"
                scale = shape["scale_a"] if part == "lora_A" else shape["scale_b"]
                tensors[key] = tensor(key, dims, scale).to(DTYPES[case["dtype"]])
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
    config |= {k: case[k] for k in ("r", "lora_alpha", "use_rslora", "target_modules", "rank_pattern", "alpha_pattern")}
    return config, tensors


def method(model, shape, recipe):
    """The config and the tensors of one of `methods`."""
    field = lambda v: shape[v[1:]] if isinstance(v, str) and v.startswith("@") else v
    config = {k: field(v) for k, v in recipe["config"].items()} | {"task_type": "CAUSAL_LM"}
    tensors = {}

    def add(key, t, sizes, times=None):
        dims = [size(d, sizes) for d in t["shape"]]
        width = t["width"][model] if isinstance(t["width"], dict) else t["width"]
        tensors[key] = tensor(key, dims, width, t.get("middle", 0.0), times)

    for layer in range(shape["layers"]):
        for t in recipe.get("tensors", ()):
            for module in t.get("modules", config["target_modules"]):
                out, width = shape["modules"][module]
                times = shape[t["times"]][module][layer] if "times" in t else None
                add(f"base_model.model.{path_of(layer, module)}.{t['name']}", t, {"in": width, "out": out}, times)
    for t in recipe.get("whole", ()):
        add(t["key"], t, shape)
    return config, tensors


def size(dim, names):
    if isinstance(dim, int):
        return dim
    name, _, part = dim.partition("/")
    return names[name] // int(part or 1)


def write(model, case, folder):
    """Writes the PEFT folder of one case or method for one model."""
    everything = spec()
    shape = everything["models"][model]
    if case in everything["methods"]:
        config, tensors = method(model, shape, everything["methods"][case])
    else:
        config, tensors = lora(shape, everything["cases"][case])
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump(config, f, indent=2)
    save_file(tensors, os.path.join(folder, "adapter_model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    write(*sys.argv[1:4])
