"""Makes tests/data/methods: adapters of every PEFT method that Graft runs, and golden logits.

    python tests/reference/methods.py                   all models, from an empty folder
    python tests/reference/methods.py MODEL [NAME...]   this model, only adapters and cases that start with a NAME

Oracle: PEFT on transformers in float32 on the CPU, eager attention. Adapters are written by `save_pretrained`, read back by
`from_pretrained` into a fresh base model, and only then measured. Set OMP_NUM_THREADS=1 for the same bytes again. Versions: gguf_hf.py.
"""

import copy
import json
import os
import shutil
import sys
import tempfile
import warnings
import zlib

import numpy as np
import torch
from peft import PeftModel, PeftMixedModel, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_MIXED_MODEL_MAPPING
from peft.tuners.boft import layer as boft
from peft.tuners.oft import OFTModel

import gguf_hf
import method_values
from gguf_hf import f32, mean_logprob
from method_adapters import ADAPTERS, ALL, INVOCATION, MODELS, ROWS
from method_cases import COMBINED, SWITCHED_INVOCATION, SWITCHES
from tiny_models import OUT as TINY
from tiny_tokenizers import VOCAB
from transformers import DynamicCache

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "methods")
SETS = ("target_modules", "exclude_modules", "feedforward_modules")  # PEFT writes these in an order that changes from run to run
LENGTH, GREEDY = 41, 16
# PEFT's mixed model runs OFT anywhere in the order, but from_pretrained has it in no list and refuses it as the first adapter.
PEFT_TYPE_TO_MIXED_MODEL_MAPPING[PeftType.OFT] = OFTModel
TASK_ID = {PeftType.MULTITASK_PROMPT_TUNING: 1}


def base_of(model, grow=0):
    base = gguf_hf.read_model(os.path.join(TINY, model, "model.gguf"))
    if grow:
        torch.manual_seed(1)
        base.resize_token_embeddings(base.config.vocab_size + grow, mean_resizing=False)
    return base


class BlockDiagonal:
    """BOFT's CUDA extension in plain torch: without one, PEFT silently uses a single butterfly factor."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]


def use_extension(names):
    """Only for more than one factor, so that PEFT's own path on the CPU makes the other values."""
    factors = max([getattr(ADAPTERS[name].config(), "boft_n_butterfly_factor", 1) for name in names], default=1)
    boft.get_fbd_cuda = (lambda: BlockDiagonal) if factors > 1 else (lambda: None)


def prompt(model, planted=()):
    """41 tokens that hold the trained rows but neither an invocation sequence nor the row 40, which is only ever predicted."""
    rng = np.random.default_rng(MODELS.index(model))
    tokens = [int(t) for t in rng.integers(50, VOCAB, LENGTH)]
    for k, row in enumerate(ROWS[:-1]):
        tokens[4 + 13 * k] = row
    for start, more in planted:
        tokens[start : start + len(more)] = more
    return tokens


