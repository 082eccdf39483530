"""Broken adapters of every method but plain LoRA, for bad_adapters.py: a small good one by PEFT, then one thing wrong with it.

PEFT 0.21.2 itself takes many of these with a warning at most: a missing tensor (it keeps its initial value), an extra one (ignored), an
option that it does not know (dropped), integers, NaN. What it refuses are sizes that differ from those that the configuration gives.
"""

import json
import os
import tempfile

import torch
from peft import get_peft_model
from safetensors.torch import load_file

import gguf_hf
import method_adapters as good
import method_values
from tiny_models import OUT as TINY

Q = r"model\.layers\.0\.self_attn\.q_proj"
PATH = "base_model.model.model.layers.0.self_attn.q_proj."
EMBEDDING = "base_model.model.model.embed_tokens."
NORM = "base_model.model.model.layers.0.input_layernorm."
HUGE = 1 << 40

# name: (configuration, tensor to drop or None if there is only one, tensor to spoil, a shape that fits no layer, a field and a wrong value)
METHODS = {
    "dora": (good.lora(target_modules=Q, use_dora=True), PATH + "lora_magnitude_vector", PATH + "lora_magnitude_vector", (63,), ("r", 3)),
    "bias-of-b": (good.lora(target_modules=Q, lora_bias=True), PATH + "lora_B.bias", PATH + "lora_B.bias", (63,), ("r", 3)),
    "alora": (good.lora(target_modules=Q, alora_invocation_tokens=[5, 6]), PATH + "lora_A.weight", PATH + "lora_B.weight", (63, 2),
              ("alora_invocation_tokens", [5, "six"])),
    "bdlora": (good.lora(target_modules=Q, r=2, use_bdlora={"target_modules_bd_a": ["q_proj"], "nblocks": 2}), PATH + "lora_A.weight",
               PATH + "lora_A.weight", (2, 31), ("use_bdlora", {"target_modules_bd_a": ["q_proj"], "nblocks": 0})),
    "embedding": (good.lora(target_modules=["embed_tokens"]), EMBEDDING + "lora_embedding_B", EMBEDDING + "lora_embedding_A", (2, 287),
                  ("r", 3)),
    "rows": (good.lora(target_modules=Q, trainable_token_indices=[3, 9]), EMBEDDING + "token_adapter.trainable_tokens_delta",
             EMBEDDING + "token_adapter.trainable_tokens_delta", (2, 63), ("trainable_token_indices", [3, 9, 11])),
    "saved-norm": (good.lora(target_modules=Q, modules_to_save=["layers.0.input_layernorm"]), None, NORM + "weight", (63,),
                   ("modules_to_save", "all")),
    "replication": (good.lora(target_modules=Q, layer_replication=[[0, 2], [1, 2]]), PATH + "lora_A.weight", PATH + "lora_B.weight", (63, 2),
                    ("layer_replication", [[0, 2, 1]])),
    "pissa": (good.lora(target_modules=Q, init_lora_weights="pissa"), PATH + "lora_A.weight", PATH + "lora_B.weight", (63, 2), ("r", 3)),
    "ia3": (good.ia3(target_modules=Q, feedforward_modules=[]), None, PATH + "ia3_l", (63, 1), ("task_type", "SEQ_CLS")),
    "adalora": (good.adalora(target_modules=Q), PATH + "lora_E", PATH + "lora_B", (63, 4), ("lora_alpha", "six")),
    "loha": (good.loha(target_modules=Q), PATH + "hada_w2_b", PATH + "hada_w1_a", (63, 2), ("r", 3)),
    "lokr": (good.lokr(target_modules=Q), PATH + "lokr_w2_b", PATH + "lokr_w1", (7, 8), ("r", 3)),
    "vera": (good.vera(target_modules=Q), "base_model.vera_B", PATH + "vera_lambda_b", (63,), ("r", 9)),
    "oft": (good.oft(target_modules=Q), None, PATH + "oft_R.weight", (7, 28), ("num_cayley_neumann_terms", HUGE)),
    "boft": (good.boft(target_modules=Q), PATH + "boft_s", PATH + "boft_R", (1, 15, 4, 4), ("boft_n_butterfly_factor", 0)),
    "hra": (good.hra(target_modules=Q, r=2), None, PATH + "hra_u", (63, 2), ("apply_GS", "yes")),
    "road": (good.road(target_modules=Q), PATH + "road_theta", PATH + "road_alpha", (31,), ("group_size", 15)),
    "miss": (good.miss(target_modules=Q, r=2), None, PATH + "miss_block", (2, 63), ("init_weights", "wonder")),
    "ln-tuning": (good.simple(good.LNTuningConfig)(target_modules=["layers.0.input_layernorm"]), None, NORM + "ln_tuning_layers.weight", (63,),
                  ("task_type", "SEQ_CLS")),
    "tokens": (good.simple(good.TrainableTokensConfig)(token_indices=[3, 9]), None, EMBEDDING + "trainable_tokens_delta", (2, 63),
               ("token_indices", [3, 9, 11])),
    "beft": (good.simple(good.BeftConfig)(target_modules=Q), None, PATH + "beft_bias", (1, 63), ("task_type", "SEQ_CLS")),
    "prompt-tuning": (good.prompts(), None, "prompt_embeddings", (5, 63), ("num_virtual_tokens", HUGE)),
    "p-tuning": (good.p_tuning(), None, "prompt_embeddings", (4, 63), ("num_virtual_tokens", 3)),
    "prefix-tuning": (good.prefix(), None, "prompt_embeddings", (5, 127), ("num_layers", 3)),
    "multitask": (good.simple(good.MultitaskPromptTuningConfig)(num_virtual_tokens=4, num_tasks=2, num_ranks=2), "prefix_task_cols",
                  "prefix_task_rows", (2, 2, 63), ("num_tasks", 3)),
}
# Wrong in a way that only the method has: (name, method, stage, why, fields, edit of the tensors)
SPECIAL = [
    ("dora-not-said", "dora", "open", "a magnitude, but use_dora is false", {"use_dora": False}, None),
    ("dora-vector", "dora", "open", "the magnitude has two dimensions", {}, lambda t: t | {PATH + "lora_magnitude_vector": torch.ones(64, 1, 1)}),
    ("alora-no-sequence", "alora", "open", "an empty invocation sequence", {"alora_invocation_tokens": []}, None),
    ("alora-negative", "alora", "open", "a negative token", {"alora_invocation_tokens": [5, -6]}, None),
    ("bdlora-whole", "bdlora", "attach", "use_bdlora, but A is not in blocks (PEFT: size mismatch)", {},
     lambda t: t | {PATH + "lora_A.weight": torch.randn(2, 64)}),
    ("bdlora-huge", "bdlora", "open", "more blocks than the rank has rows",
     {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "target_modules_bd_b": None, "nblocks": HUGE, "match_strict": True}}, None),
    ("rows-twice", "rows", "open", "the same row twice", {"trainable_token_indices": [3, 3]}, None),
    ("rows-negative", "rows", "open", "a negative row", {"trainable_token_indices": [3, -9]}, None),
    ("rows-beyond", "rows", "attach", "row 288 of a vocabulary of 288", {"trainable_token_indices": [3, 288]}, None),
    ("tokens-twice", "tokens", "open", "the same row twice", {"token_indices": [3, 3]}, None),
    ("tokens-beyond", "tokens", "attach", "a row beyond any vocabulary", {"token_indices": [3, HUGE]}, None),
    ("tokens-float", "tokens", "open", "a row that is no integer", {"token_indices": [3, 9.5]}, None),
    ("saved-norm-name", "saved-norm", "attach", "modules_to_save of a module that the model lacks", {"modules_to_save": ["wonder"]},
     lambda t: {k.replace("layers.0.input_layernorm", "wonder"): v for k, v in t.items()}),
    ("saved-embedding-small", "saved-norm", "attach", "a saved embedding of 8 rows", {"modules_to_save": ["embed_tokens"]},
     lambda t: {k: v for k, v in t.items() if "norm" not in k} | {EMBEDDING + "weight": torch.randn(8, 64)}),
    ("saved-norm-unlisted", "saved-norm", "open", "a replaced norm that modules_to_save does not name", {"modules_to_save": None}, None),
    ("bias-unsaid", "pissa", "open", "a replaced bias, but bias is none", {"init_lora_weights": True},
     lambda t: t | {PATH + "base_layer.bias": torch.randn(64)}),
    ("bias-no-base", "pissa", "attach", "a replaced bias of a layer that has none", {"init_lora_weights": True, "bias": "lora_only"},
     lambda t: t | {PATH + "base_layer.bias": torch.randn(64)}),
    ("replication-beyond", "replication", "attach", "layers up to 5 of a model with 2", {"layer_replication": [[0, 5], [1, 2]]}, None),
    ("replication-backwards", "replication", "open", "a range that ends before its start", {"layer_replication": [[2, 0], [1, 2]]}, None),
    ("replication-huge", "replication", "attach", "2^40 layers", {"layer_replication": [[0, HUGE]]}, None),
    ("ia3-square", "ia3", "open", "l is neither a row nor a column", {}, lambda t: t | {PATH + "ia3_l": torch.ones(8, 8)}),
    ("adalora-pattern", "adalora", "open", "rank_pattern keeps 2 of 4 ranks, the tensors have 4",
     {"rank_pattern": {"model.layers.0.self_attn.q_proj.lora_E": [True, False, True, False]}}, None),
    ("adalora-rank-differs", "adalora", "open", "lora_E has another rank than A and B", {}, lambda t: t | {PATH + "lora_E": torch.randn(3, 1)}),
    ("adalora-init-r", "adalora", "open", "init_r is 0", {"init_r": 0}, None),
    ("loha-ranks-differ", "loha", "open", "the two products have different ranks", {},
     lambda t: t | {PATH + "hada_w2_a": torch.randn(64, 3), PATH + "hada_w2_b": torch.randn(3, 64)}),
    ("lokr-two-kinds", "lokr", "open", "lokr_w1 whole and as factors", {},
     lambda t: t | {PATH + "lokr_w1_a": torch.randn(8, 2), PATH + "lokr_w1_b": torch.randn(2, 8)}),
    ("lokr-conv", "lokr", "open", "lokr_t2, which only a convolution has", {}, lambda t: t | {PATH + "lokr_t2": torch.randn(2, 2, 3, 3)}),
    ("vera-unsaved-huge", "vera", "open", "projections to be drawn at a rank that the tensors do not have", {"save_projection": False, "r": HUGE},
     lambda t: {k: v for k, v in t.items() if "vera_lambda" in k}),
    ("vera-narrow", "vera", "attach", "vera_A narrower than the layer's input", {}, lambda t: t | {"base_model.vera_A": torch.randn(8, 60)}),
    ("oft-no-triangle", "oft", "open", "27 values are no upper triangle of a block", {}, lambda t: t | {PATH + "oft_R.weight": torch.randn(8, 27)}),
    ("oft-old", "oft", "open", "the tensors of PEFT before 0.14 (whole blocks)", {}, lambda t: t | {PATH + "oft_R.weight": torch.randn(8, 8, 8)}),
    ("oft-eps", "oft", "open", "coft with a negative eps", {"coft": True, "eps": -1.0}, None),
    ("boft-blocks", "boft", "open", "blocks that are not square", {}, lambda t: t | {PATH + "boft_R": torch.randn(1, 16, 4, 3)}),
    ("boft-factors", "boft", "attach", "more butterfly factors than 64 inputs allow", {"boft_n_butterfly_factor": 9},
     lambda t: t | {PATH + "boft_R": torch.randn(9, 16, 4, 4)}),
    ("hra-zero", "hra", "open", "a reflection at a vector of length 0", {}, lambda t: t | {PATH + "hra_u": torch.zeros(64, 2)}),
    ("road-variant", "road", "open", "a variant that does not exist", {"variant": "road_9"}, None),
    ("road-group-zero", "road", "open", "group_size is 0", {"group_size": 0}, None),
    ("road-group", "road", "attach", "group_size does not divide 64", {"group_size": 24}, None),
    ("miss-rank", "miss", "attach", "a rank above the layer's 64 inputs (PEFT: an error)", {"r": 65},
     lambda t: t | {PATH + "miss_block": torch.randn(65, 64)}),
    ("miss-bat-shape", "miss", "open", "bat, but the block has two dimensions", {"init_weights": "bat"}, None),
    ("miss-mini-zero", "miss", "open", "mini_r is 0", {"init_weights": "mini", "mini_r": 0}, None),
    ("prefix-heads", "prefix-tuning", "attach", "one key-value head for a model with two", {"num_attention_heads": 1, "token_dim": 16},
     lambda t: {"prompt_embeddings": torch.randn(5, 64)}),
    ("prompt-submodules", "prompt-tuning", "open", "a prompt of an encoder and a decoder", {"num_transformer_submodules": 2}, None),
    ("multitask-ranks", "multitask", "open", "the ranks of columns and rows differ", {}, lambda t: t | {"prefix_task_rows": torch.randn(2, 3, 64)}),
]


