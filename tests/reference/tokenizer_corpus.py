"""The corpus of the tokenizer tests: deterministic lines of many kinds.

`tests/common/corpus.rs` makes the same lines; both draw from the same generator (splitmix64) in the same order, and a
hash over the whole corpus in the golden data tells if they ever differ. Change both, then record again.
"""

import pathlib

LINES = 20480
MASK = (1 << 64) - 1
SEEDS = pathlib.Path(__file__).parent.parent / "data" / "tokenizer" / "sentences.txt"

# First and last code point of some blocks.
BLOCKS = [
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x2B0, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x4FF), (0x530, 0x58F), (0x591, 0x5F4), (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7B1), (0x900, 0x97F),
    (0x980, 0x9FF), (0xA00, 0xA7F), (0xB80, 0xBFF), (0xC00, 0xC7F), (0xD00, 0xD7F), (0xD80, 0xDFF), (0xE00, 0xE5B),
    (0xE80, 0xEDF), (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
    (0x13A0, 0x13FF), (0x1400, 0x167F), (0x1780, 0x17FF), (0x1800, 0x18AA), (0x1AB0, 0x1AFF), (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20C0), (0x20D0, 0x20F0), (0x2100, 0x218B),
    (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2800, 0x28FF), (0x2C00, 0x2DFF), (0x2E80, 0x2FDF),
    (0x3000, 0x30FF), (0x3100, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xA640, 0xA7FF),
    (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF),
    (0x10000, 0x100FF), (0x10300, 0x1034F), (0x10900, 0x1093F), (0x11000, 0x1107F), (0x12000, 0x123FF),
    (0x13000, 0x1342F), (0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1EE00, 0x1EEFF),
    (0x1F000, 0x1F2FF), (0x1F300, 0x1F64F), (0x1F680, 0x1FAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F),
    (0x30000, 0x323AF), (0xE0000, 0xE01EF),
]
SPACES = [
    " ", "  ", "   ", "    ", "        ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", "\u00a0", "\u2003",
    "\u3000", "\u2028", "\u0085", "\u200b", "\u2581", "\u2581\u2581", "\u000b", "\u000c", "\ufeff",
]
SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>", "<gh_stars>", "<jupyter_code>",
    "<empty_output>", "<|fim_prefix|>", "<|fim_suffix|>", "<|object_ref_start|>", "<|vision_pad|>", "<tool_call>",
    "</tool_call>", "<|repo_name|>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>",
    "<unused0>", "<unused6241>", "[multimodal]", "<table>", "<tr>", "</td>", "<h1>", "<blockquote>", "<code>", "<strong>",
    "<|im_start", "im_start|>", "<|im_start|>>", "<<|im_end|>", "<|IM_END|>", "<0x0A>", "<0xE2>", "[PAD151936]",
    "<s>", "</s>", "[INST]", "<|begin_of_text|>", "<start_of_image>", "<|im_|im_end|>end|>", "<bos", "<unused",
]
EMOJI = [
    "\U0001F600", "\U0001F469\u200d\U0001F4BB", "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466",
    "\U0001F44D\U0001F3FD", "\U0001F1E9\U0001F1EA", "\U0001F1EF\U0001F1F5", "1\ufe0f\u20e3", "\u2764\ufe0f", "\u2603",
    "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", "\U0001FAE0", "\U0001F9D1\U0001F3FF\u200d\U0001F680",
]
TAILS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "'\u017f", "\u2019s", "'x", "''", "'"]
CODE = [
    "fn main() {", "    let x = &mut y[i];", "\treturn x != 0 && y >= 1.5e-3;", "}", "if (a->b == NULL) { goto out; }",
    "for i in range(10):", "        print(f\"{i:>5}\")", "#include <stdio.h>", "SELECT * FROM t WHERE a = 'b';", "<div class=\"x\">",
    "</div>", "const f = async (x) => await g(x);", "// comment", "/* ... */", "x += 1  # why", "\\frac{1}{2}", "https://a.b/c?d=e&f=%20",
    "{\"a\": [1, 2.0, null, true]}", "$ ls -la | grep foo > /dev/null 2>&1", "0xDEADBEEF", "a_b_c", "camelCaseName", "HTTPServer2",
]


class Rng:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def pick(self, items):
        return items[self.below(len(items))]


