"""Makes tests/data/combine: adapters mixed by PEFT's `add_weighted_adapter`, the oracle of `graft combine`.

    python tests/reference/combine.py

The base is tests/data/tiny/llama-tied, the adapters are its own and five more that are made here.
`cases.json` lists what was mixed how; the tensors of case NAME are in NAME.safetensors, as `save_pretrained` writes them.
"""

import json
import os
import shutil

import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import gguf_hf
import tiny_models

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data")
OUT = os.path.join(DATA, "combine")
TINY = os.path.join(DATA, "tiny", "llama-tied")
TWO = [("qv", 0.7), ("rslora", -0.4)]
# The same rank everywhere, in three types of numbers.
THREE = [("all-linear", 1.0), ("bf16", 0.5), ("f16", -0.75)]
# Equal magnitudes, which bf16 often has, may go or stay when PEFT prunes: so none in bf16.
PRUNED = [("all-linear", 1.0), ("seven", 0.5), ("f16", -0.75)]
DIFFERENT = [("patterns", 0.6), ("qv", 0.9), ("rslora", 1.1)]
EMBEDDINGS = [("embed-a", 0.8), ("embed-b", -0.5), ("qv", 1.0)]

# name: (adapters with weights, type, options)
CASES = {
    "linear": (TWO, "linear", {}),
    "linear-three": (THREE, "linear", {}),
    "linear-one": ([("qv", -0.5)], "linear", {}),
    "linear-embeddings": (EMBEDDINGS[:2], "linear", {}),
    "cat": (DIFFERENT, "cat", {}),
    "cat-rslora-first": (TWO[::-1], "cat", {}),
    "cat-embeddings": (EMBEDDINGS, "cat", {}),
    "svd": (DIFFERENT, "svd", {}),
    "svd-rank": (TWO, "svd", {"svd_rank": 5}),
    "svd-wide": (TWO, "svd", {"svd_rank": 16}),
    "svd-embeddings": (EMBEDDINGS, "svd", {"svd_rank": 6}),
    "ties": (TWO, "ties", {"density": 0.4}),
    "ties-frequency": (PRUNED, "ties", {"density": 0.6, "majority_sign_method": "frequency"}),
    "ties_svd": (DIFFERENT, "ties_svd", {"density": 0.3}),
    "ties_svd-frequency": (PRUNED, "ties_svd", {"density": 0.7, "majority_sign_method": "frequency", "svd_rank": 6}),
    "ties_svd-embeddings": (EMBEDDINGS[:2], "ties_svd", {"density": 0.5}),
    "magnitude_prune": (TWO, "magnitude_prune", {"density": 0.55}),
    "magnitude_prune_svd": (DIFFERENT, "magnitude_prune_svd", {"density": 0.2}),
    # Without pruning there is nothing random in them.
    "dare_linear": (TWO, "dare_linear", {"density": 1.0}),
    "dare_ties": (THREE, "dare_ties", {"density": 1.0}),
    "dare_linear_svd": (DIFFERENT, "dare_linear_svd", {"density": 1.0}),
    "dare_ties_svd": (TWO, "dare_ties_svd", {"density": 1.0}),
    "ia3": ([("ia3-a", 0.6), ("ia3-b", 0.4)], "linear", {}),
    "ia3-negative": ([("ia3-b", 1.5), ("ia3-a", -0.5)], "linear", {}),
}
# Of a mix whose own rank is not below svd_rank: the other vectors are any that are orthogonal.
CLAMPED = {"svd-clamp": ("svd-rank", 0.97), "svd-clamp-low": ("svd-rank", 0.8)}


