"""Makes tests/data/adapters-bad: PEFT folders that Graft must refuse, with a manifest that says why.

    python tests/reference/bad_adapters.py

Each entry: {"dir", "kind", "stage", "model", "why"}. kind is "unsupported" (a valid PEFT adapter of a sort Graft cannot run yet) or
"invalid" (no tool should accept it); stage is "open" (the folder alone shows it) or "attach" (only the model does); model is the tiny
model it was made for. Each is a good adapter with one thing wrong: those of plain LoRA here, those of other methods in bad_methods.py.
Once a method is supported, its entry goes away.
"""

import json
import os
import shutil
import struct

import torch
from safetensors.torch import save_file

import bad_methods

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "adapters-bad")
MANIFEST = []
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
A0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
B0 = A0.replace("lora_A", "lora_B")


def note(name, kind, stage, why, model="llama-tied"):
    MANIFEST.append({"dir": name, "kind": kind, "stage": stage, "model": model, "why": why})
    return os.path.join(OUT, name)


def good(folder):
    """A small valid adapter on q_proj of both layers, to be broken by the caller."""
    torch.manual_seed(7)
    os.makedirs(folder)
    base = "base_model.model.model.layers."
    tensors = {}
    for layer in (0, 1):
        tensors[f"{base}{layer}.self_attn.q_proj.lora_A.weight"] = torch.randn(2, 64) / 8
        tensors[f"{base}{layer}.self_attn.q_proj.lora_B.weight"] = torch.randn(64, 2) / 2
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none",
              "use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None}
    write(folder, config, tensors)
    return config, tensors


def write(folder, config, tensors):
    with open(os.path.join(folder, CONFIG), "w") as f:
        f.write(config if isinstance(config, str) else json.dumps(config, indent=2, sort_keys=True))
    if tensors is not None:
        save_file(tensors, os.path.join(folder, TENSORS), metadata={"format": "pt"})


def edited(name, why, config=None, tensors=None, kind="invalid", stage="open"):
    """The good adapter with `config` entries changed (or its whole text replaced) and `tensors` edited by a function."""
    folder = note(name, kind, stage, why)
    saved, data = good(folder)
    if isinstance(config, dict):
        saved = saved | config
    if tensors:
        data = tensors(dict(data))
    write(folder, config if isinstance(config, str) else saved, data)
    return folder


def raw(name, why, config=None, tensors=None, kind="invalid"):
    """The good adapter with the bytes of one file replaced; b'' makes an empty file."""
    folder = note(name, kind, "open", why)
    good(folder)
    for file, data in ((CONFIG, config), (TENSORS, tensors)):
        if data is not None:
            with open(os.path.join(folder, file), "wb") as f:
                f.write(data)
    return folder


def header(text, data=b""):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text + data


def drop(key):
    return lambda t: {k: v for k, v in t.items() if k != key}


def replace(key, value):
    return lambda t: t | {key: value}


def valid_but_unsupported():
    for name, extra in {"qalora": {"use_qalora": True}, "kasa": {"kasa_config": {}}, "arrow": {"arrow_config": {"top_k": 2}},
                        "target-parameters": {"target_parameters": ["mlp.experts.gate_up_proj"]}}.items():
        edited(name, f"{next(iter(extra))} is set: the tensors do not mean plain LoRA", extra, kind="unsupported")
    for init in ("corda", "loftq", "lora_ga"):
        edited(f"init-{init}", f"init_lora_weights={init}: unconverted, relative to a changed base", {"init_lora_weights": init},
               kind="unsupported")
    edited("unknown-peft-type", "a peft_type that does not exist", {"peft_type": "WONDERTUNING"}, kind="unsupported")
    folder = note("pickle-only", "unsupported", "open", "adapter_model.bin is a pickle; the error should advise safetensors")
    _, tensors = good(folder)
    torch.save(tensors, os.path.join(folder, "adapter_model.bin"))
    os.remove(os.path.join(folder, TENSORS))


