"""The adapters of tests/data/train: one configuration for each way in which a method has gradients of its own."""

from dataclasses import dataclass
from typing import Callable

from method_adapters import (
    ALL,
    ATTN,
    INVOCATION,
    MODELS,
    ROWS,
    SOME,
    TASK,
    TIED,
    UNTIED,
    adalora,
    bdlora,
    ia3,
    loha,
    lokr,
    lora,
    prefix,
    prompts,
    pruned,
    road,
    simple,
    vera,
)
from peft import BeftConfig, BOFTConfig, HRAConfig, LNTuningConfig, MissConfig, OFTConfig, TrainableTokensConfig

LLAMA, BOTH = ("llama-tied",), ("llama-tied", "qwen2")
QVD = ["q_proj", "v_proj", "down_proj"]


@dataclass
class Case:
    config: Callable
    models: tuple = MODELS
    regularised: bool = False  # AdaLoRA's loss with the term that PEFT adds to it
    detached: tuple = ()  # tensors on which the loss depends in a way that PEFT keeps out of the gradient
    factors: int = 1  # of BOFT


def wide(**k):
    return lora(**({"r": 4, "lora_alpha": 8} | k))


LORA = {
    "lora": Case(wide(target_modules="all-linear")),
    "rslora": Case(wide(lora_alpha=6, use_rslora=True, target_modules=ATTN)),
    "dora": Case(wide(use_dora=True), detached=("lora_A", "lora_B")),
    "ia3": Case(ia3(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "lora-bias-only": Case(wide(bias="lora_only", target_modules=QVD), UNTIED),
    "lora-bias-all": Case(wide(r=2, bias="all", target_modules=["q_proj"]), UNTIED),
    "lora-bias-of-b": Case(wide(r=2, lora_bias=True, target_modules=QVD), BOTH),
    "lora-save-head": Case(wide(r=2, modules_to_save=["lm_head"], target_modules=["v_proj"]), UNTIED),
    "lora-save-embedding": Case(wide(r=2, modules_to_save=["embed_tokens"], target_modules=["v_proj"]), TIED),
    "lora-save-tied": Case(wide(r=2, modules_to_save=["embed_tokens"], target_modules=["v_proj"], ensure_weight_tying=True), ("gemma3",)),
    "lora-save-norm": Case(wide(r=2, modules_to_save=["input_layernorm", "model.norm"], target_modules=["v_proj"])),
    "lora-embedding": Case(wide(target_modules=["embed_tokens", "q_proj"])),
    "lora-embedding-dora": Case(wide(target_modules=["embed_tokens"], use_dora=True), LLAMA, detached=("lora_embedding_",)),
    "lora-head": Case(wide(target_modules=["lm_head", "q_proj"]), UNTIED),
    "lora-tied": Case(wide(target_modules=["embed_tokens", "lm_head", "q_proj"], ensure_weight_tying=True), TIED),
    "lora-tokens": Case(wide(r=2, target_modules=["q_proj", "v_proj"], trainable_token_indices=ROWS)),
    "lora-tokens-both": Case(wide(r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": ROWS[:2], "lm_head": [40, 3, 100]}),
                             UNTIED),
    "lora-alora": Case(wide(r=2, alora_invocation_tokens=INVOCATION, target_modules=SOME), LLAMA),
    "lora-bdlora": Case(bdlora, LLAMA),
    "lora-patterns": Case(wide(target_modules=QVD, rank_pattern={"v_proj": 2}, alpha_pattern={"down_proj": 5}), LLAMA),
}
LOW_RANK = {
    "ia3-out": Case(ia3(target_modules=["q_proj", "o_proj", "down_proj"], feedforward_modules=[]), UNTIED),
    "vera": Case(vera(target_modules=SOME)),
    "vera-bias": Case(vera(bias="vera_only", target_modules=["q_proj", "v_proj"]), UNTIED),
    "adalora": Case(adalora()),
    "adalora-pruned": Case(pruned, LLAMA),
    "adalora-regularised": Case(adalora(orth_reg_weight=0.5), BOTH, regularised=True),
    "loha": Case(loha()),
    "lokr": Case(lokr(target_modules=SOME)),
    "lokr-full": Case(lokr(r=16, target_modules=QVD), LLAMA),
    "lokr-both": Case(lokr(r=1, decompose_both=True, decompose_factor=8, target_modules=SOME), LLAMA),
    "beft": Case(simple(BeftConfig)()),
}
oft = simple(OFTConfig, target_modules=SOME)  # blocks of 32, and the truncated series for the Cayley transform
boft = simple(BOFTConfig, boft_block_size=4, target_modules=QVD)
hra = simple(HRAConfig, r=4, target_modules=SOME)
miss = simple(MissConfig, r=8, target_modules=SOME)
TRANSFORMS = {
    "oft": Case(oft()),
    "oft-exact": Case(oft(use_cayley_neumann=False, target_modules=["q_proj", "v_proj"])),
    "oft-terms-2": Case(oft(oft_block_size=8, num_cayley_neumann_terms=2, target_modules=["q_proj", "v_proj"]), LLAMA),
    "oft-share": Case(oft(block_share=True, oft_block_size=16), LLAMA),
    "oft-embedding": Case(oft(oft_block_size=8, target_modules=["embed_tokens", "q_proj"]), LLAMA),
    "boft": Case(boft()),
    "boft-2": Case(boft(boft_n_butterfly_factor=2), LLAMA, factors=2),
    "hra": Case(hra()),
    "hra-gram-schmidt": Case(hra(apply_GS=True, target_modules=["q_proj", "v_proj"]), LLAMA),
    "road-1": Case(road(target_modules=SOME)),
    "road-2": Case(road(variant="road_2", target_modules=["q_proj", "v_proj"]), LLAMA),
    "road-4": Case(road(variant="road_4", target_modules=["q_proj", "v_proj"]), LLAMA),
    "miss": Case(miss()),
    "miss-padded": Case(miss(r=7, target_modules=["q_proj", "v_proj"]), LLAMA),
    "miss-mini": Case(miss(init_weights="mini", mini_r=4), LLAMA),
    "miss-bat": Case(miss(init_weights="bat", target_modules=["q_proj", "v_proj"]), LLAMA),
}
tokens = simple(TrainableTokensConfig, token_indices=ROWS)
REPLACED = {
    "ln-tuning": Case(simple(LNTuningConfig)()),
    "ln-tuning-heads": Case(simple(LNTuningConfig)(target_modules=["q_norm", "k_norm"]), ("gemma3",)),
    "tokens": Case(tokens()),
    "tokens-head": Case(tokens(target_modules=["lm_head"]), UNTIED),
    "prompt-tuning": Case(prompts()),
    "prefix-tuning": Case(prefix()),
    "prefix-tuning-long": Case(prefix(num_virtual_tokens=12), ("gemma3",)),  # beyond the window of 8
}
CASES = LORA | LOW_RANK | TRANSFORMS | REPLACED