def make_adapters(base):
    """Adapters whose every number is random, so that each of them has an effect."""
    made = {
        "seven": LoraConfig(r=4, lora_alpha=5, target_modules=tiny_models.ALL),
        "embed-a": LoraConfig(r=4, lora_alpha=6, target_modules=["embed_tokens", "v_proj"]),
        "embed-b": LoraConfig(r=4, lora_alpha=3, target_modules=["embed_tokens"]),
        "ia3-a": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "ia3-b": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    }
    for seed, (name, config) in enumerate(made.items()):
        torch.manual_seed(seed)
        config.task_type = "CAUSAL_LM"
        model = get_peft_model(base, config)
        with torch.no_grad():
            for key, p in model.named_parameters():
                if "ia3_l" in key:
                    p.copy_(1 + 0.5 * torch.randn_like(p))
                elif "lora_" in key:
                    p.copy_(0.2 * torch.randn_like(p))
        folder = os.path.join(OUT, "adapters", name)
        # The base's embedding would be larger than everything else here.
        model.save_pretrained(folder, save_embedding_layers=False)
        os.remove(os.path.join(folder, "README.md"))
        tiny_models.tidy_config(folder)
        base = model.unload()
    return base


def folder_of(name):
    own = os.path.join(OUT, "adapters", name)
    return own if os.path.exists(own) else os.path.join(TINY, "adapters", name)


def mix(base, adapters, kind, options):
    """The tensors and the config of PEFT's mix."""
    (first, _), *rest = adapters
    model = PeftModel.from_pretrained(base, folder_of(first), adapter_name=first)
    for name, _ in rest:
        model.load_adapter(folder_of(name), adapter_name=name)
    names, weights = zip(*adapters)
    if kind == "linear" and model.peft_config[first].peft_type == "IA3":
        model.base_model.add_weighted_adapter(list(names), list(weights), "mix")
    else:
        model.base_model.add_weighted_adapter(list(names), list(weights), "mix", combination_type=kind, **options)
    saved = os.path.join(OUT, "saved")
    model.save_pretrained(saved, selected_adapters=["mix"], save_embedding_layers=False)
    tensors = load_file(os.path.join(saved, "mix", "adapter_model.safetensors"))
    with open(os.path.join(saved, "mix", "adapter_config.json")) as f:
        config = json.load(f)
    shutil.rmtree(saved)
    return tensors, config, model.unload()


def clamped(tensors, q):
    """What PEFT's `svd_clamp` makes of the factors, once their signs (which LAPACK leaves open) are such that the entry of
    each row of A that is largest in magnitude is positive."""
    result = {}
    for key in tensors:
        if "lora_A" not in key:
            continue
        key_b = key.replace("lora_A", "lora_B")
        a, b = tensors[key].clone(), tensors[key_b].clone()
        sign = a.gather(1, a.abs().argmax(dim=1, keepdim=True)).sign()
        a, b = a * sign, b * sign.T
        high = torch.quantile(torch.cat([b.flatten(), a.flatten()]), q)
        result[key], result[key_b] = a.clamp(-high, high), b.clamp(-high, high)
    return result


def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    base = make_adapters(gguf_hf.read_model(os.path.join(TINY, "model.gguf")))
    cases, results = [], {}

    def record(name, adapters, kind, options, tensors, config):
        results[name] = tensors
        save_file({k: v.float().contiguous() for k, v in tensors.items()}, os.path.join(OUT, f"{name}.safetensors"))
        os.chmod(os.path.join(OUT, f"{name}.safetensors"), 0o644)
        listed = [{"dir": os.path.relpath(folder_of(n), OUT), "weight": w} for n, w in adapters]
        kept = {k: config.get(k) for k in ("r", "lora_alpha", "target_modules", "feedforward_modules") if k in config}
        kept = {k: sorted(v) if isinstance(v, list) else v for k, v in kept.items()}
        cases.append({"name": name, "adapters": listed, "type": kind, "options": options, "config": kept})

    for name, (adapters, kind, options) in CASES.items():
        tensors, config, base = mix(base, adapters, kind, options)
        record(name, adapters, kind, options, tensors, config)
    for name, (of, q) in CLAMPED.items():
        adapters, kind, options = CASES[of]
        config = next(c["config"] for c in cases if c["name"] == of)
        record(name, adapters, kind, options | {"svd_clamp": q}, clamped(results[of], q), config)
    text = json.dumps({"versions": gguf_hf.versions(), "cases": cases}).replace('{"name"', '\n{"name"')
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        f.write(text + "\n")


if __name__ == "__main__":
    main()