def made(build, seed):
    """A good adapter as PEFT saves it: its configuration and its tensors."""
    torch.manual_seed(seed)
    model = get_peft_model(gguf_hf.read_model(os.path.join(TINY, "llama-tied", "model.gguf")), build())
    method_values.fill(model, model.peft_config["default"])
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        with open(os.path.join(folder, "adapter_config.json")) as f:
            config = json.load(f)
        tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
    return config, {k: v.clone() for k, v in sorted(tensors.items())}


def cases():
    """All of them: (name, kind, stage, why, fields or text of the configuration, tensors)."""
    stock = {name: made(method[0], i) for i, (name, method) in enumerate(METHODS.items())}
    for name, (_, pair, key, shape, (field, value)) in METHODS.items():
        config, tensors = stock[name]
        spoil = lambda new: tensors | {key: new}
        assert key in tensors and (pair is None or pair in tensors), (name, list(tensors))
        short = key.rsplit(".", 2)[-2] if key.endswith(".weight") else key.rsplit(".", 1)[-1]
        if pair:
            yield f"{name}-missing", "invalid", "open", f"no {pair.rsplit('.', 1)[-1]}", config, {k: v for k, v in tensors.items() if k != pair}
        yield f"{name}-no-tensors", "invalid", "open", f"{name} without a tensor", config, {}
        yield f"{name}-shape", "invalid", "attach", f"{short} of shape {shape}", config, spoil(torch.randn(shape))
        yield f"{name}-integer", "invalid", "open", f"{short} stored as int32", config, spoil(torch.ones_like(tensors[key], dtype=torch.int32))
        yield f"{name}-nan", "invalid", "open", f"a NaN in {short}", config, spoil(nan_in(tensors[key]))
        yield f"{name}-empty", "invalid", "open", f"{short} without an element", config, spoil(torch.zeros(0, *tensors[key].shape[1:]))
        extra = {"base_model.model.surprise.weight": torch.ones(3)}
        yield f"{name}-extra", "invalid", "open", "a tensor that is no part of the method", config, tensors | extra
        sort = "unsupported" if field == "task_type" else "invalid"
        yield f"{name}-field", sort, "open", f"{field} is {json.dumps(value)}", config | {field: value}, tensors
        yield f"{name}-unknown", "unsupported", "open", "an option that nobody knows is on", config | {"use_wonder": True}, tensors
        text = json.dumps(config)
        yield f"config-twice-{name}", "invalid", "open", f"{field} is there twice", text[:-1] + f', "{field}": {json.dumps(value)}}}', tensors
        deep = '{"a":' * 3000 + "1" + "}" * 3000
        yield f"config-deep-{name}", "invalid", "open", "3000 nested objects", text[:-1] + f', "deep": {deep}}}', tensors
    for name, method, stage, why, fields, edit in SPECIAL:
        config, tensors = stock[method]
        yield name, "invalid", stage, why, config | fields, edit(tensors) if edit else tensors


def nan_in(tensor):
    spoiled = tensor.clone()
    spoiled.view(-1)[1] = float("nan")
    return spoiled
