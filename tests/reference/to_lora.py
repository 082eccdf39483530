"""Checks by hand that PEFT loads what `graft to-lora` writes, and computes with it what Graft does.

    python tests/reference/to_lora.py GRAFT        the program

Writes nothing into the repository. Versions: gguf_hf.py.
"""

import json
import os
import subprocess
import sys
import tempfile

import torch
from peft import PeftModel

import gguf_hf

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
TOKENS = [5, 9, 21, 22, 23, 2, 44]
CASES = [("loha", "--rank=3"), ("loha-high-rank", "--energy=0.9"), ("lokr", "--energy=1"), ("lokr-full", "--energy=0.5"),
         ("vera", "--rank=4"), ("adalora", "--energy=1"), ("miss", "--energy=1"), ("miss-bat", "--energy=0.99"),
         ("lora-pissa", "--energy=1"), ("lora-embedding", "--energy=1"), ("lora-head", "--rank=1"), ("lora-alora", "--energy=1")]


def main(graft):
    worst = 0.0
    for name in ("llama-tied", "qwen2", "gemma3"):
        path = os.path.join(DATA, "tiny", name, "model.gguf")
        for adapter, rule in CASES:
            source = os.path.join(DATA, "methods", name, adapter)
            if not os.path.exists(source):
                continue
            with tempfile.TemporaryDirectory() as out:
                subprocess.run([graft, "to-lora", "-m", path, "-a", source, "-o", out, rule], check=True, capture_output=True)
                model = PeftModel.from_pretrained(gguf_hf.read_model(path), out).eval()
                missing = [k for k in model.state_dict() if "lora_" in k and model.state_dict()[k].abs().sum() == 0]
                assert not missing, missing
                with torch.no_grad():
                    if "alora" in adapter:
                        # PEFT needs the ids themselves to find the invocation.
                        logits = model(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0]
                    else:
                        logits = gguf_hf.logits_of(model, TOKENS)
                vocab = logits.shape[-1]
                ours = subprocess.run(
                    [graft, "logits", "-m", path, "-a", out, "--tokens", ",".join(map(str, TOKENS)), "--exact", "--all",
                     "--json", "--top", str(vocab)], check=True, capture_output=True)
            for position in json.loads(ours.stdout)["positions"]:
                for token, logit in position["top"]:
                    oracle = float(logits[position["pos"], token])
                    worst = max(worst, abs(logit - oracle) / max(1.0, abs(oracle)))
            print(f"{name} {adapter} {rule}: largest error so far {worst:.1e}")
            assert worst < 1e-3


if __name__ == "__main__":
    main(sys.argv[1])
