"""Classification learnt by PEFT and torch, for comparison with `graft train` and `graft eval` on the same rows.

    python tests/reference/classify.py MODEL.gguf GRAFT demo/train/tickets.train.jsonl demo/train/tickets.test.jsonl --seeds 1 2 3

GRAFT is the program, which cuts texts into tokens. Rows as `graft train` and `graft eval` read them: prompt and completion, of which the
completion and the end-of-sequence token are learnt; prompt and choices, of which the one with the highest sum of log-probabilities is
taken. LoRA on all linear maps, begun by PEFT; AdamW, cosine, warm-up 3 in 100, clip 1; each epoch shuffled anew. The loss is the mean over
the learnt tokens of a batch. Float32 on the dequantized weights. Prints the accuracy before, and after each seed. Versions: gguf_hf.py.
"""

import argparse
import json
import math
import random
import subprocess
import time

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import get_scheduler

import gguf_hf


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("graft")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--r", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def tokens_of(args, texts):
    """The tokens of texts without line breaks, without a begin token: SmolLM2 and Qwen have none."""
    command = [args.graft, "tokenize", "-m", args.gguf, "--no-special", "--lines", "-f", "-"]
    out = subprocess.run(command, input="\n".join(texts) + "\n", capture_output=True, text=True, check=True).stdout
    rows = [[int(t) for t in line.split()] for line in out.splitlines()]
    assert len(rows) == len(texts)
    return rows


def read(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def learnable(args, rows, eos):
    prompts = tokens_of(args, [row["prompt"] for row in rows])
    whole = tokens_of(args, [row["prompt"] + row["completion"] for row in rows])
    assert all(w[: len(p)] == p for p, w in zip(prompts, whole)), "a token across the border"
    return [(w + [eos], [i >= len(p) for i in range(len(w) + 1)]) for p, w in zip(prompts, whole)]


def nlls(model, batch):
    """The sum of the negative log-likelihoods of the learnt tokens, by example. Padding stands behind, where nothing sees it."""
    width = max(len(tokens) for tokens, _ in batch)
    ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in batch])
    learnt = torch.tensor([learn + [False] * (width - len(learn)) for _, learn in batch])[:, 1:]
    logits = model(ids, use_cache=False).logits[:, :-1]
    losses = torch.zeros(learnt.shape).masked_scatter(learnt, F.cross_entropy(logits[learnt], ids[:, 1:][learnt], reduction="none"))
    return losses.sum(1)


@torch.no_grad()
def accuracy(model, test):
    model.eval()
    right = 0
    for choices, answer in test:
        right += int(nlls(model, choices).argmin()) == answer
    return right / len(test)


def with_choices(args, rows):
    prompts = tokens_of(args, [row["prompt"] for row in rows])
    test = []
    whole = iter(tokens_of(args, [row["prompt"] + choice for row in rows for choice in row["choices"]]))
    for row, prompt in zip(rows, prompts):
        choices = [next(whole) for _ in row["choices"]]
        choices = [(tokens, [i >= len(prompt) for i in range(len(tokens))]) for tokens in choices]
        test.append((choices, row["choices"].index(row["answer"])))
    return test


def learn(args, model, rows, seed):
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=args.lr, weight_decay=0.0)
    per_epoch = math.ceil(len(rows) / args.batch)
    steps = args.epochs * per_epoch
    schedule = get_scheduler("cosine", optimizer, math.ceil(0.03 * steps), steps)
    rng = random.Random(seed)
    model.train()
    for _ in range(args.epochs):
        order = rng.sample(rows, len(rows))
        for at in range(0, len(rows), args.batch):
            batch = order[at : at + args.batch]
            learnt = sum(sum(learn[1:]) for _, learn in batch)
            (nlls(model, batch).sum() / learnt).backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return steps


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    base = gguf_hf.read_model(args.gguf)
    base.set_attn_implementation("sdpa")
    rows = learnable(args, read(args.train), base.config.eos_token_id)
    test = with_choices(args, read(args.test))
    print(f"before: {100 * accuracy(base, test):.1f} %", flush=True)
    for seed in args.seeds:
        torch.manual_seed(seed)
        config = LoraConfig(task_type="CAUSAL_LM", r=args.r, lora_alpha=args.alpha, target_modules="all-linear")
        model = get_peft_model(base, config)
        start = time.time()
        steps = learn(args, model, rows, seed)
        print(f"seed {seed}: {100 * accuracy(model, test):.1f} % after {steps} steps in {time.time() - start:.0f} s", flush=True)
        base = model.unload()


if __name__ == "__main__":
    main()
