"""Cases of tests/data/methods with more than one adapter, with weights, and with adapters that change in mid-sequence."""

from method_adapters import MODELS

BOTH = ("llama-tied", "qwen2")
LLAMA = ("llama-tied",)


def all_of(*names):
    return [(name, 1.0) for name in names]


# name: ([(adapter, weight)], models). PEFT has a scaling to multiply only in LORA, ADALORA, LOHA and LOKR.
COMBINED = {
    "lora-weight-0": ([("lora", 0.0)], LLAMA),
    "lora-bias-of-b-half": ([("lora-bias-of-b", 0.5)], BOTH),
    "lora-embedding-half": ([("lora-embedding", 0.5)], MODELS),
    "lora-pissa-half": ([("lora-pissa", 0.5)], LLAMA),
    "dora-half": ([("lora-dora", 0.5)], MODELS),
    "dora-weight-0": ([("lora-dora", 0.0)], BOTH),
    "dora-negative": ([("lora-dora", -1.0)], BOTH),
    "embedding-dora-half": ([("lora-embedding-dora", 0.5)], LLAMA),
    "adalora-half": ([("adalora", 0.5)], LLAMA),
    "loha-negative": ([("loha", -0.5)], LLAMA),
    "lokr-half": ([("lokr", 0.5)], LLAMA),
    "two-loras-negative": ([("lora", 1.0), ("lora-other", -0.7)], MODELS),
    "dora-and-lora": (all_of("lora-dora", "lora-other"), BOTH),
    "lora-and-dora": (all_of("lora-other", "lora-dora"), BOTH),
    "two-doras": (all_of("lora-dora", "lora-dora-rslora"), MODELS),
    "two-doras-turned": (all_of("lora-dora-rslora", "lora-dora"), BOTH),
    "lora-and-pissa": (all_of("lora-other", "lora-pissa"), LLAMA),
    "lora-and-bdlora": (all_of("lora-other", "lora-bdlora"), LLAMA),
    "lora-and-embedding": (all_of("lora-other", "lora-embedding"), BOTH),
    "lora-and-tokens": (all_of("lora-other", "lora-tokens"), LLAMA),
    "lora-and-norm": (all_of("lora-other", "lora-save-norm"), LLAMA),
    "two-ia3": (all_of("ia3", "ia3-all"), BOTH),
    "two-oft": (all_of("oft", "oft-exact"), MODELS),
    "two-oft-turned": (all_of("oft-exact", "oft"), BOTH),
    "two-boft": (all_of("boft", "boft-blocks"), BOTH),
    "two-boft-turned": (all_of("boft-blocks", "boft"), LLAMA),
    "two-hra": (all_of("hra", "hra-odd"), BOTH),
    "two-hra-turned": (all_of("hra-odd", "hra"), LLAMA),
    "two-road": (all_of("road-1", "road-4"), BOTH),
    "two-road-turned": (all_of("road-4", "road-1"), LLAMA),
    "two-miss": (all_of("miss", "miss-padded"), LLAMA),
    "two-loha": (all_of("loha", "loha-patterns"), LLAMA),
    "two-lokr": (all_of("lokr", "lokr-both"), LLAMA),
    "two-adalora": (all_of("adalora", "adalora-pruned"), LLAMA),
    "two-beft": (all_of("beft", "beft-all"), BOTH),
    # PeftMixedModel, in the order of addition: a later method wraps the earlier ones. IA3, RoAd and BEFT it refuses.
    "mixed-lora-oft": (all_of("lora", "oft"), BOTH),
    "mixed-oft-lora": (all_of("oft", "lora"), BOTH),
    "mixed-lora-lokr": (all_of("lora", "lokr"), BOTH),
    "mixed-loha-adalora": (all_of("loha", "adalora"), BOTH),
    "mixed-oft-loha-lora": (all_of("oft", "loha", "lora"), MODELS),
    "mixed-lora-oft-loha": (all_of("lora", "oft", "loha"), LLAMA),
    "mixed-lokr-dora": (all_of("lokr", "lora-dora"), LLAMA),
    "mixed-dora-lokr": (all_of("lora-dora", "lokr"), LLAMA),
}
# name: [(adapters, number of tokens)]; together LENGTH tokens
SWITCHES = {
    "switch-lora": [(all_of("lora"), 14), (all_of("lora-other"), 10), ([], 8), (all_of("lora-dora"), 9)],
    "switch-lora-two": [([], 16), (all_of("lora", "lora-other"), 25)],
    "switch-alora": [([], 20), (all_of("lora-alora"), 21)],
    "switch-methods": [(all_of("lora"), 14), (all_of("ia3"), 10), ([], 8), (all_of("oft"), 9)],
}
SWITCHED_INVOCATION = 23  # in the second segment of switch-alora
