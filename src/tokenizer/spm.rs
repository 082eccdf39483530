//! SentencePiece BPE (`tokenizer.ggml.model` = `llama`; Llama 2, Mistral, Gemma): the whole text is one word of
//! characters; neighbours are joined where the result is a token, the one with the highest score first; characters
//! without a token are written as bytes.
//!
//! This equals the merge list that Hugging Face's converters derive from such a vocabulary (every way to cut a token into
//! two tokens, ranked by the token's score), without ever making that list: half a million rules for Gemma.

use super::facts::{Facts, Kind};
use super::merge::{Merger, Symbol};
use super::vocab::Vocab;
use crate::error::{Error, Result};

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '\u{2581}';

pub(super) struct Spm {
    scores: Vec<f32>,
    /// A space is put in front of the text, and of what follows a special token.
    space_prefix: bool,
    /// The token of every byte (`<0x00>` …), if all are there.
    bytes: Option<Vec<u32>>,
    unknown: Option<u32>,
}

/// Smallest first: best score, then what breaks ties.
type Priority = (u32, u32, u32, u32);

/// The tokens with `▁` as the space that it stands for, and byte tokens as their byte.
pub(super) fn vocab(facts: &Facts<'_>) -> Result<Vocab> {
    let mut vocab = Vocab::with_capacity(facts.tokens.len());
    for (&token, &kind) in facts.tokens.iter().zip(&facts.kinds) {
        let mergeable = matches!(kind, Kind::Normal | Kind::User);
        match (kind, byte_of(token)) {
            (Kind::Byte, Some(b)) => vocab.push(&[b], kind, false)?,
            _ if token.contains(SPACE) => vocab.push(token.replace(SPACE, " ").as_bytes(), kind, mergeable)?,
            _ => vocab.push(token.as_bytes(), kind, mergeable)?,
        };
    }
    Ok(vocab)
}

/// The byte of a token called `<0xE2>`.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok())?
}

impl Spm {
    pub fn new(facts: &Facts<'_>, vocab: &Vocab) -> Result<Self> {
        if facts.scores.is_empty() {
            let e = Error::invalid("a SentencePiece vocabulary needs scores").item("tokenizer.ggml.scores");
            return Err(e.expected(facts.tokens.len()).found(0));
        }
        let mut bytes = vec![None; 256];
        for id in vocab.of_kind(Kind::Byte) {
            if let &[b] = vocab.piece(id) {
                bytes[usize::from(b)].get_or_insert(id);
            }
        }
        // Files give user-defined tokens an arbitrary score (often -1000); in SentencePiece's own they have 0, above all others.
        let score = |(&s, &kind): (&f32, &Kind)| if kind == Kind::User { 0.0 } else { s };
        Ok(Spm {
            scores: facts.scores.iter().zip(&facts.kinds).map(score).collect(),
            space_prefix: facts.add_space_prefix.unwrap_or(true),
            bytes: bytes.into_iter().collect(),
            unknown: facts.unknown,
        })
    }

    /// Whether decoding drops one space at the very start, which encoding added.
    pub fn strips_first_space(&self) -> bool {
        self.space_prefix
    }

    /// Appends the ids of `text`, which holds no special tokens.
    pub fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut word = String::with_capacity(text.len() + 1);
        if self.space_prefix {
            word.push(' ');
        }
        // SentencePiece cannot tell a space from the character that it writes for one.
        word.extend(text.chars().map(|c| if c == SPACE { ' ' } else { c }));

        let mut merger = Merger::new();
        let mut unknown_before = false;
        for (at, c) in word.char_indices() {
            let (start, end) = (at as u32, (at + c.len_utf8()) as u32);
            let bytes = word.as_bytes().get(at..at + c.len_utf8()).unwrap_or(&[]);
            let mut unknown = false;
            if let Some(id) = vocab.text_id(bytes) {
                merger.push(id, start, end, 1, true);
            } else if let Some(table) = &self.bytes {
                for (at, b) in (start..).zip(bytes) {
                    merger.push(table[usize::from(*b)], at, at + 1, 0, false);
                }
            } else if let Some(id) = self.unknown {
                unknown = true;
                // A run of unknown characters is one unknown token.
                match merger.last_mut() {
                    Some(last) if unknown_before => last.end = end,
                    _ => merger.push(id, start, end, 0, false),
                }
            }
            unknown_before = unknown;
        }
        let join = |a: &Symbol, b: &Symbol| {
            let id = vocab.text_id(word.as_bytes().get(a.start as usize..b.end as usize)?)?;
            Some((self.priority(id, a, b), id))
        };
        merger.merge(join, out);
    }

    /// Ties only arise where one token can be cut in several ways, as in runs of one character. The published files of
    /// Gemma prefer the longer left part; those of Llama 2, the smaller ids.
    fn priority(&self, id: u32, a: &Symbol, b: &Symbol) -> Priority {
        let score = descending(self.scores.get(id as usize).copied().unwrap_or(0.0));
        if self.space_prefix {
            (score, id, a.id, b.id)
        } else {
            (score, !a.chars, !b.chars, id)
        }
    }
}

/// Bits that sort as `score` from high to low.
fn descending(score: f32) -> u32 {
    // -0.0 and 0.0 are one score.
    let bits = (score + 0.0).to_bits();
    !(if bits >> 31 == 0 { bits | 1 << 31 } else { !bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_sort_from_high_to_low() {
        let sorted = [
            f32::INFINITY,
            3.5,
            1e-40,
            0.0,
            -1e-40,
            -1.0,
            -236206.0,
            -1e9,
            f32::NEG_INFINITY,
        ];
        assert!(sorted.windows(2).all(|w| descending(w[0]) < descending(w[1])));
        assert_eq!(descending(0.0), descending(-0.0));
    }
}
