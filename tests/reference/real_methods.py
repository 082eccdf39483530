"""Makes tests/data/real/<model>-methods.json: golden logits of the real models under adapters of the most used methods.

    python tests/reference/real_methods.py MODELS_DIR [NAME...]      (NAME: smollm2, gemma3)

The adapters are those of `methods` in tests/data/real/adapters.json; synth.py makes them. Oracle and form as in real_models.py, for the
prompt of 60 tokens, which is read from <model>.json; three positions, 16 greedy tokens.
"""

import copy
import json
import math
import os
import sys
import tempfile
import warnings

import torch
from peft import PeftMixedModel, PeftModel

import gguf_hf
import synth
from gguf_hf import f32, mean_logprob
from real_models import summary

GREEDY = 16
MIXED = {"smollm2": {"mixed-lora-lokr": ["all-linear", "lokr"]}}


def adapted(base, model, names, folder):
    """The adapters on a model, all active in this order."""
    folders = [os.path.join(folder, name) for name in names]
    for name, path in zip(names, folders):
        synth.write(model, name, path)
    kind = PeftModel if len(names) == 1 else PeftMixedModel
    peft_model = kind.from_pretrained(base, folders[0], adapter_name=names[0])
    for name, path in zip(names[1:], folders[1:]):
        peft_model.load_adapter(path, adapter_name=name)
    if len(names) > 1:
        peft_model.set_adapter(names)
    return peft_model.eval()


@torch.no_grad()
def logits_of(model, tokens):
    """Logits after each token; those after virtual tokens are left out."""
    return model(torch.tensor([tokens]), use_cache=False).logits[0, -len(tokens) :].float()


def greedy_of(model, tokens):
    """Greedy tokens and margins. PEFT puts a prompt before whatever it is given, so that is always the whole text then."""
    if not any(c.is_prompt_learning for c in model.peft_config.values()):
        return gguf_hf.greedy_of(model, tokens, GREEDY, cache=True)
    tokens, out, margins = list(tokens), [], []
    for _ in range(GREEDY):
        best = torch.topk(logits_of(model, tokens)[-1], 2)
        out.append(int(best.indices[0]))
        margins.append(f32(best.values[0] - best.values[1]))
        tokens.append(out[-1])
    return out, margins


def make(name, models_dir, quick):
    everything = synth.spec()
    path = os.path.join(models_dir, everything["models"][name]["file"])
    with open(os.path.join(synth.REAL, f"{name}.json")) as f:
        tokens = json.load(f)["prompts"]["p60"]
    wanted = {method: [method] for method in everything["methods"]} | MIXED.get(name, {})
    base = gguf_hf.read_model(path)
    plain, cases = logits_of(base, tokens), []
    print(f"{name}: mean_logprob {mean_logprob(plain, tokens):.3f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for case, adapters in wanted.items():
            model = adapted(copy.deepcopy(base), name, adapters, scratch)
            logits = logits_of(model, tokens)
            mean = mean_logprob(logits, tokens)
            places = (0, len(tokens) // 2, len(tokens) - 1)
            moved = " ".join(f"{float((logits[p] - plain[p]).std() / plain[p].std()):.2f}" for p in places)
            print(f"    {case:16} mean_logprob {mean:.3f}, moves the logits by {moved} of their spread", flush=True)
            if quick:
                continue
            assert mean > -math.log(logits.shape[1]), "worse than no model"
            greedy, margins = greedy_of(model, tokens)
            cases.append({"name": case, "prompt": "p60", "adapters": [{"case": a, "weight": 1.0} for a in adapters],
                          "positions": [summary(p, logits[p]) for p in places], "mean_logprob": mean,
                          "greedy": greedy, "greedy_margin": margins})
    if quick:
        return
    result = {"versions": gguf_hf.versions(), "prompts": {"p60": tokens}, "cases": cases}
    with open(os.path.join(synth.REAL, f"{name}-methods.json"), "w") as f:
        f.write(json.dumps(result, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


def main():
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    warnings.filterwarnings("ignore")
    quick = "--quick" in sys.argv
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    for name in args[1:] or ["smollm2", "gemma3"]:
        make(name, args[0], quick)


if __name__ == "__main__":
    main()
