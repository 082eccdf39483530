"""Makes tests/data/real/<model>.json: golden logits of the real models, dequantized to float32, with and without adapters.

    python tests/reference/real_models.py MODELS_DIR [NAME...]      (NAME: smollm2, gemma3, qwen2)

MODELS_DIR holds the three GGUF files. HF_DIR (default: a temporary folder) receives the tokenizers that transformers builds from them.
Oracle: transformers float32 CPU eager attention on gguf-py's dequantized weights; PEFT for adapters, which synth.py generates.

Per case: name, prompt (its tokens are under "prompts"), adapters, positions, mean_logprob (mean natural-log probability of tokens
2..n), and for 60-token prompts greedy + greedy_margin (32 tokens, no stop token). Per position: pos, top (32 ids), top_logits,
stride_logits (logits of ids 0, s, 2s, ... for s = vocab // 128, 128 of them), logsumexp.
"""

import json
import os
import sys
import tempfile

import torch
from peft import PeftModel
from transformers import AutoTokenizer

import gguf_hf
import synth
from gguf_hf import f32

HERE = os.path.dirname(os.path.abspath(__file__))
VERSE = os.path.join(HERE, "..", "..", "demo", "train", "stage_verse.txt")
QUESTION = ("Explain in three short sentences why the sky is blue during the day and red in the evening, "
            "and then name one planet where it looks different.")
PLAIN = ("The three most important inventions of the nineteenth century were the steam engine, the telegraph and the electric light. "
         "The first changed how people travelled, the second how they talked to each other, and the third changed how they spent the "
         "evening, because")
# name: (prompt, adapters)
CASES = {
    "base-5": ("p5", []), "base-60": ("p60", []), "base-620": ("p620", []), "base-1500": ("p1500", []),
    "qv-60": ("p60", [("qv", 1.0)]),
    "all-linear-60": ("p60", [("all-linear", 1.0)]), "all-linear-620": ("p620", [("all-linear", 1.0)]),
    "all-linear-1500": ("p1500", [("all-linear", 1.0)]),
    "rslora-60": ("p60", [("rslora", 1.0)]), "patterns-60": ("p60", [("patterns", 1.0)]),
    "bf16-60": ("p60", [("bf16", 1.0)]), "f16-60": ("p60", [("f16", 1.0)]),
    "half-60": ("p60", [("all-linear", 0.5)]), "two-60": ("p60", [("qv", 1.0), ("rslora", 1.0)]),
}