def block_char(rng, block):
    first, last = block
    return chr(first + rng.below(last - first + 1))


def any_char(rng):
    c = rng.below(0x110000 - 0x800)
    return chr(c + 0x800 if c >= 0xD800 else c)


def line(index, sentences):
    rng = Rng(0x67726166740000 + index)
    kind = index % 16
    out = []
    if kind == 0:
        out.append(sentences[(index // 16) % len(sentences)])
    elif kind == 1:
        for _ in range(1 + rng.below(12)):
            words = rng.pick(sentences).split(" ")
            out.append(rng.pick(words))
            out.append(rng.pick(SPACES) if rng.below(4) == 0 else " ")
    elif kind == 2:
        block = rng.pick(BLOCKS)
        for _ in range(1 + rng.below(40)):
            out.append(" " if rng.below(6) == 0 else block_char(rng, block))
    elif kind == 3:
        for _ in range(1 + rng.below(30)):
            out.append(block_char(rng, rng.pick(BLOCKS)))
    elif kind == 4:
        for _ in range(1 + rng.below(12)):
            out.append(rng.pick(SPACES))
            if rng.below(2) == 0:
                out.append(rng.pick(rng.pick(sentences).split(" ")))
    elif kind == 5:
        for _ in range(1 + rng.below(10)):
            for _ in range(1 + rng.below(9)):
                out.append(chr(0x30 + rng.below(10)))
            out.append(rng.pick([" ", ",", ".", "-", "/", ":", "%", "e", "\u00b2", "\u0665", "\u2167", "x", ""]))
    elif kind == 6:
        for _ in range(1 + rng.below(10)):
            out.append(rng.pick(EMOJI))
            out.append(rng.pick(["", "", " ", "a", "!"]))
    elif kind == 7:
        for _ in range(1 + rng.below(8)):
            out.append(rng.pick(SPECIALS))
            out.append(rng.pick(["", " ", "\n", "  ", "a", rng.pick(rng.pick(sentences).split(" "))]))
    elif kind == 8:
        for _ in range(1 + rng.below(20)):
            c = rng.below(65)
            out.append(chr(c if c < 32 else 0x7F + c - 32))
            out.append(rng.pick(["", "", "a", " "]))
    elif kind == 9:
        data = bytes(rng.below(256) for _ in range(1 + rng.below(40)))
        out.append(data.decode("utf-8", "replace"))
    elif kind == 10:
        for _ in range(1 + rng.below(6)):
            out.append(rng.pick(CODE))
            out.append(rng.pick(["\n", " ", "\n    ", "\n\t", ";", ""]))
    elif kind == 11:
        for _ in range(1 + rng.below(12)):
            out.append(rng.pick(["a", "e", "o", "A", "\u0915", "\u05d0", "\u1100\u1161", "\uac00", "\u03b1", " "]))
            for _ in range(rng.below(4)):
                out.append(rng.pick([chr(0x300 + rng.below(0x70)), "\u0323", "\u093c", "\u05bc", "\u11a8", "\u0345"]))
    elif kind == 12:
        text = rng.pick(["a", "ab", "=", "-", " ", "\n", "\t", "\u2581", "\u4e00", "!", "aa ", ". ", "0", "\u00e9", "\r\n", "#"])
        out.append(text * (1 + rng.below(100)))
        out.append(rng.pick(["", "x", " x", "\n"]))
    elif kind == 13:
        for _ in range(1 + rng.below(10)):
            out.append(rng.pick(["I", "you", "don", "WE", "it", "\u00e9t\u00e9", "5", "", " "]))
            out.append(rng.pick(TAILS))
            out.append(rng.pick([" ", "", "\n", "  "]))
    elif kind == 14:
        for _ in range(1 + rng.below(30)):
            out.append(any_char(rng))
    elif index % 1024 == 15:
        # A very long line.
        for _ in range(100 + rng.below(300)):
            out.append(line(rng.below(LINES) // 16 * 16 + rng.below(15), sentences))
    else:
        for _ in range(2 + rng.below(3)):
            out.append(line(rng.below(LINES) // 16 * 16 + rng.below(15), sentences))
    return "".join(out)


def corpus():
    sentences = SEEDS.read_text(encoding="utf-8").splitlines()
    return [line(i, sentences) for i in range(LINES)]
