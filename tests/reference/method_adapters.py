"""The adapters of tests/data/methods: one configuration for each way in which a PEFT method can be set up."""

from dataclasses import dataclass, field
from typing import Callable

from peft import (
    AdaLoraConfig,
    BeftConfig,
    BOFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    MultitaskPromptTuningConfig,
    OFTConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    RoadConfig,
    TrainableTokensConfig,
    VeraConfig,
)
from peft.tuners.lora.config import BdLoraConfig

MODELS = ("llama-tied", "qwen2", "gemma3")
TIED, UNTIED = ("llama-tied", "gemma3"), ("qwen2",)
TASK = "CAUSAL_LM"
ATTN = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
ALL = ATTN + MLP
SOME = ["q_proj", "v_proj", "o_proj", "down_proj"]  # where all would only make the files larger
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
loha = simple(LoHaConfig, r=2, alpha=3, target_modules=SOME)
lokr = simple(LoKrConfig, r=2, alpha=3, target_modules=ALL)
vera = simple(VeraConfig, r=8, target_modules=ALL, projection_prng_key=7)
adalora = simple(AdaLoraConfig, init_r=4, target_r=2, lora_alpha=6, total_step=10, target_modules=SOME)


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
    "lora-alora": Adapter(lora(alora_invocation_tokens=INVOCATION, target_modules=SOME)),
    "lora-alora-repeat": Adapter(lora(alora_invocation_tokens=[21, 21], target_modules=["q_proj", "v_proj"]), ("llama-tied",)),
    "lora-bdlora": Adapter(bdlora),
    "lora-high-rank": Adapter(lora(r=70, target_modules=r"model\.layers\.\d\.self_attn\.(v_proj)"), ("qwen2",)),  # more than its 32 rows
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
    "lora-pissa": Adapter(lora(init_lora_weights="pissa", target_modules=SOME)),
    "lora-pissa-rslora": Adapter(lora(init_lora_weights="pissa", use_rslora=True, r=3, target_modules=["v_proj", "down_proj"])),
    "lora-olora": Adapter(lora(init_lora_weights="olora", target_modules=SOME)),
    "lora-pissa-converted": Adapter(lora(init_lora_weights="pissa", target_modules=SOME), convert=True),
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
    "ia3-save-norm": Adapter(ia3(target_modules=["v_proj"], feedforward_modules=[], modules_to_save=["input_layernorm"]), UNTIED),
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
    "vera-bias": Adapter(vera(bias="vera_only", target_modules=["q_proj", "v_proj"]), UNTIED),
    "vera-no-projection": Adapter(vera(save_projection=False)),
}
oft = simple(OFTConfig, oft_block_size=8, target_modules=ALL)
boft = simple(BOFTConfig, boft_block_size=4, target_modules=["q_proj", "v_proj", "down_proj"])
hra = simple(HRAConfig, r=4, target_modules=SOME)
road = simple(RoadConfig, group_size=16, target_modules=ALL)
miss = simple(MissConfig, r=8, target_modules=ALL)
TRANSFORMS = {
    "oft": Adapter(oft()),
    "oft-exact": Adapter(oft(use_cayley_neumann=False)),
    "oft-terms-4": Adapter(oft(num_cayley_neumann_terms=4, target_modules=ATTN)),
    "oft-terms-8": Adapter(oft(num_cayley_neumann_terms=8, target_modules=ATTN)),
    "oft-blocks": Adapter(oft(r=4, oft_block_size=0, target_modules=["q_proj", "down_proj"])),
    "oft-coft": Adapter(oft(coft=True, eps=2.0, use_cayley_neumann=False)),
    "oft-share": Adapter(oft(block_share=True, oft_block_size=16)),
    "oft-embedding": Adapter(oft(target_modules=["embed_tokens", "q_proj"])),
    "oft-bias": Adapter(oft(bias="oft_only", target_modules=["q_proj", "v_proj"]), UNTIED),
    "boft": Adapter(boft()),
    "boft-blocks": Adapter(boft(boft_block_size=0, boft_block_num=8)),
    "boft-2": Adapter(boft(boft_n_butterfly_factor=2)),
    "boft-3": Adapter(boft(boft_n_butterfly_factor=3, target_modules=["q_proj", "down_proj"])),
    "boft-bias": Adapter(boft(bias="boft_only", target_modules=["q_proj", "v_proj"]), UNTIED),
    "hra": Adapter(hra()),
    "hra-odd": Adapter(hra(r=3, target_modules=ALL)),
    "hra-gram-schmidt": Adapter(hra(apply_GS=True)),
    "hra-bias": Adapter(hra(bias="all", target_modules=["q_proj"]), UNTIED),
    "road-1": Adapter(road()),
    "road-2": Adapter(road(variant="road_2")),
    "road-4": Adapter(road(variant="road_4")),
    "road-1-wide": Adapter(road(group_size=32, target_modules=["q_proj", "o_proj", "up_proj"])),
    "miss": Adapter(miss()),
    "miss-padded": Adapter(miss(r=7, target_modules=["q_proj", "v_proj", "down_proj"])),
    "miss-mini": Adapter(miss(init_weights="mini", mini_r=4)),
    "miss-bias": Adapter(miss(bias="miss_only", target_modules=["q_proj", "v_proj"]), UNTIED),
    "miss-bat": Adapter(miss(init_weights="bat", target_modules=ATTN)),
}
prompts = simple(PromptTuningConfig, num_virtual_tokens=5)
p_tuning = simple(PromptEncoderConfig, num_virtual_tokens=4, encoder_hidden_size=16)
prefix = simple(PrefixTuningConfig, num_virtual_tokens=5)
REPLACED = {
    "ln-tuning": Adapter(simple(LNTuningConfig)()),
    "ln-tuning-heads": Adapter(simple(LNTuningConfig)(target_modules=["q_norm", "k_norm"]), ("gemma3",)),
    "tokens": Adapter(simple(TrainableTokensConfig, token_indices=ROWS)()),
    "tokens-head": Adapter(simple(TrainableTokensConfig, token_indices=ROWS)(target_modules=["lm_head"]), UNTIED),
    "tokens-both": Adapter(simple(TrainableTokensConfig, token_indices=ROWS)(target_modules=["embed_tokens", "lm_head"]), UNTIED),
    "beft": Adapter(simple(BeftConfig)()),
    "beft-all": Adapter(simple(BeftConfig)(target_modules=ALL)),
}
PROMPTS = {
    "prompt-tuning": Adapter(prompts()),
    "prompt-tuning-long": Adapter(prompts(num_virtual_tokens=20)),  # beyond Gemma's window of 8
    "p-tuning": Adapter(p_tuning()),
    "p-tuning-lstm": Adapter(p_tuning(encoder_reparameterization_type="LSTM")),
    "prefix-tuning": Adapter(prefix()),
    "prefix-tuning-long": Adapter(prefix(num_virtual_tokens=12)),
    "prefix-tuning-projection": Adapter(prefix(prefix_projection=True, encoder_hidden_size=16)),
    "multitask": Adapter(simple(MultitaskPromptTuningConfig)(num_virtual_tokens=4, num_tasks=2, num_ranks=2)),
}
ADAPTERS = LORA | LOW_RANK | TRANSFORMS | REPLACED | PROMPTS
