"""Trains the two demo adapters of demo/adapters for SmolLM2-135M-Instruct with PEFT LoRA, on the CPU (bfloat16 products, float32 adapters).

    python demo/train/train.py stage-verse  MODEL.gguf --tokenizer FOLDER
    python demo/train/train.py json-extract MODEL.gguf --tokenizer FOLDER

The base is the dequantized GGUF file that Graft itself runs. The loss counts completion tokens only. Versions: tests/reference/gguf_hf.py.
Same seed, same thread count, same machine: same adapter.
"""

import argparse
import json
import math
import os
import random
import sys
import time

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "reference"))
import gguf_hf  # noqa: E402
from pairs import json_pairs, verse_pairs  # noqa: E402

TASKS = {
    "stage-verse": dict(seed=11, steps=150, batch=4, lr=2e-3, r=4, targets=["q_proj", "v_proj", "o_proj", "down_proj"]),
    "json-extract": dict(seed=12, steps=80, batch=4, lr=2e-3, r=4, targets=["q_proj", "k_proj", "v_proj", "o_proj"]),
}


def encode(tokenizer, prompt, completion):
    """Token ids of the whole chat and the number of them that belong to the prompt."""
    chat = [{"role": "user", "content": prompt}]
    head = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    head = tokenizer(head, add_special_tokens=False)["input_ids"]
    return head + tokenizer(completion + "<|im_end|>", add_special_tokens=False)["input_ids"], len(head)


def batch_loss(model, rows, pad):
    """Mean cross-entropy over completion tokens; the head runs on those positions only."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
    target = torch.tensor([[start <= t < len(ids) for t in range(width)] for ids, start in rows])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][target[:, 1:]])
    return F.cross_entropy(logits.float(), ids[:, 1:][target[:, 1:]])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("gguf")
    parser.add_argument("--tokenizer", required=True, help="folder with the Hugging Face tokenizer of the model")
    parser.add_argument("--out", default=os.path.join(HERE, "..", "adapters"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    task = TASKS[args.task]
    torch.set_num_threads(args.threads)
    torch.manual_seed(task["seed"])
    rng = random.Random(task["seed"])
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    base = gguf_hf.read_model(args.gguf)
    base.set_attn_implementation("sdpa")
    config = LoraConfig(task_type="CAUSAL_LM", r=task["r"], lora_alpha=2 * task["r"], lora_dropout=0.0, target_modules=task["targets"])
    model = get_peft_model(base, config)
    pairs = (verse_pairs if args.task == "stage-verse" else json_pairs)(rng, task["steps"] * task["batch"])
    rows = [encode(tokenizer, *pair) for pair in pairs]
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=task["lr"], weight_decay=0.0)
    start, recent, warm = time.time(), [], 20
    for step in range(task["steps"]):
        lr = task["lr"] * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / task["steps"])) + 0.02)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = batch_loss(base, rows[step * task["batch"] : (step + 1) * task["batch"]], tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(loss.item())
        if step % 20 == 0 or step == task["steps"] - 1:
            print(f"step {step} loss {sum(recent) / len(recent):.4f} at {time.time() - start:.0f} s", flush=True)
            recent = []
    folder = os.path.join(args.out, args.task)
    for p in params:
        p.data = p.data.to(torch.bfloat16)
    model.save_pretrained(folder)
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        saved = json.load(f)
    saved["target_modules"].sort()
    saved["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    with open(path, "w") as f:
        f.write(json.dumps(saved, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