def invalid_tensors():
    edited("missing-b", "lora_A without its lora_B", tensors=drop(B0))
    edited("missing-a", "lora_B without its lora_A", tensors=drop(A0))
    edited("no-tensors", "no tensor at all", tensors=lambda t: {})
    edited("extra-tensor", "a tensor that is no part of any method", tensors=replace("base_model.model.model.surprise", torch.ones(3)))
    edited("plain-weight", "a replaced base weight without modules_to_save",
           tensors=replace("base_model.model.model.layers.0.mlp.up_proj.weight", torch.ones(2, 2)))
    edited("unprefixed-key", "a key without base_model.model.",
           tensors=lambda t: {k.removeprefix("base_model.model."): v for k, v in t.items()})
    edited("ranks-differ", "rows of A and columns of B differ", tensors=replace(A0, torch.randn(3, 64)))
    edited("vector-a", "lora_A with one dimension", tensors=replace(A0, torch.randn(128)))
    edited("cube-b", "lora_B with three dimensions", tensors=replace(B0, torch.randn(64, 2, 1)))
    edited("empty-rank", "rank 0 tensors", tensors=lambda t: t | {A0: torch.zeros(0, 64), B0: torch.zeros(64, 0)})
    edited("integer-tensor", "lora_A stored as int32", tensors=replace(A0, torch.ones(2, 64, dtype=torch.int32)))
    edited("nan-weight", "a NaN in lora_B", tensors=lambda t: t | {B0: t[B0].index_fill(0, torch.tensor([3]), float("nan"))})
    edited("inf-weight", "an infinity in lora_A", tensors=lambda t: t | {A0: t[A0].index_fill(1, torch.tensor([3]), float("inf"))})
    for name, a, b in (("wrong-in", (2, 60), (64, 2)), ("wrong-out", (2, 64), (48, 2)), ("swapped", (64, 2), (2, 64))):
        edited(name, f"shapes {a} and {b} do not fit q_proj (64, 64)" if name != "swapped" else "A and B exchanged: rank 64 over 2",
               tensors=lambda t, a=a, b=b: t | {A0: torch.randn(*a), B0: torch.randn(*b)}, stage="attach")
    rename = lambda old, new: lambda t: {k.replace(old, new): v for k, v in t.items()}
    edited("no-such-layer", "layers.7 of a model with 2", tensors=rename("layers.1.", "layers.7."), stage="attach")
    edited("huge-layer", "a layer number beyond 64 bits", tensors=rename("layers.1.", "layers.99999999999999999999."), stage="attach")
    edited("no-such-module", "self_attn.z_proj", tensors=rename("q_proj", "z_proj"), stage="attach")
    edited("gpt2-module", "a module path of another architecture", tensors=rename("model.layers.", "transformer.h."), stage="attach")


def invalid_configs():
    for name, value in (("zero", 0), ("negative", -2), ("huge", 1 << 62), ("float", 2.5), ("string", "2"), ("null", None)):
        edited(f"r-{name}", f"r is {value!r}", {"r": value})
    for name, value in (("string", "four"), ("null", None), ("list", [4])):
        edited(f"alpha-{name}", f"lora_alpha is {value!r}", {"lora_alpha": value})
    good_text = '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}'
    edited("r-nan", "r is the bare word NaN, which is no JSON", good_text.replace('"r": 2', '"r": NaN'))
    edited("alpha-infinite", "lora_alpha overflows a double", good_text.replace('"lora_alpha": 4', '"lora_alpha": 1e999'))
    edited("rank-contradiction", "r=16 in the configuration, rank 2 in the tensors, no rank_pattern (PEFT fails on the shapes)", {"r": 16})
    edited("rank-pattern-contradiction", "rank_pattern says 5, the tensors have rank 2", {"rank_pattern": {"q_proj": 5}})
    edited("rank-pattern-string", "rank_pattern is a string", {"rank_pattern": "q_proj"})
    edited("rank-pattern-zero", "rank_pattern gives rank 0", {"rank_pattern": {"q_proj": 0}})
    edited("alpha-pattern-broken", "alpha_pattern has a broken regular expression", {"alpha_pattern": {"(q_proj": 5}})
    edited("rslora-string", "use_rslora is a string", {"use_rslora": "yes"})
    edited("no-peft-type", "peft_type is missing", '{"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}')
    edited("config-list", "the configuration is a JSON list", "[1, 2, 3]")
    edited("config-other-json", "JSON that is no adapter configuration", '{"model_type": "llama", "hidden_size": 64}')
    edited("config-trailing", "text after the JSON value", good_text + " and more")
    edited("config-twice", "r is there twice, with two values", good_text[:-1] + ', "r": 3}')
    edited("unknown-field", "an option that nobody knows is on", {"use_wonder": True}, kind="unsupported")
    edited("config-deep", "100000 nested lists", "[" * 100_000)
    raw("config-empty", "an empty adapter_config.json", config=b"")
    raw("config-cut", "adapter_config.json cut in the middle", config=good_text[:40].encode())
    raw("config-not-utf8", "adapter_config.json is not UTF-8", config=good_text.encode().replace(b"q_proj", b"q\xff\xfeproj"))
    raw("config-nul", "adapter_config.json is all NUL bytes", config=bytes(64))
    os.remove(os.path.join(raw("no-config", "adapter_config.json is missing"), CONFIG))
    os.remove(os.path.join(raw("no-weights", "no weight file"), TENSORS))


