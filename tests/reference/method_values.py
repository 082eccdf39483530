"""Random values for the adapters of tests/data/methods: strong enough that leaving any tensor out would show."""

import math

import torch
from peft import PeftType

# Additive methods: the tensor that is rescaled until the delta is half as large as the weight it is added to.
LAST_FACTOR = ("lora_B", "lora_embedding_B", "hada_w2_a", "lokr_w2", "lokr_w2_a", "vera_lambda_b", "miss_block")


def uniform(p, middle, width):
    return middle + width * (2 * torch.rand_like(p) - 1)


def fill(model, config):
    """Draws every trained tensor of the only adapter; the order is that of named_parameters, so a seed fixes all."""
    embedding = model.get_base_model().get_input_embeddings().weight
    loud = float(embedding.std())
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.copy_(value(name, p, config, loud))
            if "lora_E" in name and config.rank_pattern:  # AdaLoRA's allocator sets what it prunes to zero
                mask = config.rank_pattern.get(name.removeprefix("base_model.model."), [True] * len(p))
                p[~torch.tensor(mask)] = 0.0
        if getattr(config, "use_bdlora", None) or getattr(config, "init_weights", None) == "bat":
            return
        for module in model.modules():
            rescale(module)


def value(name, p, config, loud):
    part = name.removesuffix(".weight").removesuffix(".default").rsplit(".", 1)[-1]
    normal = torch.randn_like(p)
    if "lora_magnitude_vector" in name:
        return p * uniform(p, 1.0, 0.3)
    if part in ("lora_E", "road_alpha", "boft_s"):
        return uniform(p, 1.0, 0.4)
    if part == "ia3_l":
        return uniform(p, 1.0, 0.5)
    if part in ("road_theta", "vera_lambda_d"):
        return uniform(p, 0.0, 1.2)
    if "oft_R" in name or "oft_embedding_R" in name or part == "boft_R":
        block = config.oft_block_size if config.peft_type == PeftType.OFT else p.shape[-1]
        return normal * (0.35 if config.peft_type == PeftType.OFT else 0.8) / math.sqrt(block)
    if getattr(config, "use_bdlora", None):  # PEFT has no delta for blocks
        return normal * (0.5 if "lora_B" in name else 1.0) / math.sqrt(p.shape[-1])
    if part == "miss_block" and config.init_weights == "bat":
        return normal * 0.4 / math.sqrt(p.shape[-1])
    if part in ("trainable_tokens_delta", "prompt_embeddings") or "token_adapter" in name:
        return normal * loud
    if "prompt_encoder" in name:
        return prompt_value(name, p, normal, config, loud)
    if part == "beft_bias" or name.endswith(".bias"):
        return p + 0.5 * normal
    if "norm" in name:
        return p + 0.3 * normal
    if "modules_to_save" in name or "original_module" in name or "embed_tokens.weight" in name or "lm_head.weight" in name:
        return p + 0.5 * p.std() * normal
    return normal


def prompt_value(name, p, normal, config, loud):
    """Prompts as loud as the embeddings; prefixes of unit variance, like the keys and values they stand beside."""
    if config.peft_type == PeftType.MULTITASK_PROMPT_TUNING:
        return normal * loud if name.endswith("embedding.weight") else normal
    if config.peft_type == PeftType.PREFIX_TUNING:
        if name.endswith("bias"):
            return 0.3 * normal
        return normal if "embedding" in name else normal * 1.5 / math.sqrt(p.shape[-1])
    if config.peft_type == PeftType.P_TUNING:
        last = "mlp_head.4" in name
        scale = 1.0 if "embedding" in name else (loud * 1.5 if last else 1.2) / math.sqrt(p.shape[-1])
        return normal * (0.2 * loud if name.endswith("bias") else scale)
    return normal * loud


def rescale(module):
    """Additive methods: the delta gets half the spread of the weight. All others have no such tensor."""
    if not hasattr(module, "get_delta_weight"):
        return
    for kind in LAST_FACTOR:
        holder = getattr(module, kind, None)
        if holder is None or "default" not in holder:
            continue
        delta = module.get_delta_weight("default")
        weight = module.get_base_layer().weight
        factor = holder["default"]
        factor = factor.weight if hasattr(factor, "weight") else factor
        factor.mul_(0.5 * weight.std() / delta.std())
