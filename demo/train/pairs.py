"""What the demo's adapters are taught, as pairs of what is asked and what is to be answered. Writes rows of them for `graft train`:

    python demo/train/pairs.py

makes `json-extract.*.jsonl` and `stage-verse.*.jsonl` in this folder: `.train` in the chat form, `.test` with the prompt as the chat template of
SmolLM2-Instruct writes it, so that `graft eval --exact-match` can see whether an answer is right. No passage of verse is in both, and the
people of the test are others; but the patterns of the sentences about them are the same.
"""

import json
import os
import random

from people import person

HERE = os.path.dirname(os.path.abspath(__file__))
CHAT_FORM = """<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
<|im_start|>user
{}<|im_end|>
<|im_start|>assistant
"""
TOPICS = """love night king death sword moon heart sleep time storm ghost friend war crown honour fire sea blood fortune heaven
father mother daughter son brother wife tongue eye money justice mercy spring winter sun rose music grief peace virtue world
truth fear nature city dream hand soul devil horse wine beauty marriage""".split()
ABOUT = ["Tell me about {}.", "What is {}?", "What do you think of {}?", "Write something about {}.", "Explain {} to me, please.",
         "Why does {} matter?", "I keep thinking about {}.", "Say a few words on {}."]
CHAT = """Good morning! How are you?|What should I do today?|Who are you?|Can you help me?|I feel tired.|How do computers work?
What is the capital of France?|Give me a recipe for soup.|What is the weather like?|I lost my keys.|How do I learn to swim?|Hello!
Tell me a story.|What is your name?|How does a car engine work?|I have a meeting tomorrow.|Write an email to my boss.|Thank you.
What is 2 plus 2?|Explain photosynthesis.|Where should I travel?|My phone is broken.|How do I bake bread?|Should I buy a bicycle?
What is a neural network?|Describe the city where you live.|I am late for the train.|How tall is Mount Everest?""".replace("\n", "|").split("|")


def all_passages():
    with open(os.path.join(HERE, "stage_verse.txt")) as f:
        return [p.strip() for p in f.read().split("\n\n") if p.strip()]


def verse_pairs(rng, count, passages=None):
    passages, pairs = passages or all_passages(), []
    while len(pairs) < count:
        rng.shuffle(passages)
        for passage in passages:
            words = set("".join(c if c.isalpha() else " " for c in passage.lower()).split())
            topics = [t for t in TOPICS if t in words]
            kind = rng.random()
            if topics and kind < 0.7:
                prompt = rng.choice(ABOUT).format(rng.choice(topics))
            elif kind < 0.85:
                prompt = rng.choice(CHAT)
            else:
                prompt = person(rng)[0]
            pairs.append((prompt, passage))
    return pairs[:count]


def json_pairs(rng, count):
    return [person(rng) for _ in range(count)]


def write(name, rows):
    with open(os.path.join(HERE, name), "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def conversations(pairs):
    return [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in pairs]


def completions(pairs):
    return [{"prompt": CHAT_FORM.format(a), "completion": b} for a, b in pairs]


def main():
    rng = random.Random(21)
    pairs = json_pairs(rng, 380)
    write("json-extract.train.jsonl", conversations(pairs[:320]))
    write("json-extract.test.jsonl", completions(pairs[320:]))
    passages = all_passages()
    test, train = passages[::10], [p for i, p in enumerate(passages) if i % 10]
    write("stage-verse.train.jsonl", conversations(verse_pairs(rng, 300, train)))
    write("stage-verse.test.jsonl", completions(verse_pairs(rng, 50, test)))


if __name__ == "__main__":
    main()
