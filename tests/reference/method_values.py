"""Random values for the adapters of tests/data/methods: strong enough that leaving any tensor out would show."""

import math

import torch
from peft import PeftType

# Additive methods: the tensor that is rescaled until the delta is half as large as the weight it is added to.
LAST_FACTOR = ("lora_B", "lora_embedding_B", "hada_w2_a", "lokr_w2", "lokr_w2_a", "vera_lambda_b")


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
    if part == "boft_R":
        return normal * 0.8 / math.sqrt(p.shape[-1])
    if "oft_R" in name or "oft_embedding_R" in name:  # the upper triangles of blocks
        block = (1 + math.sqrt(1 + 8 * p.shape[-1])) / 2
        return normal * 0.35 / math.sqrt(block)
    if getattr(config, "use_bdlora", None):  # PEFT has no delta for blocks
        return normal * (0.5 if "lora_B" in name else 1.0) / math.sqrt(p.shape[-1])
    if part == "miss_block" and config.init_weights == "bat":
        return normal * 0.4 / math.sqrt(p.shape[-1])
    if part == "trainable_tokens_delta" or "token_adapter" in name:
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
    """Prompts and prefixes some times louder than what they stand beside, or 41 tokens would drown them."""
    if config.peft_type == PeftType.MULTITASK_PROMPT_TUNING:
        return normal * (2 * loud if name.endswith("embedding.weight") else 1.0)
    if config.peft_type == PeftType.PREFIX_TUNING:
        if name.endswith("bias"):
            return 0.3 * normal
        return normal if config.prefix_projection and "embedding" in name else normal * 2 / (math.sqrt(p.shape[-1]) if "transform" in name else 1)
    if config.peft_type == PeftType.P_TUNING:
        if "embedding" in name:
            return normal
        last = "mlp_head" in name and p.shape[0] == config.token_dim
        return normal * (6 * loud if last else 2.0) / math.sqrt(p.shape[-1] if p.dim() > 1 else 16)
    return normal * 2 * loud


def rescale(module):
    """Additive methods: the delta gets half the spread of the weight. All others have no such tensor."""
    if "default" in getattr(module, "miss_block", {}):  # its entries are those of the delta
        block = module.miss_block["default"]
        block.mul_(0.5 * module.get_base_layer().weight.std() / block.std())
    if not hasattr(module, "get_delta_weight"):
        return
    for kind in LAST_FACTOR:
        holder = getattr(module, kind, None)
        if holder is None or "default" not in holder:
            continue
        delta = module.get_delta_weight("default")
        if not delta.any():  # all ranks pruned
            continue
        weight = module.get_base_layer().weight
        factor = holder["default"]
        factor = factor.weight if hasattr(factor, "weight") else factor
        factor.mul_(0.5 * weight.std() / delta.std())