def prompts(name, tokenizer):
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = [2] if name == "gemma3" else []
    with open(VERSE) as f:
        verse = bos + encode(f.read()[:12000])
    short = encode(PLAIN)
    if name == "gemma3":
        sixty = bos + short
    else:
        chat = [{"role": "user", "content": QUESTION}]
        sixty = encode(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    return {"p5": (bos + short)[:5], "p60": sixty, "p620": verse[:620], "p1500": verse[:1500]}


@torch.no_grad()
def run(model, tokens, wanted):
    """Logits at the wanted positions, and the mean log-probability, with the head in pieces (its full output would be gigabytes)."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    hidden = inner.model(torch.tensor([tokens]), use_cache=False).last_hidden_state[0]
    head = lambda h: inner.lm_head(h).float()
    picked, total = {p: head(hidden[p]) for p in wanted}, 0.0
    for at in range(0, len(tokens) - 1, 128):
        end = min(at + 128, len(tokens) - 1)
        logits = head(hidden[at:end])
        target = torch.tensor(tokens[at + 1 : end + 1])[:, None]
        total += float((logits.gather(1, target)[:, 0].double() - torch.logsumexp(logits, -1).double()).sum())
    return picked, total / (len(tokens) - 1)


def summary(pos, logits):
    top = torch.topk(logits, 32)
    stride = len(logits) // 128
    return {"pos": pos, "top": top.indices.tolist(), "top_logits": [f32(x) for x in top.values],
            "stride_logits": [f32(logits[i * stride]) for i in range(128)], "logsumexp": float(torch.logsumexp(logits.double(), 0))}


def with_adapters(base, model_name, wanted, folder):
    for name, _ in wanted:
        synth.write(model_name, name, os.path.join(folder, name))
    first, *rest = [name for name, _ in wanted]
    model = PeftModel.from_pretrained(base, os.path.join(folder, first), adapter_name=first)
    for name in rest:
        model.load_adapter(os.path.join(folder, name), adapter_name=name)
    model.base_model.set_adapter([name for name, _ in wanted])
    for module in model.modules():
        scaling = getattr(module, "scaling", None)
        for name, weight in wanted:
            if isinstance(scaling, dict) and name in scaling:
                scaling[name] *= weight
    return model.eval()


def check_bridge(path, model):
    """Our reading of the file and transformers' own must agree bit for bit: tensors, and the settings that it does read."""
    other = gguf_hf.read_with_transformers(path)
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    worst = max(float((mine[k] - theirs[k]).abs().max()) for k in mine)
    wrong = [k for k, v in model.config.to_dict().items() if other.config.to_dict().get(k) != v]
    print(f"    {len(mine)} tensors, largest difference to transformers' loader {worst}; settings that differ: {wrong}", flush=True)
    for k in wrong:
        print("       ", k, "ours", model.config.to_dict()[k], "theirs", other.config.to_dict().get(k))
    assert worst == 0.0


def text_score(model, tokenizer):
    """Mean log-probability over a longer text, in windows of 512 tokens that each begin from nothing."""
    with open(VERSE) as f:
        tokens = tokenizer(f.read()[40000:48000], add_special_tokens=False)["input_ids"][:2048]
    windows = [tokens[i : i + 512] for i in range(0, len(tokens), 512)]
    return {"window": 512, "tokens": tokens, "mean_logprob": [run(model, w, [])[1] for w in windows]}


def make(name, models_dir, quick=False):
    path = os.path.join(models_dir, synth.spec()["models"][name]["file"])
    model = gguf_hf.read_model(path)
    print(name, flush=True)
    if not quick:
        check_bridge(path, model)
    folder, file = os.path.split(path)
    cached = os.path.join(os.environ.get("HF_DIR", ""), name)
    tokenizer = AutoTokenizer.from_pretrained(cached) if os.path.isdir(cached) else AutoTokenizer.from_pretrained(folder, gguf_file=file)
    texts, cases = prompts(name, tokenizer), []
    with tempfile.TemporaryDirectory() as scratch:
        for case, (prompt, adapters) in CASES.items():
            if quick and not case.endswith("-60"):
                continue
            tokens = texts[prompt]
            active = with_adapters(model, name, adapters, scratch) if adapters else model
            n = len(tokens)
            wanted = sorted({0, n - 1} | ({n // 2} if n > 60 else set()) | ({n - 1 - 511, n - 1 - 512} if n > 1000 else set()))
            picked, mean = run(active, tokens, wanted)
            entry = {"name": case, "prompt": prompt, "adapters": [{"case": a, "weight": w} for a, w in adapters],
                     "positions": [summary(p, logits) for p, logits in picked.items()], "mean_logprob": mean}
            if prompt == "p60":
                entry["greedy"], entry["greedy_margin"] = gguf_hf.greedy_of(active, tokens, cache=True)
            cases.append(entry)
            last = picked[n - 1]
            if case == "base-60":
                base = last
            text = repr(tokenizer.decode(entry.get("greedy", [])))[:110]
            moved = float((last - base).std()) if prompt == "p60" else 0.0
            print(f"    {case} n={n} mean_logprob {mean:.3f} moved {moved:.2f} {text}", flush=True)
            if adapters:
                model = active.unload()
    if quick:
        return
    result = {"model": file, "versions": gguf_hf.versions(), "vocab": model.config.vocab_size, "prompts": texts, "cases": cases}
    if name == "smollm2":
        result["text"] = text_score(model, tokenizer)
    with open(os.path.join(synth.REAL, f"{name}.json"), "w") as f:
        f.write(json.dumps(result, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


def main():
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    quick = "--quick" in sys.argv
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    for name in args[1:] or ["smollm2", "gemma3", "qwen2"]:
        make(name, args[0], quick)


if __name__ == "__main__":
    main()
