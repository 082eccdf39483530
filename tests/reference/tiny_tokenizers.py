"""Tokenizer metadata for the tiny models: a byte-level BPE and a SentencePiece-style vocabulary of a few hundred entries."""

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

VOCAB = 288
TEXT = """the quick brown fox jumps over the lazy dog and then the other fox sees that the dog is there
all the world is a stage and all the men and women are in it, they have their exits and their entrances
when in the course of one and the same thing there is another, then that other is the one in the end"""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def byte_bpe(writer, pre):
    """GPT-2 style: 4 control tokens, the 256 byte characters, and as many merges as fill the vocabulary."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(specials), initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(TEXT.splitlines(), trainer)
    pieces = sorted(bpe.get_vocab().items(), key=lambda kv: kv[1])
    tokens = specials + [p for p, _ in pieces]
    assert len(tokens) == VOCAB
    merges = json_merges(bpe)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL] * len(specials) + [NORMAL] * len(pieces))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0 if pre != "smollm" else 1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(3)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def json_merges(bpe):
    import json

    merges = json.loads(bpe.to_str())["model"]["merges"]
    return [m if isinstance(m, str) else " ".join(m) for m in merges]


def sentencepiece(writer, gemma):
    """Llama/Gemma style: control tokens, 256 byte tokens, then pieces whose score falls with their number."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"] if gemma else ["<unk>", "<s>", "</s>"]
    types = [UNKNOWN if s == "<unk>" else CONTROL for s in specials]
    words = ["▁t", "he", "▁the", "an", "▁a", "nd", "▁and"]
    letters = list("▁etaoinshrdlucmfwygpbvk")
    pieces = (words + letters)[: VOCAB - len(specials) - 256]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(specials + [f"<0x{b:02X}>" for b in range(256)] + pieces)
    writer.add_token_scores([0.0] * (len(specials) + 256) + [-float(i) for i in range(len(pieces))])
    writer.add_token_types(types + [BYTE] * 256 + [NORMAL] * len(pieces))
    writer.add_bos_token_id(2 if gemma else 1)
    writer.add_eos_token_id(1 if gemma else 2)
    writer.add_unk_token_id(3 if gemma else 0)
    if gemma:
        writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(not gemma)
