"""Compares learning curves, and a trained folder in PEFT with the logits that Graft gives for it.

    python tests/reference/train_compare.py curves PEFT.json GRAFT.json...
    graft logits -m MODEL.gguf -a FOLDER --exact --all --top VOCAB --tokens 1,2,3 --json > logits.json
    python tests/reference/train_compare.py logits MODEL.gguf FOLDER 1,2,3 logits.json

The curves: the loss of every tenth step and of the last, and by how many percent of PEFT's it is another; then the largest of these over all
steps. The logits: the largest difference, of PEFT (float32 on the dequantized weights, the folder loaded by `from_pretrained`) and Graft.
"""

import json
import sys

import numpy as np
import torch
from peft import PeftModel

import gguf_hf


def losses(path):
    with open(path) as f:
        return [step["loss"] for step in json.load(f)["steps"]]


def curves(paths):
    peft, *others = [losses(path) for path in paths]
    assert all(len(other) == len(peft) for other in others), "curves of different lengths"
    shown = sorted({*range(0, len(peft), 10), len(peft) - 1})
    for i in shown:
        print(f"step {i:4} peft {peft[i]:.5f}" + "".join(f"  {o[i]:.5f} ({100 * (o[i] / peft[i] - 1):+.4f} %)" for o in others))
    for path, other in zip(paths[1:], others):
        away = max(abs(o / p - 1) for o, p in zip(other, peft))
        tail = len(peft) // 10
        end = sum(other[-tail:]) / sum(peft[-tail:]) - 1
        print(f"{path}: at most {100 * away:.4f} % in any step, mean of the last {tail} steps {100 * end:+.4f} %")


def logits(gguf, folder, tokens, ours):
    tokens = [int(t) for t in tokens.split(",")]
    with open(ours) as f:
        ours = json.load(f)
    model = PeftModel.from_pretrained(gguf_hf.read_model(gguf), folder).eval()
    theirs = gguf_hf.logits_of(model, tokens).numpy()
    assert len(ours["positions"]) == len(tokens)
    worst = 0.0
    for position in ours["positions"]:
        row = np.full(theirs.shape[1], np.nan, np.float32)
        for token, logit in position["top"]:
            row[token] = logit
        assert not np.isnan(row).any(), "not all of the vocabulary"
        worst = max(worst, float(np.abs(row - theirs[position["pos"]]).max()))
    print(f"{len(tokens)} positions, largest |logit| {np.abs(theirs).max():.2f}, largest difference {worst:.2e}")
    with torch.no_grad(), model.disable_adapter():
        bare = gguf_hf.logits_of(model, tokens).numpy()
    print(f"for scale: the adapter changes logits by up to {np.abs(bare - theirs).max():.2f}")


if __name__ == "__main__":
    if sys.argv[1] == "curves":
        curves(sys.argv[2:])
    else:
        logits(*sys.argv[2:])
