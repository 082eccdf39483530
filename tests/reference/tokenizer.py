"""Records the ids that Hugging Face's `tokenizers` gives for the corpus: tests/data/tokenizer/*.bin and *.json.

    python tests/reference/tokenizer.py [--json MODEL=tokenizer.json ...]

The tokenizers are built from the vocabularies and merges of the GGUF files (~/.cache/graft/models, or GRAFT_MODELS),
set up as the models' own tokenizer.json says (transformers' conversion from GGUF leaves out SmolLM2's digits, Qwen2's
NFC and others). With --json the published file is used too, and must give the same ids for every line.
Versions: see tests/data/tokenizer/README.md.
"""

import argparse
import json
import os
import pathlib
import struct

import tokenizers
from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tokenizer_corpus import corpus

OUT = pathlib.Path(__file__).parent.parent / "data" / "tokenizer"
HOME = pathlib.Path(os.environ.get("GRAFT_MODELS") or pathlib.Path.home() / ".cache/graft/models")
FILES = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma3": "gemma-3-270m-Q4_K_M.gguf",
    "qwen2": "Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf",
}
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def facts(path):
    fields = GGUFReader(path).fields
    return {k.removeprefix("tokenizer.ggml."): f.contents() for k, f in fields.items() if k.startswith("tokenizer.ggml.")}


def derived_merges(tokens, scores):
    """Every cut of a token into two tokens, the highest score first: as the published Gemma files were made."""
    ids = {t: i for i, t in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores):
        cuts = [(token[:k], token[k:], score) for k in range(1, len(token))]
        cuts = [c for c in cuts if c[0] in ids and c[1] in ids]
        merges += sorted(cuts, key=lambda c: (ids[c[0]], ids[c[1]]))
    merges.sort(key=lambda c: (c[2], len(c[0]), len(c[1])), reverse=True)
    return [(a, b) for a, b, _ in merges]


def build(name, f):
    tokens, kinds = f["tokens"], f["token_type"]
    if name == "gemma3":
        # GGUF writes user-defined tokens with spaces, and gives special tokens scores of its own.
        tokens = [t.replace(" ", "\u2581") if k == 4 else t for t, k in zip(tokens, kinds)]
        scores = [0.0 if k in (3, 4, 6) else s for s, k in zip(f["scores"], kinds)]
        vocab = {t: i for i, t in enumerate(tokens)}
        merges = derived_merges(tokens, scores)
        t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        t.normalizer = normalizers.Replace(" ", "\u2581")
        t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        vocab = {t: i for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 1 or (name == "smollm2" and k == 3)}
        merges = [tuple(m.split(" ")) for m in f["merges"]]
        t = Tokenizer(models.BPE(vocab, merges))
        if name == "smollm2":
            t.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        else:
            t.normalizer = normalizers.NFC()
            split = pre_tokenizers.Split(Regex(QWEN2), "isolated")
            t.pre_tokenizer = pre_tokenizers.Sequence(
                [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
            )
        t.decoder = decoders.ByteLevel()
    added = [(i, s, k) for i, (s, k) in enumerate(zip(tokens, kinds)) if k in (3, 4)]
    for i, s, k in added:
        token = AddedToken(s, special=k == 3, normalized=False)
        t.add_special_tokens([token]) if k == 3 else t.add_tokens([token])
        assert t.token_to_id(s) == i, (s, i, t.token_to_id(s))
    return t


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--json", action="append", default=[])
    published = dict(a.split("=", 1) for a in args.parse_args().json)
    lines = corpus()
    everything = fnv("\0".join(lines).encode())
    print(f"tokenizers {tokenizers.__version__}; {len(lines)} lines, {sum(map(len, lines))} characters, hash {everything:016x}")
    for name, file in FILES.items():
        t = build(name, facts(HOME / file))
        encodings = [e.ids for e in t.encode_batch(lines, add_special_tokens=False)]
        if name in published:
            other = Tokenizer.from_file(published[name]).encode_batch(lines, add_special_tokens=False)
            differ = [i for i, (a, b) in enumerate(zip(encodings, other)) if a != b.ids]
            print(f"{name}: {len(differ)} lines differ from the published file", differ[:10])
            assert not differ or name == "qwen2"
        texts = t.decode_batch(encodings, skip_special_tokens=False)
        same = sum(a == b for a, b in zip(lines, texts))
        print(f"{name}: {sum(map(len, encodings))} ids; {same} lines decode to themselves")
        with open(OUT / f"{name}.bin", "wb") as out:
            out.write(struct.pack("<QQ", everything, len(lines)))
            for ids, text in zip(encodings, texts):
                out.write(struct.pack("<QI", fnv(struct.pack(f"<{len(ids)}I", *ids)), fnv(text.encode()) & 0xFFFFFFFF))
        sample = {i: encodings[i] for i in range(0, len(lines), 103) if len(encodings[i]) < 200}
        (OUT / f"{name}.json").write_text(json.dumps(sample, separators=(",", ":")).replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
