"""Makes tests/data/tiny: random tiny models as GGUF, PEFT adapters for them, and golden logits.

    python tests/reference/tiny_models.py            all models
    python tests/reference/tiny_models.py NAME...    only these

Everything follows from the seeds below. Oracle: transformers in float32 on the CPU, eager attention, no KV cache; adapters
are written by PEFT's `save_pretrained`, read back by `PeftModel.from_pretrained`, and only then measured. Versions: gguf_hf.py.
"""

import json
import math
import os
import shutil
import sys

import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Gemma2Config, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

import gguf_hf
import tiny_tokenizers
from gguf_hf import f32, greedy_of, logits_of, mean_logprob

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "tiny")
Q = gguf.GGMLQuantizationType
BASE = dict(vocab_size=tiny_tokenizers.VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
GEMMA = dict(hidden_activation="gelu_pytorch_tanh", head_dim=16, query_pre_attn_scalar=16, sliding_window=8)


def rope(kind="default", theta=10000.0, **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
G3_ROPE = {"full_attention": rope(theta=1e6), "sliding_attention": rope()}
G3_LINEAR = {"full_attention": rope("linear", 1e6, factor=8.0), "sliding_attention": rope()}
G3 = BASE | GEMMA | dict(hidden_size=32, intermediate_size=64, num_hidden_layers=7, num_key_value_heads=1)
YARN = BASE | dict(hidden_size=64, num_attention_heads=2, num_key_value_heads=1)

# name: (architecture in GGUF, tokenizer, configuration)
MODELS = {
    "llama-tied": ("llama", "smollm", LlamaConfig(**BASE, tie_word_embeddings=True, rope_parameters=rope(theta=100000.0))),
    "llama-separate-bias": ("llama", "spm", LlamaConfig(**BASE, attention_bias=True, mlp_bias=True, rope_parameters=rope())),
    "llama3-rope": ("llama", "llama-bpe", LlamaConfig(**BASE, rope_parameters=rope("llama3", **LLAMA3))),
    "llama-linear-rope": ("llama", "spm", LlamaConfig(**BASE, rope_parameters=rope("linear", factor=4.0))),
    "llama-yarn": ("llama", "spm", LlamaConfig(**YARN, rope_parameters=rope(
        "yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=4.0, beta_slow=1.0))),
    "mistral": ("llama", "spm", MistralConfig(**BASE, head_dim=24, sliding_window=None, rope_parameters=rope(theta=1e6))),
    "qwen2": ("qwen2", "qwen2", Qwen2Config(**BASE, rope_parameters=rope(theta=1e6))),
    "qwen2-yarn": ("qwen2", "qwen2", Qwen2Config(**YARN, rope_parameters=rope(
        "yarn", factor=2.0, original_max_position_embeddings=512))),
    "qwen3": ("qwen3", "qwen2", Qwen3Config(**BASE, head_dim=32, tie_word_embeddings=True, rope_parameters=rope(theta=1e6))),
    "gemma2": ("gemma2", "spm-gemma", Gemma2Config(**BASE | GEMMA | dict(
        num_hidden_layers=4, attn_logit_softcapping=5.0, final_logit_softcapping=10.0, rope_parameters=rope()))),
    "gemma3": ("gemma3", "spm-gemma", Gemma3TextConfig(**G3, rope_parameters=G3_ROPE)),
    "gemma3-linear": ("gemma3", "spm-gemma", Gemma3TextConfig(**G3, rope_parameters=G3_LINEAR)),
}

# Block types by tensor-name part, first match wins; everything else stays F32. Adapters are the sibling's.
QUANTIZED = {
    "llama-tied-q8_0": ("llama-tied", [("norm", Q.F32), ("", Q.Q8_0)]),
    "qwen2-q4_0": ("qwen2", [("norm", Q.F32), ("bias", Q.F32), ("output.weight", Q.Q8_0), ("attn_v", Q.Q5_0), ("attn_k", Q.Q5_1),
                             ("ffn_up", Q.Q4_1), ("", Q.Q4_0)]),
    "gemma3-mixed": ("gemma3", [("norm", Q.F32), ("token_embd", Q.F16), ("attn_q", Q.BF16), ("attn_v", Q.BF16), ("attn_k", Q.F16),
                                ("ffn_down", Q.Q8_0), ("", Q.Q4_0)]),
}


def random_model(config, seed):
    """Scales that keep every part of the model alive: attention far from uniform, logits over several units."""
    torch.manual_seed(seed)
    model = gguf_hf.empty_model(config)
    gemma = "gemma" in config.model_type
    with torch.no_grad():
        for name, p in model.named_parameters():
            fan_in = p.shape[-1]
            tied = config.tie_word_embeddings
            if "norm" in name:
                loud = 1.0 if gemma and ("post_" in name or name == "model.norm.weight") else 0.0
                p.copy_(0.3 * torch.randn_like(p) + loud + (0.0 if gemma else 1.0))
            elif name.endswith("bias"):
                p.copy_(0.5 * torch.randn_like(p))
            elif "embed_tokens" in name:
                p.copy_((0.2 if gemma else 0.5) * torch.randn_like(p))
            elif "lm_head" in name:
                p.copy_(3.0 / math.sqrt(fan_in) * torch.randn_like(p))
            else:
                scale = 1.6 if "q_proj" in name or "k_proj" in name else 1.1
                if tied and ("o_proj" in name or "down_proj" in name):
                    scale = 2.5  # or every greedy token would repeat the last one: the head is the embedding
                p.copy_(scale / math.sqrt(fan_in) * torch.randn_like(p))
    model.tie_weights()
    return model


def write_gguf(path, arch, tokenizer, model, name, types=()):
    """What llama.cpp's converter writes for such a checkpoint: key names, q/k row order, norm offsets, no tied head."""
    c = model.config
    w = gguf.GGUFWriter(path, arch)
    w.add_name(name)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    parameters = c.rope_parameters
    if arch == "gemma3":
        parameters = parameters["full_attention"]
    if arch != "gemma2":
        w.add_rope_freq_base(parameters["rope_theta"])
    if arch == "llama":
        w.add_vocab_size(c.vocab_size)
        w.add_rope_dimension_count(head_dim)
    if head_dim != c.hidden_size // c.num_attention_heads or arch in ("gemma2", "gemma3", "qwen3"):
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if arch in ("gemma2", "gemma3"):
        w.add_sliding_window(c.sliding_window)
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c.attn_logit_softcapping)
        w.add_final_logit_softcapping(c.final_logit_softcapping)
    if parameters["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(parameters["rope_type"]))
        w.add_rope_scaling_factor(parameters["factor"])
    if parameters["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
        if "beta_fast" in parameters:
            w.add_rope_scaling_yarn_beta_fast(parameters["beta_fast"])
            w.add_rope_scaling_yarn_beta_slow(parameters["beta_slow"])
    if tokenizer.startswith("spm"):
        tiny_tokenizers.sentencepiece(w, gemma="gemma" in tokenizer)
    else:
        tiny_tokenizers.byte_bpe(w, tokenizer)
    w.add_file_type(gguf.LlamaFileType.ALL_F32 if not types else gguf.LlamaFileType.MOSTLY_Q4_0)
    if types:
        w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    names = gguf_hf.name_map(arch, c.num_hidden_layers)
    if parameters["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(parameters, head_dim))
    for hf_name, p in model.state_dict().items():
        if hf_name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        gguf_name = gguf_hf.gguf_name(names, hf_name)
        a = p.numpy().astype(np.float32)
        if arch == "llama" and (".attn_q." in gguf_name or ".attn_k." in gguf_name):
            a = gguf_hf.permute(a, c.num_attention_heads if ".attn_q." in gguf_name else c.num_key_value_heads)
        if arch in ("gemma2", "gemma3") and gguf_name.endswith("norm.weight"):
            a = a + np.float32(1.0)
        kind = next((t for part, t in types if part in gguf_name), Q.F32) if a.ndim > 1 else Q.F32
        a = np.ascontiguousarray(a)
        w.add_tensor(gguf_name, a if kind == Q.F32 else gguf.quantize(a, kind), raw_dtype=None if kind == Q.F32 else kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def llama3_factors(p, head_dim):
    """Divisors of the rotary frequencies: 1 for short waves, `factor` for long ones, a smooth step between."""
    factors = []
    for i in range(0, head_dim, 2):
        wave = 2 * math.pi * p["rope_theta"] ** (i / head_dim)
        turns = p["original_max_position_embeddings"] / wave
        smooth = (turns - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"])
        smooth = min(1.0, max(0.0, smooth))
        factors.append(1.0 / (smooth + (1.0 - smooth) / p["factor"]))
    return np.array(factors, dtype=np.float32)


ATTN = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = ATTN + ["gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "qv": (dict(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]), torch.float32),
    "all-linear": (dict(r=4, lora_alpha=8, target_modules="all-linear"), torch.float32),
    "rslora": (dict(r=8, lora_alpha=6, use_rslora=True, target_modules=ATTN), torch.float32),
    "patterns": (dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "gate_proj", "down_proj"],
                      rank_pattern={"q_proj": 2, "layers.1.self_attn.v_proj": 8, r"layers\.[01]\.mlp\.gate_proj": 3},
                      alpha_pattern={"k_proj": 5, "layers.0.mlp.down_proj": 12, r"layers\.\d+\.self_attn\.v_proj": 6}), torch.float32),
    "bf16": (dict(r=4, lora_alpha=8, target_modules=ALL), torch.bfloat16),
    "f16": (dict(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj", "up_proj"]), torch.float16),
}
CASES = {name: [(name, 1.0)] for name in ADAPTERS} | {
    "half": [("all-linear", 0.5)],
    "two": [("qv", 1.0), ("all-linear", 1.0)],
    "two-weighted": [("rslora", 0.75), ("patterns", -0.5)],
}


def save_adapter(base, folder, settings, dtype, seed):
    """An adapter whose effect is about half as large as the module it sits on."""
    torch.manual_seed(seed)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **settings))
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "lora_B") and "default" in getattr(module, "lora_B", {}):
                a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
                a.copy_(torch.randn_like(a) / math.sqrt(a.shape[1]))
                b.copy_(torch.randn_like(b) * 0.5 / (module.scaling["default"] * math.sqrt(a.shape[0])))
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data = p.data.to(dtype)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    tidy_config(folder)
    return model.unload()


def tidy_config(folder):
    """PEFT writes sets in an order that differs from run to run; sorted, the file can be made again byte for byte."""
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        config = json.load(f)
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    with open(path, "w") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True))


def with_adapters(base, folders, wanted):
    """PEFT's own sum of several adapters; a weight multiplies the adapter's scaling."""
    first, *rest = wanted
    model = PeftModel.from_pretrained(base, os.path.join(folders, first[0]), adapter_name=first[0])
    for name, _ in rest:
        model.load_adapter(os.path.join(folders, name), adapter_name=name)
    model.base_model.set_adapter([name for name, _ in wanted])
    for module in model.modules():
        scaling = getattr(module, "scaling", None)
        for name, weight in wanted:
            if isinstance(scaling, dict) and name in scaling:
                scaling[name] *= weight
    return model.eval()


def measure(model, name, adapters, tokens):
    logits = logits_of(model, tokens)
    greedy, margins = greedy_of(model, tokens)
    n = len(tokens)
    positions = [{"pos": p, "logits": [f32(x) for x in logits[p]]} for p in sorted({0, n // 2, n - 1})]
    return {"name": name, "adapters": adapters, "tokens": tokens, "positions": positions, "greedy": greedy,
            "greedy_margin": margins, "mean_logprob": mean_logprob(logits, tokens)}


def prompts(seed):
    rng = np.random.default_rng(seed)
    draw = lambda n: [int(t) for t in rng.integers(4, tiny_tokenizers.VOCAB, n)]
    return {"short": draw(5), "long": draw(41)}


def golden(path, model, adapters_dir, texts):
    cases = [measure(model, f"base-{k}", [], t) for k, t in texts.items()]
    relative = os.path.relpath(adapters_dir, os.path.dirname(path))
    for name, wanted in CASES.items():
        adapted = with_adapters(model, adapters_dir, wanted)
        listed = [{"dir": f"{relative}/{n}", "weight": w} for n, w in wanted]
        cases.append(measure(adapted, name, listed, texts["long"]))
        model = adapted.unload()
    plain, base = cases[1]["positions"][-1]["logits"], np.std(cases[1]["positions"][-1]["logits"])
    effect = {c["name"]: round(float(np.std(np.subtract(c["positions"][-1]["logits"], plain))), 2) for c in cases[2:]}
    print(f"    logits spread {base:.2f}; adapters move them by {effect}")
    text = {"model": os.path.basename(path), "versions": gguf_hf.versions(), "cases": cases}
    with open(os.path.join(os.path.dirname(path), "golden.json"), "w") as f:
        f.write(json.dumps(text, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    return model


def differ(a, b, tokens):
    return float((logits_of(a, tokens) - logits_of(b, tokens)).abs().max())


def check(path, source, texts):
    """The file read back, by our bridge and by transformers' loader, against the model it was written from."""
    own = gguf_hf.read_model(path, config=source.config)
    line = [f"bridge {differ(source, own, texts['long']):.1e}"]
    if source.config.rope_parameters.get("rope_type") != "llama3" and source.config.model_type != "mistral":
        line.append(f"bridge+metadata {differ(source, gguf_hf.read_model(path), texts['long']):.1e}")
    for label, config in (("transformers with the right config", source.config), ("transformers alone", None)):
        try:
            line.append(f"{label} {differ(source, gguf_hf.read_with_transformers(path, config), texts['long']):.1e}")
        except Exception as e:  # noqa: BLE001 -- the report says which loads fail
            line.append(f"{label}: {type(e).__name__} {str(e)[:80]!r}")
    print("    " + "; ".join(line))
    assert differ(source, own, texts["long"]) < 2e-5


def make(name, seed):
    arch, tokenizer, config = MODELS[name]
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    path = os.path.join(folder, "model.gguf")
    model = random_model(config, seed)
    gguf_title = "mistral" if name == "mistral" else f"tiny {name}"
    write_gguf(path, arch, tokenizer, model, gguf_title)
    texts = prompts(seed)
    check(path, model, texts)
    for i, (adapter, (settings, dtype)) in enumerate(ADAPTERS.items()):
        model = save_adapter(model, os.path.join(folder, "adapters", adapter), settings, dtype, 1000 * seed + i)
    golden(path, gguf_hf.read_model(path, config=config), os.path.join(folder, "adapters"), texts)


def make_quantized(name):
    sibling, types = QUANTIZED[name]
    arch, tokenizer, config = MODELS[sibling]
    seed = list(MODELS).index(sibling) + 1
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    path = os.path.join(folder, "model.gguf")
    write_gguf(path, arch, tokenizer, random_model(config, seed), f"tiny {name}", types)
    model = gguf_hf.read_model(path, config=config)
    golden(path, model, os.path.join(OUT, sibling, "adapters"), prompts(seed))


def main():
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or [*MODELS, *QUANTIZED]
    for name in wanted:
        print(name, flush=True)
        if name in MODELS:
            make(name, list(MODELS).index(name) + 1)
        else:
            make_quantized(name)


if __name__ == "__main__":
    main()
