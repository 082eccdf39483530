"""Makes tests/data/train/<model>/<case>: adapters to be trained, a batch, its loss, and the gradient of every trained tensor.

    OMP_NUM_THREADS=1 python tests/reference/train_gradients.py                   all models
    OMP_NUM_THREADS=1 python tests/reference/train_gradients.py MODEL [NAME...]   this model, only cases that start with a NAME

Oracle: PEFT and torch's backward in float64 (train_exact.py says where not), every sequence run on its own. The loss is the mean over all
learnt tokens of the batch. Each gradient is checked against a difference quotient in a random direction, and its distance from what
float32 with eager attention gives is printed. Versions: gguf_hf.py.
"""

import json
import os
import shutil
import sys
import zlib

import numpy as np
import torch
from peft import get_peft_model
from peft.tuners.boft import layer as boft
from safetensors.torch import load_file, save_file

import method_values
import train_exact
from method_adapters import ALL, INVOCATION, MODELS, ROWS
from methods import BlockDiagonal
from tiny_tokenizers import VOCAB
from train_cases import CASES

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "train")
STEP = 1e-5


class Blocks(BlockDiagonal):
    """BOFT's CUDA extension, with the way back."""

    @staticmethod
    def backward(grad, blocks):
        size = blocks.shape[-1]
        return [torch.stack([torch.stack([g[k : k + size, k : k + size] for k in range(0, len(g), size)]) for g in grad])]


def batch(model):
    """Three sequences: one with holes in what is learnt, one learnt from its end only, one with nothing learnt at its end.

    They hold the trained rows but for 40, which is only ever among the candidates, and the first two the invocation of aLoRA.
    """
    rng = np.random.default_rng(100 + MODELS.index(model))
    draw = lambda n: [int(t) for t in rng.integers(50, VOCAB, n)]
    first, second, third = draw(37), draw(13), draw(24)
    first[4], first[17], first[29], second[2], third[3] = *ROWS[:3], ROWS[0], ROWS[1]
    first[9:12], second[5:8] = INVOCATION, INVOCATION
    learns = [[i > 0 and i % 7 not in (2, 3) for i in range(37)], [i >= 9 for i in range(13)], [0 < i < 20 and i != 8 for i in range(24)]]
    return list(zip([first, second, third], learns))


def make_adapter(model, name, folder):
    case = CASES[name]
    torch.manual_seed(zlib.crc32(f"train/{model}/{name}".encode()))  # so that a new case leaves the others alone
    config = case.config()
    targets = getattr(config, "target_modules", None)
    if model == "gemma3" and getattr(config, "layers_to_transform", 0) is None and isinstance(targets, set) and targets <= set(ALL):
        config.layers_to_transform = [0, 5]  # one with a window, the one without: 7 would only make the files larger
    peft_model = get_peft_model(train_exact.base_of(model, exact=False), config)
    method_values.fill(peft_model, config)
    shutil.rmtree(folder, ignore_errors=True)
    train_exact.save(peft_model, folder)


def losses(model, sequences, regularised):
    """The loss, and what it is made of: the sum of each sequence, the regulariser."""
    sums = [train_exact.nll(model, *sequence) for sequence in sequences]
    more = train_exact.regulariser(model) if regularised else torch.zeros(())
    return sum(sums) / sum(sum(learn) for _, learn in sequences) + more, sums, more


def quotient(model, sequences, detached):
    """The derivative in a random direction, by autograd and by a difference quotient."""
    torch.manual_seed(5)
    moved = {}
    for name, p in train_exact.trained(model).items():
        if any(part in name for part in detached) or not p.numel():
            continue
        if p.data_ptr() in moved:  # the factors of a tied LoRA: one tensor under two names, in the second place transposed
            moved[p.data_ptr()][1] += p.grad.t()
        else:
            moved[p.data_ptr()] = [p, p.grad.clone()]
    moved = [(p, g, torch.randn_like(p) * p.std(correction=0)) for p, g in moved.values()]
    slope = sum(float((g * d).sum()) for _, g, d in moved)
    ends = []
    with torch.no_grad():
        for step in (STEP, -2 * STEP):
            for p, _, d in moved:
                p.add_(d, alpha=step)
            ends.append(float(losses(model, sequences, False)[0]))
    return slope, (ends[0] - ends[1]) / (2 * STEP)


def rounded(model, folder, sequences, regularised):
    """The same gradients from transformers as it is, in float32 with eager attention."""
    peft_model = train_exact.trainable(train_exact.base_of(model, exact=False), folder)
    losses(peft_model, sequences, regularised)[0].backward()
    return train_exact.gradients(peft_model)


def make(model, name):
    case, folder, sequences = CASES[name], os.path.join(OUT, model, name), batch(model)
    boft.get_fbd_cuda = (lambda: Blocks) if case.factors > 1 else (lambda: None)
    make_adapter(model, name, folder)
    peft_model = train_exact.trainable(train_exact.base_of(model), folder)
    loss, sums, more = losses(peft_model, sequences, case.regularised)
    loss.backward()
    unused = [n for n, p in train_exact.trained(peft_model).items() if p.grad is None]
    assert not unused and peft_model.dtype == torch.float64, unused
    count = sum(p.numel() for p in train_exact.trained(peft_model).values())
    if not case.regularised:
        slope, measured = quotient(peft_model, sequences, case.detached)
        assert abs(slope - measured) < 1e-6 * max(abs(slope), 0.1), (name, slope, measured)
    grads = train_exact.gradients(peft_model)
    other = rounded(model, folder, sequences, case.regularised)
    apart = {k: float((other[k] - g).abs().max() / g.abs().max()) for k, g in grads.items()}
    saved = load_file(os.path.join(folder, "adapter_model.safetensors"))
    assert all(saved[k].shape == g.shape and g.isfinite().all() and g.any() for k, g in grads.items()), name
    kept = sum(g.numel() for g in grads.values())
    print(f"  {name:22} loss {float(loss):.4f}, largest gradient {max(float(g.abs().max()) for g in grads.values()):.2g}, float32 differs by "
          f"{max(apart.values()):.0e} of a tensor's largest; {len(saved) - len(grads)} of {len(saved)} tensors not trained"
          + (f"; {count} trained values, {kept} of them saved" if count != kept else ""), flush=True)
    assert max(apart.values()) < 1e-3, max(apart, key=apart.get)
    save_file(grads, os.path.join(folder, "gradients.safetensors"))
    rows = [{"tokens": tokens, "learn": learn, "nll": float(s)} for (tokens, learn), s in zip(sequences, sums)]
    record = {"model": f"../../../tiny/{model}/model.gguf", "method": peft_model.peft_config["default"].peft_type.value, "name": name,
              "sequences": rows, "loss": float(loss)} | ({"regulariser": float(more)} if case.regularised else {})
    with open(os.path.join(folder, "batch.json"), "w") as f:
        f.write(json.dumps(record, separators=(",", ":")).replace('{"tokens"', '\n{"tokens"') + "\n")


def main():
    torch.set_num_threads(1)
    models, starts = sys.argv[1:2] or MODELS, tuple(sys.argv[2:]) or ("",)
    for model in models:
        print(model)
        for name, case in CASES.items():
            if model in case.models and name.startswith(starts):
                make(model, name)


if __name__ == "__main__":
    main()
