"""Makes demo/adapters/golden.json: what the two demo adapters do to SmolLM2-135M-Instruct, by PEFT in float32.

    python tests/reference/demo_golden.py MODELS_DIR TOKENIZER_DIR

Per case: adapter (null for the bare model), the user's message, its chat-template token ids, 32 greedy tokens (no stop token) with the
distance of the best two logits at each step, and the 32 largest logits at the last prompt position. `text` is the greedy answer up to
<|im_end|>, at most 80 tokens.
"""

import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoTokenizer

import gguf_hf
from gguf_hf import f32

ADAPTERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "demo", "adapters")
SENTENCE = "Maria Lopez, 34, moved from Lisbon to Oslo in 2019 to work as a nurse."
PROMPTS = {
    "stage-verse": [SENTENCE, "Tell me about the sea.", "What should I do when I cannot sleep?"],
    "json-extract": [SENTENCE, "In 1998, Sara Osei left Cairo for Vienna and became a pilot at the age of 41.",
                     "Kenji Sato is 27 years old. Born in Osaka, now living in Porto as a baker since 2021."],
}


def main():
    torch.set_num_threads(1)
    models, tokenizer_dir = sys.argv[1:3]
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    base = gguf_hf.read_model(os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf"))
    end, cases = tokenizer.convert_tokens_to_ids("<|im_end|>"), []
    everyone = list(dict.fromkeys(p for prompts in PROMPTS.values() for p in prompts))
    for adapter in [None, *PROMPTS]:
        model = base if adapter is None else PeftModel.from_pretrained(base, os.path.join(ADAPTERS, adapter)).eval()
        for prompt in everyone if adapter is None else PROMPTS[adapter]:
            chat = [{"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
            greedy, margins = gguf_hf.greedy_of(model, tokens, 80, cache=True)
            answer = tokenizer.decode(greedy[: greedy.index(end)] if end in greedy else greedy)
            top = torch.topk(gguf_hf.logits_of(model, tokens)[-1], 32)
            cases.append({"adapter": adapter, "prompt": prompt, "tokens": tokens, "greedy": greedy[:32], "greedy_margin": margins[:32],
                          "top": top.indices.tolist(), "top_logits": [f32(x) for x in top.values], "text": answer})
            print(f"--- {adapter}: {prompt}\n{answer}", flush=True)
        base = model.unload() if adapter else model
    result = {"model": "SmolLM2-135M-Instruct.Q4_1.gguf", "versions": gguf_hf.versions(), "cases": cases}
    with open(os.path.join(ADAPTERS, "golden.json"), "w") as f:
        f.write(json.dumps(result, separators=(",", ":")).replace('{"adapter"', '\n{"adapter"') + "\n")


if __name__ == "__main__":
    main()
