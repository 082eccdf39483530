"""Makes tests/data/methods/counts.json: what PEFT's get_nb_trainable_parameters gives for each adapter of tests/data/methods.

    python tests/reference/counts.py

Prompts cannot be read back for training; for them a new adapter of the same config is counted. Of those with an encoder the file holds less
than PEFT counts: their numbers are null.
"""

import json
import os
import warnings

import gguf_hf
from methods import OUT, TINY, use_extension
from peft import PeftConfig, PeftModel, get_peft_model

warnings.filterwarnings("ignore")


def count(model, folder):
    base = gguf_hf.read_model(os.path.join(TINY, model, "model.gguf"))
    name, config = os.path.basename(folder), PeftConfig.from_pretrained(folder)
    if config.peft_type == "P_TUNING" or getattr(config, "prefix_projection", False):
        return None
    use_extension([name])
    if config.is_prompt_learning:
        config.inference_mode = False
        return get_peft_model(base, config).get_nb_trainable_parameters()
    if name == "lora-larger-vocabulary":
        base.resize_token_embeddings(296)
    return PeftModel.from_pretrained(base, folder, is_trainable=True).get_nb_trainable_parameters()


def main():
    counts = {}
    for model in sorted(m for m in os.listdir(OUT) if os.path.isdir(os.path.join(OUT, m))):
        folders = sorted(f.path for f in os.scandir(os.path.join(OUT, model)) if f.is_dir())
        counts[model] = {os.path.basename(f): count(model, f) for f in folders}
    with open(os.path.join(OUT, "counts.json"), "w") as f:
        json.dump(counts, f, indent=0)
        f.write("\n")


if __name__ == "__main__":
    main()
