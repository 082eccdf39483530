//! The pre-tokenizers of byte-level BPE: `tokenizer.ggml.pre` -> how a text is split before merging.
//!
//! The names are those that converters to GGUF write; the patterns are the models' own, as their `tokenizer.json` has
//! them, but for one thing: `\s+(?!\S)|\s+` at the end is written `\s+` with a [`SpaceRun`], which says the same
//! without a look-ahead and so runs in linear time on any text. To add one: a row in [`by_name`].

use crate::error::{Error, Result};

/// One splitting pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    pub regex: &'static str,
    pub space_run: Option<SpaceRun>,
}

/// A run of white space before a word leaves its last character to the word: `\s+(?!\S)|\s+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpaceRun {
    /// Every match that is white space only.
    Any,
    /// The same, but the pattern takes runs up to a line break as they are (`\s*[\r\n]+` comes first).
    WithinLine,
}

impl SpaceRun {
    /// Where a match that is `found` and ends at `end` of `len` should end.
    pub fn end(self, found: &str, end: usize, len: usize) -> usize {
        let mut chars = found.chars();
        match chars.next_back() {
            Some(last)
                if end < len
                    && !chars.as_str().is_empty()
                    && !(self == SpaceRun::WithinLine && matches!(last, '\r' | '\n'))
                    && found.chars().all(char::is_whitespace) =>
            {
                end - last.len_utf8()
            }
            _ => end,
        }
    }
}

/// How byte-level BPE prepares a text.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    pub patterns: &'static [Pattern],
    /// Unicode normal form C first.
    pub nfc: bool,
    /// A piece that is a token as a whole is taken without merging.
    pub ignore_merges: bool,
    /// Whether a BOS goes in front unless the file says otherwise.
    pub add_bos: bool,
}

const fn plain(regex: &'static str) -> Pattern {
    Pattern { regex, space_run: None }
}

const fn any_run(regex: &'static str) -> Pattern {
    Pattern {
        regex,
        space_run: Some(SpaceRun::Any),
    }
}

const fn line_run(regex: &'static str) -> Pattern {
    Pattern {
        regex,
        space_run: Some(SpaceRun::WithinLine),
    }
}

const fn rules(patterns: &'static [Pattern]) -> PreTokenizer {
    PreTokenizer {
        patterns,
        nfc: false,
        ignore_merges: false,
        add_bos: false,
    }
}

