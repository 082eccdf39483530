"""What the scripts for training share: a base in float64, adapters that can be trained, their loss, and gradients as PEFT would save them."""

import json
import os
import warnings

import torch
import torch.nn.functional as F
from peft import PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

import gguf_hf
from tiny_models import OUT as TINY

SETS = ("target_modules", "exclude_modules", "feedforward_modules", "modules_to_save")  # PEFT writes some of them in changing order
warnings.filterwarnings("ignore")


def norm(offset, eps):
    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + getattr(self, eps)) * (self.weight + offset)

    return forward


# transformers takes norms in float32 whatever the model is in, and eager attention its softmax: the one of torch does not.
NORMS = {LlamaRMSNorm: norm(0.0, "variance_epsilon"), Qwen2RMSNorm: norm(0.0, "variance_epsilon"), Gemma3RMSNorm: norm(1.0, "eps")}
ROUNDED = {kind: kind.forward for kind in NORMS}


def base_of(model, exact=True):
    """A tiny model. In float64 only the cosines of RoPE are rounded to float32; else all is as transformers has it, attention eager."""
    for kind in NORMS:
        kind.forward = (NORMS if exact else ROUNDED)[kind]
    base = gguf_hf.read_model(os.path.join(TINY, model, "model.gguf"))
    if exact:
        base.set_attn_implementation("sdpa")
    return base.double() if exact else base


def save(model, folder, **more):
    """`save_pretrained` without what changes from run to run."""
    model.save_pretrained(folder, save_embedding_layers=False, **more)
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        config = json.load(f)
    for key in SETS:
        if isinstance(config.get(key), list):
            config[key].sort()
    with open(path, "w") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True))


def trainable(base, folder):
    """The saved adapter on this base, to be trained. `from_pretrained` refuses to train prompts, so these are filled by hand."""
    config = PeftConfig.from_pretrained(folder)
    if config.is_prompt_learning:
        config.inference_mode = False
        model = get_peft_model(base, config)
        set_peft_model_state_dict(model, load_file(os.path.join(folder, "adapter_model.safetensors")))
    else:
        model = PeftModel.from_pretrained(base, folder, is_trainable=True)
    freeze_ranks(model)
    for t in [*model.parameters(), *model.buffers()]:
        if t.is_floating_point():
            t.data = t.data.to(base.dtype)
    return model.train()


def freeze_ranks(model):
    """AdaLoRA divides by its number of ranks. On a base that is not float32, PEFT by accident trains that number, and does not save it."""
    for name, p in model.named_parameters():
        if "ranknum" in name:
            p.requires_grad = False


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def nll(model, tokens, learn):
    """Sum of the negative log-likelihoods of the learnt tokens of one sequence. Virtual tokens stand before it."""
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -len(tokens) :]
    target = torch.tensor([t if wanted else -100 for t, wanted in zip(tokens, learn)])[1:]
    return F.cross_entropy(logits[:-1], target, ignore_index=-100, reduction="sum")


def regulariser(model):
    """What PEFT adds to the loss of AdaLoRA: here to a loss of 0."""
    ids = torch.tensor([[1]])
    return model(ids, labels=torch.full_like(ids, -100), num_items_in_batch=1).loss


def as_saved(model, values):
    """Values of the trained tensors, by name, as float32 under the keys of the file: a model with these values, saved. It is useless after."""
    with torch.no_grad():
        for t in [*model.parameters(), *model.buffers()]:
            if t.is_floating_point():
                t.fill_(float("nan"))
        for name, p in trained(model).items():
            p.data = values[name].clone()  # not copied: the factors of a tied LoRA are one tensor with two gradients
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {key: t.detach().float().contiguous().clone() for key, t in sorted(state.items()) if not t.isnan().all()}


def gradients(model):
    return as_saved(model, {name: p.grad for name, p in trained(model).items()})
