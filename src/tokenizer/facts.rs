//! What a GGUF file says about its tokenizer: the `tokenizer.ggml.*` keys, read and checked.

use crate::error::{Error, Result};
use crate::format::Metadata;

/// Ids are `u32` and tables are built over all of them: far above every known vocabulary (Gemma has 2^18).
const MAX_TOKENS: usize = 1 << 24;

/// What sort of token an id is (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Produced by the model from text.
    Normal,
    /// Stands for what has no token.
    Unknown,
    /// Has a meaning instead of a text: begin, end, turn marks.
    Control,
    /// Text that is always one token, found before anything else is done.
    User,
    /// Padding of the vocabulary; no text gives it and it gives no text.
    Unused,
    /// One byte, where a character has no token.
    Byte,
}

impl Kind {
    /// The kind that a file writes as `n`.
    pub fn from_number(n: i64) -> Option<Kind> {
        Some(match n {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::User,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

/// The keys of one tokenizer, borrowed from the file, of equal lengths and in range.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts<'a> {
    /// `gpt2`, `llama`, `t5`, …
    pub model: &'a str,
    /// Which pre-tokenizer a `gpt2` one uses.
    pub pre: Option<&'a str>,
    pub tokens: Vec<&'a str>,
    pub kinds: Vec<Kind>,
    /// Empty where the file has none.
    pub scores: Vec<f32>,
    pub merges: Vec<&'a str>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
    /// More ids that end a turn or a message (`eot`, `eom`).
    pub other_ends: Vec<u32>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub remove_extra_whitespaces: bool,
    /// SentencePiece's compiled normalization rules (unigram models).
    pub charsmap: Vec<u8>,
}

impl<'a> Facts<'a> {
    /// Reads and checks the keys.
    pub fn read(meta: &'a Metadata) -> Result<Self> {
        let mut facts = Facts {
            model: meta.need_str("tokenizer.ggml.model")?,
            pre: meta.str("tokenizer.ggml.pre")?,
            tokens: meta.strs("tokenizer.ggml.tokens")?.unwrap_or_default(),
            scores: meta.f32s("tokenizer.ggml.scores")?.unwrap_or_default(),
            merges: meta.strs("tokenizer.ggml.merges")?.unwrap_or_default(),
            add_bos: meta.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: meta.bool("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: meta.bool("tokenizer.ggml.add_space_prefix")?,
            remove_extra_whitespaces: meta.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false),
            ..Facts::default()
        };
        let types = meta.ints("tokenizer.ggml.token_type")?.unwrap_or_default();
        facts.kinds = kinds(&types, facts.tokens.len()).map_err(|e| meta.error(e, "tokenizer.ggml.token_type"))?;
        facts.check().map_err(|e| meta.error(e, "tokenizer.ggml.tokens"))?;
        let charsmap = meta.ints("tokenizer.ggml.precompiled_charsmap")?.unwrap_or_default();
        facts.charsmap = charsmap
            .into_iter()
            .map(|v| u8::try_from(v.rem_euclid(256)).unwrap_or(0))
            .collect();

        let n = facts.tokens.len();
        let id = |name: &str| -> Result<Option<u32>> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let Some(id) = meta.usize(&key)? else { return Ok(None) };
            // An id of all ones is how some converters write "none".
            if id == u32::MAX as usize {
                return Ok(None);
            }
            match u32::try_from(id) {
                Ok(id) if (id as usize) < n => Ok(Some(id)),
                _ => {
                    let e = Error::invalid("the token id is outside the vocabulary");
                    Err(meta.error(e.expected(format_args!("below {n}")).found(id), &key))
                }
            }
        };
        facts.bos = id("bos")?;
        facts.eos = id("eos")?;
        facts.unknown = id("unknown")?;
        for name in ["eot", "eom"] {
            facts.other_ends.extend(id(name)?);
        }
        Ok(facts)
    }

    /// Lengths and values that everything below relies on.
    pub fn check(&self) -> Result<()> {
        let n = self.tokens.len();
        if n == 0 {
            return Err(Error::invalid("the vocabulary is empty or missing").item("tokenizer.ggml.tokens"));
        }
        if n > MAX_TOKENS {
            let e = Error::limit("the vocabulary is too large").item("tokenizer.ggml.tokens");
            return Err(e.expected(format_args!("at most {MAX_TOKENS}")).found(n));
        }
        if self.kinds.len() != n {
            let e = Error::invalid("not one type per token").item("tokenizer.ggml.token_type");
            return Err(e.expected(n).found(self.kinds.len()));
        }
        if !self.scores.is_empty() && self.scores.len() != n {
            let e = Error::invalid("not one score per token").item("tokenizer.ggml.scores");
            return Err(e.expected(n).found(self.scores.len()));
        }
        if let Some(i) = self.scores.iter().position(|s| s.is_nan()) {
            let e = Error::invalid(format!("the score of token {i} is not a number"));
            return Err(e.item("tokenizer.ggml.scores"));
        }
        Ok(())
    }
}

/// The types as [`Kind`]s; a file without the key has only normal tokens.
fn kinds(types: &[i64], tokens: usize) -> Result<Vec<Kind>> {
    if types.is_empty() {
        return Ok(vec![Kind::Normal; tokens]);
    }
    let kind = |(i, &n): (usize, &i64)| {
        Kind::from_number(n).ok_or_else(|| {
            let e = Error::invalid(format!("unknown type of token {i}"));
            e.expected("1 to 6").found(n)
        })
    };
    types.iter().enumerate().map(kind).collect()
}