const GPT2_PATTERN: Pattern = any_run(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+");
const LLAMA3_PATTERN: Pattern = line_run(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
);

static GPT2: PreTokenizer = rules(&[GPT2_PATTERN]);
/// What a file without a known pre-tokenizer gets: splits punctuation and digits off (as llama.cpp does).
static DEFAULT: PreTokenizer = rules(&[
    plain(r"[\p{P}\$\+<=>\^~\|]+"),
    GPT2_PATTERN,
    plain(r"\p{N}+"),
    plain("[0-9][0-9][0-9]"),
]);
/// Single digits, then GPT-2's.
static STARCODER: PreTokenizer = rules(&[plain(r"\p{N}"), GPT2_PATTERN]);
static FALCON: PreTokenizer = rules(&[plain(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2_PATTERN, plain("[0-9][0-9][0-9]")]);
static LLAMA3: PreTokenizer = PreTokenizer {
    ignore_merges: true,
    add_bos: true,
    ..rules(&[LLAMA3_PATTERN])
};
/// Llama 3's pattern with plain merging.
static DBRX: PreTokenizer = rules(&[LLAMA3_PATTERN]);
const QWEN2_PATTERN: Pattern =
    line_run(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+");
static QWEN2: PreTokenizer = PreTokenizer {
    nfc: true,
    ..rules(&[QWEN2_PATTERN])
};
static STABLELM2: PreTokenizer = rules(&[QWEN2_PATTERN]);
static QWEN35: PreTokenizer = PreTokenizer {
    nfc: true,
    ..rules(&[line_run(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    )])
};
/// Mistral's: words are split where lower case turns into upper case.
static TEKKEN: PreTokenizer = PreTokenizer {
    ignore_merges: true,
    add_bos: true,
    ..rules(&[line_run(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
    )])
};
static GPT4O: PreTokenizer = rules(&[line_run(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
)]);
static DEEPSEEK_CODER: PreTokenizer = PreTokenizer {
    add_bos: true,
    ..rules(&[
        plain(r"[\r\n]"),
        plain(r"\s?\p{L}+"),
        plain(r"\s?\p{P}+"),
        plain(r"[一-龥ࠀ-一가-\u{d7ff}]+"),
        plain(r"\p{N}"),
    ])
};
static DEEPSEEK3: PreTokenizer = PreTokenizer {
    add_bos: true,
    ..rules(&[
        plain(r"\p{N}{1,3}"),
        plain("[一-龥\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+"),
        line_run(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##,
        ),
    ])
};
const BLOOM_PATTERN: Pattern = plain(r" ?[^(\s|.,!?…。，、।۔،)]+");
static BLOOM: PreTokenizer = rules(&[BLOOM_PATTERN]);
static VIKING: PreTokenizer = rules(&[BLOOM_PATTERN, plain(r"\p{N}")]);

/// The rules of a `tokenizer.ggml.pre`. A file without the key is an old conversion: `default`. An unknown name is an
/// error: a wrong split gives wrong ids without a sign of it.
pub(super) fn by_name(name: Option<&str>) -> Result<&'static PreTokenizer> {
    Ok(match name.unwrap_or("default") {
        "default" => &DEFAULT,
        "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" | "roberta-bpe" | "jina-es" | "jina-de"
        | "jina-v2-es" | "jina-v2-de" | "gigachat" | "a.x-4.0" | "mellum" | "granite-docling" => &GPT2,
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => &STARCODER,
        "falcon" => &FALCON,
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => &LLAMA3,
        "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" => &DBRX,
        "qwen2" | "deepseek-r1-qwen" | "kormo" => &QWEN2,
        "stablelm2" | "hunyuan" | "megrez" => &STABLELM2,
        "qwen35" => &QWEN35,
        "tekken" => &TEKKEN,
        "gpt-4o" | "llama4" => &GPT4O,
        "deepseek-coder" => &DEEPSEEK_CODER,
        "deepseek-v3" => &DEEPSEEK3,
        "bloom" | "poro-chat" | "gpt3-finnish" => &BLOOM,
        "viking" => &VIKING,
        unknown => {
            let e = Error::unsupported("the pre-tokenizer is not known").item("tokenizer.ggml.pre");
            return Err(e.found(format_args!("\"{unknown}\"")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::split::Splitter;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let mut out = Vec::new();
        let splitter = Splitter::new(by_name(Some(name)).unwrap().patterns).unwrap();
        splitter.split(text, &mut |p| out.push(p));
        out
    }

    // The expected pieces follow by hand from the models' patterns, look-ahead included.
    #[test]
    fn white_space_before_a_word() {
        assert_eq!(pieces("gpt-2", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(pieces("gpt-2", "a\n\n b"), ["a", "\n\n", " b"]);
        assert_eq!(pieces("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(
            pieces("qwen2", "a\n\nb \n  c\t\td"),
            ["a", "\n\n", "b", " \n", " ", " c", "\t", "\td"]
        );
        assert_eq!(pieces("qwen2", "\u{2003}\u{2003}x"), ["\u{2003}", "\u{2003}x"]);
    }

    #[test]
    fn digits_and_contractions() {
        assert_eq!(
            pieces("smollm", "x 1234 I'm"),
            ["x", " ", "1", "2", "3", "4", " I", "'m"]
        );
        assert_eq!(pieces("llama-bpe", "1234567 I'M"), ["123", "456", "7", " I", "'M"]);
        assert_eq!(pieces("qwen2", "12 I'M"), ["1", "2", " I", "'M"]);
        assert_eq!(pieces("falcon", "ab12345!x"), ["ab", "123", "45", "!", "x"]);
        assert_eq!(pieces("tekken", "HTTPServer isOK"), ["HTTPServer", " is", "OK"]);
    }

    #[test]
    fn every_pattern_compiles_and_keeps_the_text() {
        let text = "Hello, wörld!\r\n\t 12345 你好かな 한국어 \u{10ffff}'ll\u{a0}\u{a0}x  ";
        for name in [
            "default",
            "gpt-2",
            "smollm",
            "falcon",
            "llama3",
            "dbrx",
            "qwen2",
            "stablelm2",
            "qwen35",
            "tekken",
            "gpt-4o",
            "deepseek-coder",
            "deepseek-v3",
            "bloom",
            "viking",
        ] {
            assert_eq!(pieces(name, text).concat(), text, "{name}");
            assert!(pieces(name, text).iter().all(|p| !p.is_empty()), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_unsupported() {
        let e = by_name(Some("no-such\nthing")).unwrap_err();
        assert_eq!(e.kind(), crate::ErrorKind::Unsupported);
        assert_eq!(
            e.to_string(),
            "tokenizer.ggml.pre: the pre-tokenizer is not known: found \"no-such\\nthing\""
        );
    }
}
