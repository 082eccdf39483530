"""Reads a GGUF file into a transformers model: the bridge that every oracle script shares.

transformers has a loader of its own (`from_pretrained(dir, gguf_file=...)`), but it leaves out several metadata keys
(see `LOADER_GAPS`), so the configuration is built here from the file's metadata and the weights from gguf-py's
`dequantize`. The scripts compare both paths where transformers' own one works.

Pinned: torch 2.15.0, transformers 5.23.0, peft 0.21.2, gguf 0.19.0, numpy 2.4.6.
"""

import os
import re
import warnings

import gguf
import numpy as np
import torch
import transformers
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    AutoModelForCausalLM,
)

os.environ.setdefault("TQDM_DISABLE", "1")  # the loaders draw progress bars
warnings.filterwarnings("ignore", category=FutureWarning)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

LOADER_GAPS = """What transformers 5.23.0 does not read from a GGUF file (integrations/ggml.py, GGUF_CONFIG_MAPPING):
* every architecture: rope.scaling.* (linear, yarn) and the tensor rope_freqs.weight (Llama 3 RoPE): dropped silently
* llama: attention biases and MLP biases (attention_bias, mlp_bias stay false, the tensors are dropped)
* llama: head_dim comes from rope.dimension_count, not from attention.key_length
* llama with general.name exactly "mistral": becomes model_type mistral, which get_gguf_hf_weights_map refuses (NotImplementedError)
* qwen3: attention.key_length (head_dim stays at the default 128)
* gemma2: attn_logit_softcapping, final_logit_softcapping (defaults 50 and 30), query_pre_attn_scalar (default 256)
* gemma3: query_pre_attn_scalar (default 256, right only when head_dim is 256)
"""

CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "gemma2": Gemma2Config, "gemma3": Gemma3TextConfig}
GEMMA = ("gemma2", "gemma3")


def versions():
    import peft

    return {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "gguf": "0.19.0",
        "numpy": np.__version__,
    }


def permute(w, heads):
    """Row order of q/k in llama-architecture GGUF files: half-split rotary pairs become interleaved ones."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def name_map(arch, layers):
    arch_id = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch)
    return gguf.get_tensor_name_map(arch_id, layers)


def gguf_name(names, hf_name):
    base, suffix = hf_name.rsplit(".", 1)
    return f"{names.get_name(base)}.{suffix}"


def read_config(reader):
    """The transformers configuration that the metadata of a GGUF file describes."""
    meta = {k: f.contents() for k, f in reader.fields.items()}
    arch = meta["general.architecture"]
    tensors = {t.name for t in reader.tensors}

    def get(key, default=None):
        return meta.get(f"{arch}.{key}", default)

    heads = get("attention.head_count")
    hidden = get("embedding_length")
    head_dim = get("attention.key_length") or get("rope.dimension_count") or hidden // heads
    rope = {"rope_type": "default", "rope_theta": get("rope.freq_base", 10000.0)}
    kind = get("rope.scaling.type")
    if kind in ("linear", "yarn"):
        rope |= {"rope_type": kind, "factor": get("rope.scaling.factor")}
    if kind == "yarn":
        rope["original_max_position_embeddings"] = get("rope.scaling.original_context_length")
        for key in ("beta_fast", "beta_slow"):
            if (value := get(f"rope.scaling.yarn_{key}")) is not None:
                rope[key] = value
    if arch == "gemma3":
        rope = {"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    args = dict(
        vocab_size=len(meta["tokenizer.ggml.tokens"]),
        hidden_size=hidden,
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=get("attention.head_count_kv"),
        head_dim=head_dim,
        max_position_embeddings=get("context_length"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_parameters=rope,
        tie_word_embeddings="output.weight" not in tensors,
        bos_token_id=meta.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=meta.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=meta.get("tokenizer.ggml.padding_token_id"),
    )
    if arch == "llama":
        args |= dict(attention_bias="blk.0.attn_q.bias" in tensors, mlp_bias="blk.0.ffn_up.bias" in tensors)
    if arch in GEMMA:
        args |= dict(
            sliding_window=get("attention.sliding_window"),
            query_pre_attn_scalar=head_dim,
            attn_logit_softcapping=get("attn_logit_softcapping"),
            final_logit_softcapping=get("final_logit_softcapping"),
        )
    return CONFIGS[arch](**args)


def read_state(reader, config):
    """The dequantized weights under their Hugging Face names, in the Hugging Face layout."""
    arch = reader.fields["general.architecture"].contents()
    names = name_map(arch, config.num_hidden_layers)
    model = empty_model(config)
    stored = {t.name: t for t in reader.tensors}
    state, used = {}, set()
    for hf_name in model.state_dict():
        name = gguf_name(names, hf_name)
        if name not in stored and hf_name == "lm_head.weight":
            continue
        tensor = stored[name]
        used.add(name)
        w = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        w = w.reshape([int(n) for n in reversed(tensor.shape)])
        if arch == "llama" and re.search(r"attn_[qk]\.", name):
            w = unpermute(w, config.num_attention_heads if "attn_q." in name else config.num_key_value_heads)
        if arch in GEMMA and name.endswith("norm.weight"):
            w = w - np.float32(1.0)
        state[hf_name] = torch.from_numpy(np.ascontiguousarray(w))
    unused = set(stored) - used - {"rope_freqs.weight"}
    assert not unused, f"tensors left over: {sorted(unused)}"
    return state


def empty_model(config):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def read_model(path, config=None):
    """The model of a GGUF file in float32 with eager attention. `config` replaces what the metadata says."""
    reader = gguf.GGUFReader(path)
    config = config or read_config(reader)
    state = read_state(reader, config)
    model = empty_model(config)
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys and set(result.missing_keys) <= {"lm_head.weight"}, result
    model.tie_weights()
    return model


def read_with_transformers(path, config=None):
    """The same through transformers' own loader; `config` fills what that loader does not read."""
    extra = {} if config is None else {"config": config}
    folder, file = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager", **extra
    )
    return model.eval()


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


@torch.no_grad()
def greedy_of(model, tokens, n=32, cache=False):
    """n greedy tokens and the distance between the best two logits at each step; no stop token."""
    tokens, out, margins, past = list(tokens), [], [], None
    for _ in range(n):
        if cache:
            step = tokens if past is None else tokens[-1:]
            result = model(torch.tensor([step]), past_key_values=past, use_cache=True, logits_to_keep=1)
            past, last = result.past_key_values, result.logits[0, -1].float()
        else:
            last = logits_of(model, tokens)[-1]
        best = torch.topk(last, 2)
        out.append(int(best.indices[0]))
        margins.append(f32(best.values[0] - best.values[1]))
        tokens.append(out[-1])
    return out, margins


def mean_logprob(logits, tokens):
    """Mean natural-log probability of tokens 2..n, each given those before it."""
    logp = torch.log_softmax(logits[:-1].double(), -1)
    return float(logp.gather(1, torch.tensor(tokens[1:])[:, None]).mean())


def f32(x):
    """The shortest decimal that gives the same f32 again."""
    return float(str(np.float32(float(x))))
