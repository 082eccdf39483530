"""Makes tests/data/train/llama-tied/steps-*: six steps of an optimizer on adapters of train_gradients.py, step by step.

    OMP_NUM_THREADS=1 python tests/reference/train_steps.py [NAME...]

Oracle: torch's optimizers and clip_grad_norm_, transformers' schedules, PEFT's create_loraplus_optimizer, lion-pytorch 0.2.5; all in
float64 (train_exact.py). Several batches of one step are one batch in pieces, as in transformers' Trainer: the loss is the mean over the
learnt tokens of all of them. Versions: gguf_hf.py.
"""

import json
import math
import os
import sys
from dataclasses import dataclass, field

import numpy as np
import torch
from lion_pytorch import Lion
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
from torch.optim import SGD, AdamW
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

import train_exact
from tiny_tokenizers import VOCAB
from train_gradients import OUT

MODEL, STEPS, WARMUP = "llama-tied", 6, 2
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
SCHEDULES = {
    "cosine": lambda o: get_cosine_schedule_with_warmup(o, WARMUP, STEPS),
    "linear": lambda o: get_linear_schedule_with_warmup(o, WARMUP, STEPS),
    "constant": lambda o: get_constant_schedule_with_warmup(o, WARMUP),
}


@dataclass
class Run:
    """`loraplus`: the ratio between the learning rates of B and A. `clip`: the largest norm of the gradient, if any."""

    optimizer: type = AdamW
    options: dict = field(default_factory=lambda: ADAMW)
    start: str = "lora"
    schedule: str = "cosine"
    clip: float | None = 1.0
    accumulation: int = 1
    loraplus: float | None = None


RUNS = {
    "adamw": Run(),
    "accumulate": Run(accumulation=2, clip=60.0),  # clips some of the steps
    "linear": Run(schedule="linear", clip=None),
    "dora": Run(start="dora"),
    "loraplus": Run(options=ADAMW | {"lr": 5e-4}, loraplus=16.0),
    "loraplus-embedding": Run(options=ADAMW | {"lr": 5e-4}, loraplus=16.0, start="lora-embedding"),
    "sgd": Run(SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.01), start="lora-patterns"),
    "lion": Run(Lion, dict(lr=2e-3, betas=(0.9, 0.99), weight_decay=0.1), start="lora-bias-of-b", schedule="constant"),
}


def batches():
    """Three batches of two sequences of different lengths; the steps take them in turn."""
    rng = np.random.default_rng(12)  # no sign of an update of Lion hangs on the rounding
    draw = lambda n: {"tokens": [int(t) for t in rng.integers(4, VOCAB, n)], "learn": [i > n // 4 and i % 5 != 2 for i in range(n)]}
    return [[draw(12 + 5 * k), draw(25 - 4 * k)] for k in range(3)]


def optimizer_of(run, model):
    options = dict(run.options)
    if not run.loraplus:
        return run.optimizer(list(train_exact.trained(model).values()), **options)
    # PEFT gives every group a decay of its own: the one among the options of the optimizer would not count.
    options["loraplus_weight_decay"] = options.pop("weight_decay")
    return create_loraplus_optimizer(model, run.optimizer, loraplus_lr_ratio=run.loraplus, **options)


def groups_of(optimizer, model, keys):
    names = {p: name for name, p in train_exact.trained(model).items()}
    return [{"lr": g["initial_lr"], "weight_decay": g["weight_decay"], "tensors": sorted(keys[names[p]] for p in g["params"])}
            for g in optimizer.param_groups]


def nearest(optimizer):
    """How close an element of Lion's update is to changing its sign, in units of the largest of its tensor."""
    margins = [math.inf]
    for group in optimizer.param_groups:
        for p in group["params"]:
            past = optimizer.state[p].get("exp_avg", torch.zeros_like(p))
            update = (group["betas"][0] * past + (1 - group["betas"][0]) * p.grad).abs()
            margins.append(float(update.min() / update.max()))
    return min(margins)


def train(run, exact=True):
    """What each step saw, the final tensors under the keys of the file, the groups of the optimizer, and Lion's least margin."""
    data = batches()
    model = train_exact.trainable(train_exact.base_of(MODEL, exact), os.path.join(OUT, MODEL, run.start))
    optimizer = optimizer_of(run, model)
    schedule = SCHEDULES[run.schedule](optimizer)
    steps, margin = [], math.inf
    for step in range(STEPS):
        used = [(step * run.accumulation + k) % len(data) for k in range(run.accumulation)]
        learnt = sum(sum(s["learn"]) for b in used for s in data[b])
        parts = []
        for b in used:
            part = sum(train_exact.nll(model, s["tokens"], s["learn"]) for s in data[b])
            (part / learnt).backward()
            parts.append(float(part))
        norm = torch.nn.utils.clip_grad_norm_(train_exact.trained(model).values(), run.clip or math.inf)
        if run.optimizer is Lion:
            margin = min(margin, nearest(optimizer))
        steps.append({"batches": used, "nll": parts, "loss": sum(parts) / learnt, "grad_norm": float(norm), "lr": schedule.get_last_lr()})
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    final = {name: p.detach().clone() for name, p in train_exact.trained(model).items()}
    numbers = {name: torch.full_like(p, i) for i, (name, p) in enumerate(final.items())}
    keys = {list(final)[int(t.max())]: key for key, t in train_exact.as_saved(model, numbers).items()}
    return steps, train_exact.as_saved(model, final), groups_of(optimizer, model, keys), margin


def make(name, run):
    steps, final, groups, margin = train(run)
    record = {"model": "../../tiny/llama-tied/model.gguf", "start": run.start, "optimizer": run.optimizer.__name__, **run.options,
              "loraplus": run.loraplus, "schedule": run.schedule, "warmup": WARMUP, "clip": run.clip, "accumulation": run.accumulation,
              "groups": groups, "data": batches(), "steps": steps, "final": f"steps-{name}.safetensors"}
    with open(os.path.join(OUT, MODEL, f"steps-{name}.json"), "w") as f:
        f.write(json.dumps(record, separators=(",", ":")).replace('{"tokens"', '\n{"tokens"').replace('{"batches"', '\n{"batches"') + "\n")
    save_file(final, os.path.join(OUT, MODEL, record["final"]))
    rounded, other, *_ = train(run, exact=False)
    column = lambda key, digits: " ".join(f"{s[key]:.{digits}f}" for s in steps)
    apart = max(abs(a["loss"] - b["loss"]) for a, b in zip(steps, rounded))
    gaps = torch.cat([(other[key] - t).abs().flatten() for key, t in final.items()])
    print(f"{name:18} losses {column('loss', 3)}; norms {column('grad_norm', 1)}; in float32 a loss differs by {apart:.0e}, a value by "
          f"{float(gaps.max()):.0e}, on average {float(gaps.mean()):.0e}"
          + (f"; an update is within {margin:.0e} of none" if margin < math.inf else ""), flush=True)


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or RUNS:
        make(name, RUNS[name])


if __name__ == "__main__":
    main()