def make_adapter(model, name):
    adapter, folder = ADAPTERS[name], os.path.join(OUT, model, name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(zlib.crc32(f"{model}/{name}".encode()))  # so that a new adapter leaves the others alone
    config = adapter.config()
    targets = getattr(config, "target_modules", None)
    if model == "gemma3" and getattr(config, "layers_to_transform", 0) is None and targets and targets <= set(ALL):
        config.layers_to_transform = [0, 5]  # one with a window, the one without: 7 would only make the files larger
    use_extension([name])
    peft_model = get_peft_model(base_of(model, adapter.grow), config)
    with tempfile.TemporaryDirectory() as work:
        save = dict(adapter.save)
        if adapter.convert:
            save["path_initial_model_for_weight_conversion"] = start = os.path.join(work, "start")
            peft_model.peft_config["default"].init_lora_weights = True
            peft_model.save_pretrained(start)
        method_values.fill(peft_model.train(), config)
        if adapter.save != {"save_embedding_layers": False}:
            move_tables(peft_model, adapter.grow)
        replicate_types(peft_model.eval())
        peft_model.save_pretrained(folder, **save)  # before any forward, in which coft would shorten its weights
        trained = logits_of(peft_model, prompt(model), TASK_ID.get(config.peft_type))
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        saved = json.load(f)
    for key in SETS:
        if isinstance(saved.get(key), list):
            saved[key].sort()
    with open(path, "w") as f:
        f.write(json.dumps(saved, indent=2, sort_keys=True))
    again = logits_of(adapted(model, [(name, 1.0)]), prompt(model), TASK_ID.get(config.peft_type))
    if not torch.allclose(again, trained, atol=1e-3):
        print(f"  {name}: saved and read back, the logits move by {float((again - trained).abs().max()):.1e}")


def replicate_types(model):
    """layer_replication leaves `layer_types` too short for Qwen2 in transformers 5.23.0: an IndexError in every forward."""
    config = model.config
    if getattr(config, "layer_types", None):
        config.layer_types += config.layer_types[-1:] * (config.num_hidden_layers - len(config.layer_types))


def move_tables(peft_model, rows):
    """What is saved of the embedding or the head itself must differ from the base, and new rows need values."""
    with torch.no_grad():
        for layer in (peft_model.get_input_embeddings(), peft_model.get_output_embeddings()):
            if not rows and not hasattr(layer, "base_layer"):
                continue
            table = layer.weight
            table[len(table) - rows :] = torch.randn_like(table[len(table) - rows :]) * table.std()
            table += 0.3 * table.std() * torch.randn_like(table)


def adapted(model, wanted):
    """A fresh base with the adapters [(name, weight)], all active in this order; a weight multiplies the scaling."""
    base = base_of(model, max([ADAPTERS[name].grow for name, _ in wanted], default=0))
    if not wanted:
        return base
    use_extension([name for name, _ in wanted])
    types = {ADAPTERS[name].config().peft_type for name, _ in wanted}
    kind = PeftModel if len(types) == 1 else PeftMixedModel
    folders = [os.path.join(OUT, model, name) for name, _ in wanted]
    names = [f"a{i}" for i in range(len(wanted))]
    peft_model = kind.from_pretrained(base, folders[0], adapter_name=names[0])
    for folder, name in zip(folders[1:], names[1:]):
        peft_model.load_adapter(folder, adapter_name=name)
    if len(wanted) > 1:
        peft_model.base_model.set_adapter(names)
    for module in peft_model.modules():
        scaling = getattr(module, "scaling", None)
        for name, (_, weight) in zip(names, wanted):
            if isinstance(scaling, dict) and name in scaling:
                scaling[name] *= weight
    replicate_types(peft_model)
    return peft_model.eval()


@torch.no_grad()
def logits_of(model, tokens, task=None):
    """Logits after each token; those after virtual tokens are left out."""
    more = {} if task is None else {"task_ids": torch.tensor([task])}
    return model(torch.tensor([tokens]), use_cache=False, **more).logits[0, -len(tokens) :].float()


@torch.no_grad()
def greedy_of(model, tokens, task=None):
    """Greedy tokens and margins. An invocation sequence is looked for in the prompt only, so aLoRA needs `generate`."""
    config = getattr(model, "peft_config", {}).get("a0")
    if getattr(config, "alora_invocation_tokens", None):
        model.generation_config.eos_token_id = None
        out = model.generate(input_ids=torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens)), max_new_tokens=GREEDY,
                             do_sample=False, output_logits=True, return_dict_in_generate=True)
        steps = [step[0] for step in out.logits]
    else:
        tokens, steps = list(tokens), []
        for _ in range(GREEDY):
            steps.append(logits_of(model, tokens, task)[-1])
            tokens.append(int(steps[-1].argmax()))
    best = [torch.topk(step, 2) for step in steps]
    return [int(b.indices[0]) for b in best], [f32(b.values[0] - b.values[1]) for b in best]


def row(logits, pos):
    return {"pos": pos, "logits": [f32(x) for x in logits[pos]]}


def merged(model, wanted, tokens):
    """The logits that PEFT's merge gives at the last position, or why it gives none."""
    try:
        plain = adapted(model, wanted).merge_and_unload()
        return logits_of(plain, tokens)
    except Exception as e:  # noqa: BLE001 -- printed
        return f"{type(e).__name__}: {e}"


