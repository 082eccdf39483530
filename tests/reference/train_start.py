"""Makes tests/data/train/start.json: how PEFT begins an adapter of each method that `graft train` begins.

    OMP_NUM_THREADS=1 python tests/reference/train_start.py

Oracle: `get_peft_model` and `save_pretrained` of PEFT. Of each tensor its shape; of those that are the same for every seed the sum, the first
and the last number; of the others together, by name, how many numbers, their deviation and their kurtosis. Versions: gguf_hf.py.
"""

import json
import os
import tempfile

import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    RoadConfig,
    TrainableTokensConfig,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import load_file

import train_exact
from method_adapters import MODELS, TASK, UNTIED

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "train", "start.json")
LLAMA, SOME = MODELS[:1], MODELS
ALPHA = 16  # what Graft takes where nothing is said
ALL = "all-linear"
# Graft's options; PEFT's class, its options beside them; models.
CASES = [
    ({"method": "lora"}, LoraConfig, {"r": 8, "lora_alpha": ALPHA, "target_modules": ALL}, LLAMA),
    ({"method": "lora", "r": 4, "init": "gaussian", "targets": "q_proj,v_proj"}, LoraConfig,
     {"r": 4, "lora_alpha": ALPHA, "init_lora_weights": "gaussian", "target_modules": ["q_proj", "v_proj"]}, LLAMA),
    ({"method": "lora", "targets": "q_proj", "dropout": 0.1}, LoraConfig, {"r": 8, "lora_alpha": ALPHA, "lora_dropout": 0.1, "target_modules": ["q_proj"]}, LLAMA),
    ({"method": "rslora", "targets": "q_proj"}, LoraConfig, {"r": 8, "lora_alpha": ALPHA, "use_rslora": True, "target_modules": ["q_proj"]}, LLAMA),
    ({"method": "lora", "r": 4, "init": "pissa", "targets": "q_proj,down_proj"}, LoraConfig,
     {"r": 4, "lora_alpha": ALPHA, "init_lora_weights": "pissa", "target_modules": ["q_proj", "down_proj"]}, SOME),
    ({"method": "rslora", "r": 3, "init": "pissa", "targets": "v_proj"}, LoraConfig,
     {"r": 3, "lora_alpha": ALPHA, "init_lora_weights": "pissa", "use_rslora": True, "target_modules": ["v_proj"]}, LLAMA),
    ({"method": "lora", "r": 4, "init": "olora", "targets": "q_proj,down_proj"}, LoraConfig,
     {"r": 4, "lora_alpha": ALPHA, "init_lora_weights": "olora", "target_modules": ["q_proj", "down_proj"]}, SOME),
    ({"method": "dora", "targets": "q_proj,down_proj"}, LoraConfig,
     {"r": 8, "lora_alpha": ALPHA, "use_dora": True, "target_modules": ["q_proj", "down_proj"]}, SOME),
    ({"method": "adalora", "r": 6}, AdaLoraConfig,
     {"init_r": 6, "target_r": 6, "lora_alpha": ALPHA, "total_step": 1, "target_modules": ALL}, LLAMA),
    ({"method": "loha"}, LoHaConfig, {"r": 8, "alpha": ALPHA, "target_modules": ALL}, LLAMA),
    ({"method": "lokr", "r": 2}, LoKrConfig, {"r": 2, "alpha": ALPHA, "target_modules": ALL}, LLAMA),
    ({"method": "lokr", "r": 5, "targets": "down_proj,lm_head"}, LoKrConfig, {"r": 5, "alpha": ALPHA, "target_modules": ["down_proj", "lm_head"]}, UNTIED),
    ({"method": "vera"}, VeraConfig, {"target_modules": ALL}, LLAMA),
    ({"method": "vera", "r": 12, "targets": "q_proj,v_proj"}, VeraConfig, {"r": 12, "target_modules": ["q_proj", "v_proj"]}, SOME),
    ({"method": "miss", "r": 16}, MissConfig, {"r": 16, "target_modules": ALL}, LLAMA),
    ({"method": "miss", "targets": "down_proj"}, MissConfig, {"target_modules": ["down_proj"]}, LLAMA),
    ({"method": "ia3", "targets": "k_proj,v_proj,down_proj"}, IA3Config,
     {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, LLAMA),
    ({"method": "oft"}, OFTConfig, {"target_modules": ALL}, LLAMA),
    ({"method": "oft", "oft_block_size": 40}, OFTConfig, {"oft_block_size": 40, "target_modules": ALL}, LLAMA),
    ({"method": "boft"}, BOFTConfig, {"target_modules": ALL}, LLAMA),
    ({"method": "boft", "boft_block_size": 8, "targets": "o_proj"}, BOFTConfig, {"boft_block_size": 8, "target_modules": ["o_proj"]}, LLAMA),
    ({"method": "hra", "r": 6}, HRAConfig, {"r": 6, "target_modules": ALL}, LLAMA),
    ({"method": "hra", "r": 5, "targets": "q_proj,down_proj"}, HRAConfig, {"r": 5, "target_modules": ["q_proj", "down_proj"]}, LLAMA),
    ({"method": "road", "targets": "q_proj,down_proj"}, RoadConfig, {"target_modules": ["q_proj", "down_proj"]}, LLAMA),
    ({"method": "road", "group_size": 16}, RoadConfig, {"group_size": 16, "target_modules": ALL}, LLAMA),
    ({"method": "ln_tuning"}, LNTuningConfig, {"target_modules": None}, MODELS[1:2]),
    ({"method": "ln_tuning", "targets": "input_layernorm,norm"}, LNTuningConfig, {"target_modules": ["input_layernorm", "norm"]}, MODELS[2:]),
    ({"method": "trainable_tokens", "token_indices": [5, 17, 9, 40]}, TrainableTokensConfig, {"token_indices": [5, 17, 9, 40]}, SOME),
    ({"method": "trainable_tokens", "token_indices": [7], "targets": "lm_head"}, TrainableTokensConfig,
     {"token_indices": [7], "target_modules": ["lm_head"]}, UNTIED),
    ({"method": "prompt_tuning", "num_virtual_tokens": 12}, PromptTuningConfig,
     {"num_virtual_tokens": 12, "prompt_tuning_init": "SAMPLE_VOCAB"}, SOME),
    ({"method": "prefix_tuning", "num_virtual_tokens": 12}, PrefixTuningConfig, {"num_virtual_tokens": 12}, SOME),
    ({"method": "lora", "r": 2, "targets": "v_proj", "modules_to_save": ["embed_tokens"]}, LoraConfig,
     {"r": 2, "lora_alpha": ALPHA, "target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]}, SOME),
    ({"method": "lora", "r": 2, "targets": "v_proj", "modules_to_save": ["lm_head", "model.norm"]}, LoraConfig,
     {"r": 2, "lora_alpha": ALPHA, "target_modules": ["v_proj"], "modules_to_save": ["lm_head", "model.norm"]}, UNTIED),
    ({"method": "loha", "r": 2, "targets": "v_proj", "modules_to_save": ["norm"]}, LoHaConfig,
     {"r": 2, "alpha": ALPHA, "target_modules": ["v_proj"], "modules_to_save": ["norm"]}, MODELS[2:]),
    ({"method": "ia3", "targets": "v_proj", "modules_to_save": ["input_layernorm"]}, IA3Config,
     {"target_modules": ["v_proj"], "feedforward_modules": [], "modules_to_save": ["input_layernorm"]}, MODELS[2:]),
]
NORMS = ["input_layernorm", "post_attention_layernorm", "norm"]  # of PEFT's own defaults for ln_tuning some models have more


def begun(model, kind, options, seed):
    torch.manual_seed(seed)
    if kind is LNTuningConfig and options["target_modules"] is None:
        options = {"target_modules": NORMS}
    peft_model = get_peft_model(train_exact.base_of(model, exact=False), kind(task_type=TASK, **options))
    with tempfile.TemporaryDirectory() as folder:
        more = {}
        if of_base(options):
            more["path_initial_model_for_weight_conversion"] = start = os.path.join(folder, "start")
            peft_model.peft_config["default"].init_lora_weights = True
            peft_model.save_pretrained(start)
        train_exact.save(peft_model, folder, **more)
        with open(os.path.join(folder, "adapter_config.json")) as f:
            config = json.load(f)
        return config, load_file(os.path.join(folder, "adapter_model.safetensors"))


def of_base(options):
    return options.get("init_lora_weights") in ("pissa", "olora")


def name(key):
    """What the tensors of all modules have in common."""
    return key.removesuffix(".weight").split(".")[-1]


def record(model, options, kind, peft_options):
    (config, first), (_, second) = (begun(model, kind, peft_options, seed) for seed in (1, 2))
    tensors, drawn = {}, {}
    for key, t in sorted(first.items()):
        tensors[key] = {"shape": list(t.shape)}
        if of_base(peft_options):
            tensors[key]["squares"] = float(t.double().square().sum())
        elif torch.equal(t, second[key]):
            flat = t.double().flatten()
            tensors[key]["fixed"] = [float(flat.sum()), float(flat[0]), float(flat[-1])]
        else:
            drawn.setdefault(name(key), []).append(t.double().flatten())
    kinds = {}
    for key, parts in drawn.items():
        t = torch.cat(parts)
        kinds[key] = {"n": len(t), "deviation": float(t.std()), "kurtosis": float(t.pow(4).mean() / t.pow(2).mean() ** 2)}
    required = {"total_step": 1} if kind is AdaLoraConfig else {}
    defaults = {k: v for k, v in kind(**required).to_dict().items() if k in config}
    return {"model": f"../tiny/{model}/model.gguf", "options": options, "config": config, "defaults": defaults, "tensors": tensors, "drawn": kinds}


def main():
    torch.set_num_threads(1)
    cases = []
    for options, kind, peft_options, models in CASES:
        for model in models:
            cases.append(record(model, options, kind, peft_options))
            print(model, options, len(cases[-1]["tensors"]), "tensors", cases[-1]["drawn"], flush=True)
    with open(OUT, "w") as f:
        lines = ",\n".join(json.dumps(case, separators=(",", ":"), default=lambda v: getattr(v, "value", None) or sorted(v)) for case in cases)
        f.write(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
