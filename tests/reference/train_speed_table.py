"""Training speed and memory of Graft beside PEFT and torch, in turns, over sequence lengths and batch sizes.

    cargo build --release --example train_speed
    python tests/reference/train_speed_table.py MODEL.gguf [SEQxBATCH ...]

Prints a Markdown table: tokens/s, the largest resident set in MiB (the mapped model is in Graft's), and the ratios. Each case runs Graft, then
torch (train_speed.py), three steps each after one that does not count. Versions: gguf_hf.py.
"""

import json
import os
import re
import subprocess
import sys

CASES = ["128x1", "512x1", "2048x1", "128x8", "512x4"]
here = os.path.dirname(os.path.abspath(__file__))
program = os.path.join(here, "../../target/release/examples/train_speed")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=here).stdout


def main():
    model, cases = os.path.abspath(sys.argv[1]), sys.argv[2:] or CASES
    print("| seq x batch | Graft tokens/s | torch | ratio | Graft MiB | torch | ratio |")
    print("|---|---|---|---|---|---|---|")
    for case in cases:
        seq, batch = case.split("x")
        out = run(program, model, seq, "3", batch)
        fast = float(re.search(r"^([0-9.]+) tokens/s", out, re.M)[1])
        small = int(re.search(r"VmHWM:\s+(\d+) kB", out)[1]) / 1024
        torch = json.loads(run(sys.executable, "train_speed.py", model, "--seq", seq, "--batch", batch, "--steps", "3"))
        slow, large = torch["tokens_per_second"], torch["peak_mib"]
        print(f"| {seq} x {batch} | {fast:.0f} | {slow:.0f} | {fast / slow:.2f} | {small:.0f} | {large} | 1/{large / small:.1f} |", flush=True)


if __name__ == "__main__":
    main()
