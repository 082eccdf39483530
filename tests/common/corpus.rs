//! The corpus of the tokenizer tests: the same lines as `tests/reference/tokenizer_corpus.py` makes, in the same order
//! from the same generator. A hash over the whole corpus in the golden data tells if the two ever differ.

/// Number of lines.
pub const LINES: usize = 20480;

const SENTENCES: &str = include_str!("../data/tokenizer/sentences.txt");

/// First and last code point of some blocks.
const BLOCKS: &[(u32, u32)] = &[
    (0x20, 0x7e),
    (0xa0, 0xff),
    (0x100, 0x24f),
    (0x250, 0x2af),
    (0x2b0, 0x2ff),
    (0x300, 0x36f),
    (0x370, 0x3ff),
    (0x400, 0x4ff),
    (0x530, 0x58f),
    (0x591, 0x5f4),
    (0x600, 0x6ff),
    (0x700, 0x74f),
    (0x780, 0x7b1),
    (0x900, 0x97f),
    (0x980, 0x9ff),
    (0xa00, 0xa7f),
    (0xb80, 0xbff),
    (0xc00, 0xc7f),
    (0xd00, 0xd7f),
    (0xd80, 0xdff),
    (0xe00, 0xe5b),
    (0xe80, 0xedf),
    (0xf00, 0xfda),
    (0x1000, 0x109f),
    (0x10a0, 0x10ff),
    (0x1100, 0x11ff),
    (0x1200, 0x137f),
    (0x13a0, 0x13ff),
    (0x1400, 0x167f),
    (0x1780, 0x17ff),
    (0x1800, 0x18aa),
    (0x1ab0, 0x1aff),
    (0x1e00, 0x1eff),
    (0x1f00, 0x1fff),
    (0x2000, 0x206f),
    (0x2070, 0x209f),
    (0x20a0, 0x20c0),
    (0x20d0, 0x20f0),
    (0x2100, 0x218b),
    (0x2190, 0x23ff),
    (0x2460, 0x24ff),
    (0x2500, 0x27bf),
    (0x2800, 0x28ff),
    (0x2c00, 0x2dff),
    (0x2e80, 0x2fdf),
    (0x3000, 0x30ff),
    (0x3100, 0x33ff),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xa000, 0xa48f),
    (0xa640, 0xa7ff),
    (0xac00, 0xd7a3),
    (0xe000, 0xf8ff),
    (0xf900, 0xfaff),
    (0xfb00, 0xfdff),
    (0xfe00, 0xfe6f),
    (0xff00, 0xffef),
    (0x10000, 0x100ff),
    (0x10300, 0x1034f),
    (0x10900, 0x1093f),
    (0x11000, 0x1107f),
    (0x12000, 0x123ff),
    (0x13000, 0x1342f),
    (0x1d100, 0x1d1ff),
    (0x1d400, 0x1d7ff),
    (0x1e900, 0x1e95f),
    (0x1ee00, 0x1eeff),
    (0x1f000, 0x1f2ff),
    (0x1f300, 0x1f64f),
    (0x1f680, 0x1faff),
    (0x20000, 0x2a6df),
    (0x2f800, 0x2fa1f),
    (0x30000, 0x323af),
    (0xe0000, 0xe01ef),
];
const SPACES: &[&str] = &[
    " ",
    "  ",
    "   ",
    "    ",
    "        ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    " \n",
    "\n ",
    "\u{a0}",
    "\u{2003}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "\u{200b}",
    "\u{2581}",
    "\u{2581}\u{2581}",
    "\u{b}",
    "\u{c}",
    "\u{feff}",
];
const SPECIALS: &[&str] = &[
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<repo_name>",
    "<file_sep>",
    "<gh_stars>",
    "<jupyter_code>",
    "<empty_output>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|object_ref_start|>",
    "<|vision_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|repo_name|>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<unused0>",
    "<unused6241>",
    "[multimodal]",
    "<table>",
    "<tr>",
    "</td>",
    "<h1>",
    "<blockquote>",
    "<code>",
    "<strong>",
    "<|im_start",
    "im_start|>",
    "<|im_start|>>",
    "<<|im_end|>",
    "<|IM_END|>",
    "<0x0A>",
    "<0xE2>",
    "[PAD151936]",
    "<s>",
    "</s>",
    "[INST]",
    "<|begin_of_text|>",
    "<start_of_image>",
    "<|im_|im_end|>end|>",
    "<bos",
    "<unused",
];
const EMOJI: &[&str] = &[
    "\u{1f600}",
    "\u{1f469}\u{200d}\u{1f4bb}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}",
    "\u{1f44d}\u{1f3fd}",
    "\u{1f1e9}\u{1f1ea}",
    "\u{1f1ef}\u{1f1f5}",
    "1\u{fe0f}\u{20e3}",
    "\u{2764}\u{fe0f}",
    "\u{2603}",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
    "\u{1fae0}",
    "\u{1f9d1}\u{1f3ff}\u{200d}\u{1f680}",
];
const TAILS: &[&str] = &[
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'LL",
    "'Re",
    "'\u{17f}",
    "\u{2019}s",
    "'x",
    "''",
    "'",
];
const CODE: &[&str] = &[
    "fn main() {",
    "    let x = &mut y[i];",
    "\treturn x != 0 && y >= 1.5e-3;",
    "}",
    "if (a->b == NULL) { goto out; }",
    "for i in range(10):",
    "        print(f\"{i:>5}\")",
    "#include <stdio.h>",
    "SELECT * FROM t WHERE a = 'b';",
    "<div class=\"x\">",
    "</div>",
    "const f = async (x) => await g(x);",
    "// comment",
    "/* ... */",
    "x += 1  # why",
    "\\frac{1}{2}",
    "https://a.b/c?d=e&f=%20",
    "{\"a\": [1, 2.0, null, true]}",
    "$ ls -la | grep foo > /dev/null 2>&1",
    "0xDEADBEEF",
    "a_b_c",
    "camelCaseName",
    "HTTPServer2",
];

