"""The learning curve of PEFT and torch, for comparison with a trainer that gets the same adapter and the same tokens.

    python tests/reference/train_curve.py MODEL.gguf ADAPTER_DIR DATA.jsonl --steps 100 --lr 2e-4 --curve curve.json --save FOLDER

DATA.jsonl: an example {"tokens": [ids], "learn": [booleans, one for each token]} a line; they are taken in turn, from the first again
after the last. `learn[i]` says whether token i is to be predicted from those before it; the first never is. Longer examples are cut after
--seq tokens. ADAPTER_DIR is where training starts, a folder of save_pretrained.

Float32 on the dequantized weights; AdamW (betas 0.9 and 0.999, eps 1e-8), linear warm-up from 0, then the schedule of transformers; the loss
of a step is the mean over the learnt tokens of its examples. An adapter with dropout is trained without. Versions: gguf_hf.py.
"""

import argparse
import json
import time

import torch
from transformers import get_scheduler

import gguf_hf
import train_exact


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("adapter")
    parser.add_argument("data")
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--accumulate", type=int, default=1, help="examples of one step, one after the other")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--schedule", default="cosine", choices=["cosine", "linear", "constant_with_warmup"])
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--curve", help="where the record goes, as JSON")
    parser.add_argument("--save", help="where the trained adapter goes")
    return parser.parse_args()


def examples(path, seq):
    with open(path) as f:
        rows = [json.loads(line) for line in f if line.strip()]
    for number, row in enumerate(rows, 1):
        assert len(row["tokens"]) == len(row["learn"]), f"{path}:{number}: tokens and learn differ in length"
    rows = [(row["tokens"][:seq], row["learn"][:seq]) for row in rows]
    return [row for row in rows if any(row[1][1:])]


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    data = examples(args.data, args.seq)
    base = gguf_hf.read_model(args.gguf)
    base.set_attn_implementation("sdpa")
    model = train_exact.trainable(base, args.adapter)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    params = list(train_exact.trained(model).values())
    optimizer = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=args.weight_decay)
    schedule = get_scheduler(args.schedule, optimizer, args.warmup, args.steps)
    curve, start = [], time.time()
    for step in range(args.steps):
        used = [data[(step * args.accumulate + k) % len(data)] for k in range(args.accumulate)]
        learnt = sum(sum(learn[1:]) for _, learn in used)
        loss = 0.0
        for tokens, learn in used:
            part = train_exact.nll(model, tokens, learn) / learnt
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(params, args.clip)
        curve.append({"loss": loss, "grad_norm": float(norm), "lr": schedule.get_last_lr()[0], "learnt": learnt})
        print(f"step {step} loss {loss:.4f} norm {norm:.3f} lr {curve[-1]['lr']:.2e} at {time.time() - start:.0f} s", flush=True)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    if args.curve:
        with open(args.curve, "w") as f:
            json.dump({"options": vars(args), "versions": gguf_hf.versions(), "steps": curve}, f)
    if args.save:
        train_exact.save(model, args.save)


if __name__ == "__main__":
    main()
