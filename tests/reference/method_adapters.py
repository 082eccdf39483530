"""The adapters of tests/data/methods: one configuration for each way in which a PEFT method can be set up."""

from dataclasses import dataclass, field
from typing import Callable

from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, VeraConfig
from peft.tuners.lora.config import BdLoraConfig

MODELS = ("llama-tied", "qwen2", "gemma3")
TIED, UNTIED = ("llama-tied", "gemma3"), ("qwen2",)
TASK = "CAUSAL_LM"
ATTN = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
ALL = ATTN + MLP
# Tokens that methods.py puts into every prompt (13 apart) and one, 40, that it keeps out.
ROWS = [5, 17, 9, 40]
INVOCATION = [21, 22, 23]


@dataclass
class Adapter:
    config: Callable
    models: tuple = MODELS
    save: dict = field(default_factory=lambda: {"save_embedding_layers": False})
    grow: int = 0  # rows added to the vocabulary of the base before the adapter
    convert: bool = False  # save relative to the unchanged base (path_initial_model_for_weight_conversion)


def lora(**k):
    return lambda: LoraConfig(task_type=TASK, **({"r": 2, "lora_alpha": 4, "target_modules": ALL} | k))


def bdlora():
    blocks = BdLoraConfig(target_modules_bd_a=["o_proj", "down_proj"], target_modules_bd_b=["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"],
                          nblocks=2)
    return lora(r=4, use_bdlora=blocks)()


def simple(kind, **defaults):
    return lambda **k: lambda: kind(task_type=TASK, **(defaults | k))


ia3 = simple(IA3Config)
loha = simple(LoHaConfig, r=2, alpha=3, target_modules=ALL)
lokr = simple(LoKrConfig, r=2, alpha=3, target_modules=ALL)
vera = simple(VeraConfig, r=8, target_modules=ALL, projection_prng_key=7)
adalora = simple(AdaLoraConfig, init_r=4, target_r=2, lora_alpha=6, total_step=10, target_modules=ALL)


def pruned():
    """As AdaLoRA's allocator leaves it: a mask for every module, one rank of 0, the others between 1 and 4."""
    config = adalora(target_modules=["q_proj", "v_proj", "down_proj"])()
    masks = {"self_attn.q_proj": [True, False, True, True], "self_attn.v_proj": [False, False, True, False], "mlp.down_proj": [True] * 4}
    config.rank_pattern = {f"model.layers.{layer}.{path}.lora_E.default": mask for layer in (0, 1) for path, mask in masks.items()}
    config.rank_pattern["model.layers.1.self_attn.q_proj.lora_E.default"] = [False] * 4
    config.layers_to_transform = [0, 1]
    return config


LORA = {
    "lora": Adapter(lora()),
    "lora-other": Adapter(lora(r=3, lora_alpha=3, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"])),
    "lora-bias-of-b": Adapter(lora(lora_bias=True)),
    "lora-bias-only": Adapter(lora(bias="lora_only", target_modules=["q_proj", "v_proj", "down_proj"]), UNTIED),
    "lora-bias-all": Adapter(lora(bias="all", target_modules=["q_proj", "down_proj"]), UNTIED),
    "lora-dora": Adapter(lora(use_dora=True)),
    "lora-dora-rslora": Adapter(lora(use_dora=True, use_rslora=True, r=3, target_modules=["q_proj", "o_proj", "up_proj", "down_proj"])),
    "lora-alora": Adapter(lora(alora_invocation_tokens=INVOCATION)),
    "lora-bdlora": Adapter(bdlora),
    "lora-embedding": Adapter(lora(target_modules=["embed_tokens"])),
    "lora-embedding-attention": Adapter(lora(target_modules=["embed_tokens", "q_proj", "v_proj"])),
    "lora-embedding-dora": Adapter(lora(target_modules=["embed_tokens", "q_proj"], use_dora=True)),
    "lora-embedding-saved": Adapter(lora(target_modules=["embed_tokens"]), ("llama-tied", "gemma3"), {}),
    "lora-head": Adapter(lora(target_modules=["lm_head", "q_proj"]), UNTIED),
    "lora-head-dora": Adapter(lora(target_modules=["lm_head", "q_proj"], use_dora=True), UNTIED),
    "lora-head-saved": Adapter(lora(target_modules=["lm_head"]), UNTIED, {}),
    "lora-tied": Adapter(lora(target_modules=["embed_tokens", "lm_head", "q_proj"], ensure_weight_tying=True), TIED),
    "lora-tokens": Adapter(lora(target_modules=["q_proj", "v_proj"], trainable_token_indices=ROWS)),
    "lora-tokens-dict": Adapter(lora(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": ROWS[:2]}), TIED),
    "lora-tokens-both": Adapter(lora(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": ROWS[:2], "lm_head": [40, 3, 100]}),
                                UNTIED),
    "lora-replication": Adapter(lora(layer_replication=[[0, 2], [1, 2], [0, 1]], target_modules=["q_proj", "down_proj"]),
                                ("llama-tied", "qwen2")),
    "lora-pissa": Adapter(lora(init_lora_weights="pissa")),
    "lora-pissa-rslora": Adapter(lora(init_lora_weights="pissa", use_rslora=True, r=3, target_modules=["v_proj", "down_proj"])),
    "lora-olora": Adapter(lora(init_lora_weights="olora")),
    "lora-pissa-converted": Adapter(lora(init_lora_weights="pissa"), convert=True),
    "lora-save-head": Adapter(lora(modules_to_save=["lm_head"], target_modules=["v_proj"]), UNTIED),
    "lora-save-embedding": Adapter(lora(modules_to_save=["embed_tokens"], target_modules=["v_proj"])),
    "lora-save-norm": Adapter(lora(modules_to_save=["input_layernorm", "model.norm"], target_modules=["v_proj"])),
    "lora-save-mlp": Adapter(lora(modules_to_save=["layers.1.mlp"], target_modules=["v_proj"])),
    "lora-larger-vocabulary": Adapter(lora(target_modules=["v_proj"]), save={"save_embedding_layers": True}, grow=8),
}
LOW_RANK = {
    "ia3": Adapter(ia3(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3-all": Adapter(ia3(target_modules=ALL, feedforward_modules=["gate_proj", "down_proj"])),
    "ia3-only-out": Adapter(ia3(target_modules=["q_proj", "o_proj", "down_proj"], feedforward_modules=[])),
    "adalora": Adapter(adalora()),
    "adalora-pruned": Adapter(pruned),
    "loha": Adapter(loha()),
    "loha-high-rank": Adapter(loha(r=10, target_modules=["q_proj"])),
    "loha-patterns": Adapter(loha(target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"v_proj": 3}, alpha_pattern={"down_proj": 5})),
    "lokr": Adapter(lokr()),
    "lokr-full": Adapter(lokr(r=16, target_modules=["q_proj", "v_proj", "down_proj"])),
    "lokr-both": Adapter(lokr(r=1, decompose_both=True, decompose_factor=8)),
    "lokr-factor": Adapter(lokr(decompose_factor=4, target_modules=["k_proj", "o_proj", "up_proj"])),
    "lokr-patterns": Adapter(lokr(target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"v_proj": 3}, alpha_pattern={"down_proj": 5})),
    "vera": Adapter(vera()),
    "vera-no-projection": Adapter(vera(save_projection=False)),
}
ADAPTERS = LORA | LOW_RANK