/// splitmix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    fn word<'a>(&mut self, sentences: &[&'a str]) -> &'a str {
        let words: Vec<&str> = self.pick(sentences).split(' ').collect();
        self.pick(&words)
    }
}

fn chr(c: u32) -> char {
    char::from_u32(c).unwrap_or_else(|| panic!("the corpus asks for the code point {c:#x}"))
}

fn block_char(rng: &mut Rng, (first, last): (u32, u32)) -> char {
    chr(first + rng.below((last - first + 1) as usize) as u32)
}

fn any_char(rng: &mut Rng) -> char {
    let c = rng.below(0x110000 - 0x800) as u32;
    chr(if c >= 0xd800 { c + 0x800 } else { c })
}

fn line(index: usize, sentences: &[&str]) -> String {
    let mut rng = Rng::new(0x67_7261_6674_0000 + index as u64);
    let rng = &mut rng;
    let mut out = String::new();
    match index % 16 {
        0 => out.push_str(sentences[(index / 16) % sentences.len()]),
        1 => {
            for _ in 0..1 + rng.below(12) {
                out.push_str(rng.word(sentences));
                out.push_str(if rng.below(4) == 0 { rng.pick(SPACES) } else { " " });
            }
        }
        2 => {
            let block = BLOCKS[rng.below(BLOCKS.len())];
            for _ in 0..1 + rng.below(40) {
                out.push(if rng.below(6) == 0 { ' ' } else { block_char(rng, block) });
            }
        }
        3 => {
            for _ in 0..1 + rng.below(30) {
                let block = BLOCKS[rng.below(BLOCKS.len())];
                out.push(block_char(rng, block));
            }
        }
        4 => {
            for _ in 0..1 + rng.below(12) {
                out.push_str(rng.pick(SPACES));
                if rng.below(2) == 0 {
                    out.push_str(rng.word(sentences));
                }
            }
        }
        5 => {
            for _ in 0..1 + rng.below(10) {
                for _ in 0..1 + rng.below(9) {
                    out.push(chr(0x30 + rng.below(10) as u32));
                }
                out.push_str(rng.pick(&[
                    " ", ",", ".", "-", "/", ":", "%", "e", "\u{b2}", "\u{665}", "\u{2167}", "x", "",
                ]));
            }
        }
        6 => {
            for _ in 0..1 + rng.below(10) {
                out.push_str(rng.pick(EMOJI));
                out.push_str(rng.pick(&["", "", " ", "a", "!"]));
            }
        }
        7 => {
            for _ in 0..1 + rng.below(8) {
                out.push_str(rng.pick(SPECIALS));
                let word = rng.word(sentences);
                out.push_str(rng.pick(&["", " ", "\n", "  ", "a", word]));
            }
        }
        8 => {
            for _ in 0..1 + rng.below(20) {
                let c = rng.below(65) as u32;
                out.push(chr(if c < 32 { c } else { 0x7f + c - 32 }));
                out.push_str(rng.pick(&["", "", "a", " "]));
            }
        }
        9 => {
            let bytes: Vec<u8> = (0..1 + rng.below(40)).map(|_| rng.below(256) as u8).collect();
            out.push_str(&String::from_utf8_lossy(&bytes));
        }
        10 => {
            for _ in 0..1 + rng.below(6) {
                out.push_str(rng.pick(CODE));
                out.push_str(rng.pick(&["\n", " ", "\n    ", "\n\t", ";", ""]));
            }
        }
        11 => {
            for _ in 0..1 + rng.below(12) {
                out.push_str(rng.pick(&[
                    "a",
                    "e",
                    "o",
                    "A",
                    "\u{915}",
                    "\u{5d0}",
                    "\u{1100}\u{1161}",
                    "\u{ac00}",
                    "\u{3b1}",
                    " ",
                ]));
                for _ in 0..rng.below(4) {
                    let mark = chr(0x300 + rng.below(0x70) as u32).to_string();
                    out.push_str(rng.pick(&[&mark, "\u{323}", "\u{93c}", "\u{5bc}", "\u{11a8}", "\u{345}"]));
                }
            }
        }
        12 => {
            let text = rng.pick(&[
                "a", "ab", "=", "-", " ", "\n", "\t", "\u{2581}", "\u{4e00}", "!", "aa ", ". ", "0", "\u{e9}", "\r\n",
                "#",
            ]);
            out.push_str(&text.repeat(1 + rng.below(100)));
            out.push_str(rng.pick(&["", "x", " x", "\n"]));
        }
        13 => {
            for _ in 0..1 + rng.below(10) {
                out.push_str(rng.pick(&["I", "you", "don", "WE", "it", "\u{e9}t\u{e9}", "5", "", " "]));
                out.push_str(rng.pick(TAILS));
                out.push_str(rng.pick(&[" ", "", "\n", "  "]));
            }
        }
        14 => {
            for _ in 0..1 + rng.below(30) {
                out.push(any_char(rng));
            }
        }
        _ => {
            // Every 64th of these is very long.
            let parts = if index % 1024 == 15 {
                100 + rng.below(300)
            } else {
                2 + rng.below(3)
            };
            for _ in 0..parts {
                let other = rng.below(LINES) / 16 * 16 + rng.below(15);
                out.push_str(&line(other, sentences));
            }
        }
    }
    out
}

/// All lines. A "line" is one text for the tokenizer; it may hold line breaks.
pub fn corpus() -> Vec<String> {
    let sentences: Vec<&str> = SENTENCES.lines().collect();
    (0..LINES).map(|i| line(i, &sentences)).collect()
}

/// FNV-1a, 64 bits.
pub fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}