def measure(model, name, wanted, tokens, task=None):
    peft_model = adapted(model, wanted)
    logits = logits_of(peft_model, tokens, task)
    greedy, margins = greedy_of(peft_model, tokens, task)
    listed = [{"dir": n, "weight": w} | ({} if task is None else {"task_id": task}) for n, w in wanted]
    case = {"model": f"../../tiny/{model}/model.gguf", "method": "+".join(ADAPTERS[n].config().peft_type.value for n, _ in wanted), "name": name,
            "segments": [{"adapters": listed, "tokens": tokens}], "positions": [row(logits, p) for p in (0, LENGTH // 2, LENGTH - 1)],
            "greedy": greedy, "greedy_margin": margins, "mean_logprob": mean_logprob(logits, tokens)}
    whole = merged(model, wanted, tokens)
    report = whole
    if not isinstance(whole, str):
        gap = float((whole - logits)[-1].abs().max())
        case["merged"] = row(whole, LENGTH - 1) | {"differs": gap > 1e-2}
        report = f"merged differs by {gap:.1e}"
    finish(model, case, logits, tokens, report)


def finish(model, case, logits, tokens, report):
    """Writes the case; an adapter that changes little tests nothing."""
    known = [t % VOCAB for t in tokens]  # a larger vocabulary has tokens that the base lacks
    plain = logits_of(base_of(model), known)
    effects = [float((logits[p, :VOCAB] - plain[p]).std() / plain[p].std()) for p in (0, LENGTH // 2, LENGTH - 1)]
    shown = " ".join(f"{e:.2f}" for e in effects)
    print(f"  {case['name']:28} effect {shown}, least margin {min(case['greedy_margin']):.3f}; {report}", flush=True)
    assert torch.isfinite(logits).all() and (max(effects) > 0.2 or case["name"] in QUIET), case["name"]
    with open(os.path.join(OUT, model, case["name"] + ".json"), "w") as f:
        f.write(json.dumps(case, separators=(",", ":")).replace('{"pos"', '\n{"pos"') + "\n")


QUIET = ("lora-alora-absent", "lora-weight-0")
INVOKED = {
    "lora-alora": {"lora-alora-twice": [(8, INVOCATION), (25, INVOCATION)], "lora-alora-once": [(22, INVOCATION)], "lora-alora-absent": []},
    "lora-alora-repeat": {"lora-alora-repeat": [(15, [21, 21, 21])]},
}


def single(model, name):
    """The cases that one adapter alone has."""
    if name in INVOKED:
        for case, planted in INVOKED[name].items():
            measure(model, case, [(name, 1.0)], prompt(model, planted))
        return
    tokens = prompt(model)
    if name == "multitask":
        for task in (0, 1):
            measure(model, f"{name}-{task}", [(name, 1.0)], tokens, task)
        return
    if ADAPTERS[name].grow:
        tokens[7], tokens[30] = VOCAB + 2, VOCAB + 5
    measure(model, name, [(name, 1.0)], tokens)


def stages(model, steps):
    """For each step a model and what makes it ready: one PeftModel whose active adapters change, or a model for each method."""
    used = list(dict.fromkeys(name for wanted, _ in steps for name, _ in wanted))
    if len({ADAPTERS[name].config().peft_type for name in used}) > 1:
        return [(adapted(model, wanted), lambda: None) for wanted, _ in steps]
    peft_model = adapted(model, [(name, 1.0) for name in used])

    def choose(wanted):
        if not wanted:
            peft_model.base_model.disable_adapter_layers()
            return
        peft_model.base_model.enable_adapter_layers()
        names = [f"a{used.index(name)}" for name, _ in wanted]
        peft_model.set_adapter(names[0])
        peft_model.base_model.set_adapter(names)

    return [(peft_model, lambda wanted=wanted: choose(wanted)) for wanted, _ in steps]


@torch.no_grad()
def measure_switch(model, name, steps):
    """Adapters that change between two tokens while the keys and values stay. All weights are 1."""
    tokens = prompt(model, [(SWITCHED_INVOCATION, INVOCATION)] if name == "switch-alora" else [])
    parts, start = [], 0
    for _, count in steps:
        parts.append(tokens[start : start + count])
        start += count
    assert start == LENGTH
    past, logits = DynamicCache(config=base_of(model).config), []
    for (stage, ready), part in zip(stages(model, steps), parts):
        ready()
        before = copy.deepcopy(past)
        out = stage(torch.tensor([part]), past_key_values=past, use_cache=True)
        past = out.past_key_values
        logits.append(out.logits[0])
    logits, generated, margins = torch.cat(logits), [], []
    for _ in range(GREEDY):  # the last segment again each time, as aLoRA looks for its sequence in what it is given
        last = stage(torch.tensor([parts[-1] + generated]), past_key_values=copy.deepcopy(before), use_cache=True).logits[0, -1]
        best = torch.topk(last, 2)
        generated.append(int(best.indices[0]))
        margins.append(f32(best.values[0] - best.values[1]))
    segments = [{"adapters": [{"dir": n, "weight": w} for n, w in wanted], "tokens": part} for (wanted, _), part in zip(steps, parts)]
    ends = sorted({0, LENGTH // 2, *(sum(n for _, n in steps[: k + 1]) - 1 for k in range(len(steps)))})
    methods = dict.fromkeys(ADAPTERS[n].config().peft_type.value for wanted, _ in steps for n, _ in wanted)
    case = {"model": f"../../tiny/{model}/model.gguf", "method": "+".join(methods), "name": name, "segments": segments,
            "positions": [row(logits, p) for p in ends], "greedy": generated, "greedy_margin": margins,
            "mean_logprob": mean_logprob(logits, tokens)}
    finish(model, case, logits, tokens, f"{len(steps)} segments")


def unsupported():
    """Every type of adapter that PEFT knows and this folder has none of."""
    used = {a.config().peft_type for a in ADAPTERS.values()}
    with open(os.path.join(OUT, "unsupported.json"), "w") as f:
        f.write(json.dumps(sorted(t.value for t in PeftType if t not in used), indent=1) + "\n")


def main():
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    models, starts = sys.argv[1:2] or MODELS, tuple(sys.argv[2:]) or ("",)
    if not sys.argv[1:]:
        shutil.rmtree(OUT, ignore_errors=True)
    for model in models:
        print(model)
        os.makedirs(os.path.join(OUT, model), exist_ok=True)
        for name, adapter in ADAPTERS.items():
            if model in adapter.models and name.startswith(starts):
                make_adapter(model, name)
                single(model, name)
        for name, (wanted, where) in COMBINED.items():
            if model in where and name.startswith(starts):
                measure(model, name, wanted, prompt(model))
        for name, steps in SWITCHES.items():
            if name.startswith(starts):
                measure_switch(model, name, steps)
    unsupported()


if __name__ == "__main__":
    main()