def invalid_containers():
    folder = os.path.join(OUT, "container")
    good(folder)
    with open(os.path.join(folder, TENSORS), "rb") as f:
        whole = f.read()
    shutil.rmtree(folder)
    entry = lambda dtype, shape, start, end: {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    raw("safetensors-empty", "an empty weight file", tensors=b"")
    raw("safetensors-short", "fewer than 8 bytes", tensors=b"\x10\0\0")
    raw("safetensors-cut-header", "cut inside the header", tensors=whole[:100])
    raw("safetensors-cut-data", "cut inside the data", tensors=whole[:-100])
    raw("safetensors-trailing", "bytes after the last tensor", tensors=whole + bytes(64))
    raw("safetensors-huge-header", "header length 2^64-1", tensors=b"\xff" * 8 + whole[8:])
    raw("safetensors-not-json", "the header is no JSON", tensors=header("hello, world"))
    raw("safetensors-not-utf8", "the header is not UTF-8", tensors=header(b'{"\xff\xfe": {}}'))
    raw("safetensors-is-gguf", "a GGUF file under the name of a safetensors file", tensors=b"GGUF\x03\0\0\0" + bytes(64))
    f32 = entry("F32", [2, 64], 0, 512)
    cases = {
        "overlap": ("two tensors share bytes", {A0: f32, B0: entry("F32", [64, 2], 256, 768)}, 768),
        "gap": ("bytes between tensors that belong to none", {A0: f32, B0: entry("F32", [64, 2], 1024, 1536)}, 1536),
        "backwards": ("an end before its start", {A0: entry("F32", [2, 64], 512, 0)}, 512),
        "past-end": ("offsets beyond the file", {A0: entry("F32", [2, 64], 0, 1 << 40)}, 512),
        "shape-bytes": ("the shape and the number of bytes disagree", {A0: entry("F32", [2, 65], 0, 512)}, 512),
        "overflow": ("a product of dimensions beyond 64 bits", {A0: entry("F32", [1 << 62, 8], 0, 512)}, 512),
        "negative": ("a negative dimension", {A0: entry("F32", [-2, 64], 0, 512)}, 512),
        "dtype": ("a dtype that does not exist", {A0: entry("F33", [2, 64], 0, 512)}, 512),
    }
    for name, (why, tensors, size) in cases.items():
        raw(f"safetensors-{name}", why, tensors=header(json.dumps(tensors), bytes(size)))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    valid_but_unsupported()
    invalid_tensors()
    invalid_configs()
    invalid_containers()
    for name, kind, stage, why, config, tensors in bad_methods.cases():
        os.makedirs(folder := note(name, kind, stage, why))
        write(folder, config, tensors)
    with open(os.path.join(OUT, "manifest.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(m) for m in MANIFEST) + "\n]\n")
    print(len(MANIFEST), "adapters")


if __name__ == "__main__":
    main()
