"""How fast PEFT and torch train a LoRA adapter on a CPU, and with how much memory.

    python tests/reference/train_speed.py MODEL.gguf --seq 512 --batch 1 --steps 5 --threads 2

Prints JSON. What a user of PEFT gets without further tuning: float32 on the dequantized weights, torch's fused attention, no checkpointing,
loss over all tokens, AdamW. One step before the clock starts. `peak_mib` is the largest resident set of the process (getrusage) from the
first step on, `loading_mib` that before, which has the weights twice, `loaded_mib` the one in between. Linux only. Versions: gguf_hf.py.
"""

import argparse
import ctypes
import gc
import json
import resource
import time

import torch
from peft import LoraConfig, get_peft_model

import gguf_hf


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def forget_peak():
    """Sets the largest resident set back to the one of now, after giving back what loading has freed: the memory of steps must be new."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    base = gguf_hf.read_model(args.gguf)
    base.set_attn_implementation("sdpa")
    config = LoraConfig(task_type="CAUSAL_LM", r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear")
    model = get_peft_model(base, config).train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=2e-4)
    loading = peak()
    forget_peak()
    loaded, seconds, losses = peak(), [], []
    for _ in range(args.steps + 1):
        ids = torch.randint(0, base.config.vocab_size, (args.batch, args.seq))
        start = time.perf_counter()
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    timed = seconds[1:]
    print(json.dumps({"model": args.gguf, "seq": args.seq, "batch": args.batch, "rank": args.rank, "threads": args.threads,
                      "parameters": sum(p.numel() for p in params), "tokens_per_second": args.batch * args.seq * len(timed) / sum(timed),
                      "seconds": timed, "first_seconds": seconds[0], "loading_mib": loading, "loaded_mib": loaded, "peak_mib": peak(),
                      "losses": losses, "versions": gguf_hf.versions()}))


if __name__ == "__main__":
    main()
