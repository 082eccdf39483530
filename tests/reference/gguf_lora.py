"""Makes tests/data/gguf-lora: LoRA adapters of tests/data/tiny and tests/data/methods as GGUF files.

    python tests/reference/gguf_lora.py

Follows llama.cpp's convert_lora_to_gguf.py (commit 0b03adaa of ggml-org/llama.cpp; read, not run: it is no package), with gguf-py as the
writer: names by gguf-py's tensor map, q and k of llama permuted in B (A has no output rows), A of the embedding transposed,
adapter.lora.alpha = lora_alpha, factors in float32 (--outtype f32) or the type of the file's name. One thing differs: that converter takes
no notice of use_rslora, so that its files of such adapters are too weak by sqrt(r); here alpha is lora_alpha * sqrt(r).

Oracle: the golden values that PEFT gave for the folders. Versions: gguf_hf.py.
"""

import json
import math
import os
import shutil

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file

import gguf_hf

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
OUT = os.path.join(DATA, "gguf-lora")
Q = gguf.GGMLQuantizationType

# model: [(folder of the adapter, type)]; the file is named after the folder.
TINY = [("all-linear", Q.F32), ("qv", Q.F32), ("rslora", Q.F32), ("f16", Q.F16), ("bf16", Q.BF16)]
METHODS = {
    "llama-tied": ["lora-alora", "lora-alora-repeat", "lora-embedding", "lora-embedding-attention"],
    "qwen2": ["lora-alora", "lora-embedding", "lora-head"],
    "gemma3": ["lora-alora", "lora-embedding"],
}


def pairs(folder):
    """{module: (A, B)}, the path without base_model.model."""
    found = {}
    for name, tensor in load_file(os.path.join(folder, "adapter_model.safetensors")).items():
        name = name.removeprefix("base_model.model.")
        module, factor = name.removesuffix(".weight").rsplit(".", 1)
        assert factor in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"), name
        found.setdefault(module, {})[factor[-1]] = tensor
    return {module: (both["A"], both["B"]) for module, both in found.items()}


def convert(folder, model, path, kind, readback=False):
    """Writes `path`. readback: the numbers that kind leaves of the factors, in float32."""
    with open(os.path.join(folder, "adapter_config.json")) as f:
        config = json.load(f)
    meta = {k: f.contents() for k, f in gguf.GGUFReader(os.path.join(DATA, "tiny", model, "model.gguf")).fields.items()}
    arch = meta["general.architecture"]
    names = gguf_hf.name_map(arch, meta[f"{arch}.block_count"])
    alpha = float(config["lora_alpha"]) * (math.sqrt(config["r"]) if config["use_rslora"] else 1.0)
    assert not config["use_dora"] and not config["rank_pattern"] and not config["alpha_pattern"]

    writer = gguf.GGUFWriter(path, arch)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_string("general.name", os.path.basename(folder))
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    if config["alora_invocation_tokens"]:
        writer.add_key_value(gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS, config["alora_invocation_tokens"],
                             gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for module, (a, b) in pairs(folder).items():
        name = gguf_hf.gguf_name(names, module + ".weight")
        if arch == "llama" and module.endswith((".q_proj", ".k_proj")):
            heads = meta["llama.attention.head_count" + ("_kv" if module.endswith("k_proj") else "")]
            b = gguf_hf.permute(b, heads)
        if name == "token_embd.weight":
            a = a.T
        for end, m in ((".lora_a", a), (".lora_b", b)):
            m = m.to(torch.float32).contiguous().numpy()
            # Where a row is no whole blocks the converter takes F16.
            block = gguf.GGML_QUANT_SIZES[kind][0]
            own = kind if m.shape[-1] % block == 0 else Q.F16
            raw = quantize(m, own)
            if readback:
                raw, own = dequantize(raw, own).astype(np.float32), Q.F32
            writer.add_tensor(name + end, raw, raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for model, adapters in METHODS.items():
        out = os.path.join(OUT, model)
        os.makedirs(out)
        for name, kind in TINY:
            convert(os.path.join(DATA, "tiny", model, "adapters", name), model, os.path.join(out, name + ".gguf"), kind)
        for name in adapters:
            convert(os.path.join(DATA, "methods", model, name), model, os.path.join(out, name + ".gguf"), Q.F32)
    source = os.path.join(DATA, "tiny", "llama-tied", "adapters", "all-linear")
    for file, readback in (("quantized", False), ("quantized-read", True)):
        convert(source, "llama-tied", os.path.join(OUT, "llama-tied", file + ".gguf"), Q.Q8_0, readback)


if __name__ == "__main__":
    main()
