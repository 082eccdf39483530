//! Byte-level BPE (`tokenizer.ggml.model` = `gpt2`): the text is split by the model's pre-tokenizer, and the bytes of
//! each piece are merged by the rules of a ranked list.
//!
//! The tables are flat and keyed by ids: building the `tokenizers` crate's maps of strings for the same vocabulary takes
//! several times the time and memory (the figures are in the tests' README), and this is done at every start.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use unicode_normalization_alignments::UnicodeNormalization;

use super::alphabet::Alphabet;
use super::facts::{Facts, Kind};
use super::merge::Merger;
use super::pre::{self, PreTokenizer};
use super::split::Splitter;
use super::vocab::Vocab;
use crate::error::{Error, Result};

pub(super) struct Bpe {
    splitter: Splitter,
    /// Unicode normal form C before anything else.
    nfc: bool,
    /// A piece that is a token as a whole is that token, whatever the merges say.
    ignore_merges: bool,
    merges: Merges,
    /// The token of every single byte; a byte without one disappears from the text (as in Hugging Face's tokenizers).
    bytes: [Option<u32>; 256],
}

/// (left, right) -> (rank, joined): the rank is the index in the list.
#[derive(Default)]
struct Merges {
    rules: Vec<[u32; 3]>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Merges {
    fn with_capacity(n: usize) -> Self {
        Merges {
            rules: Vec::with_capacity(n),
            index: HashTable::with_capacity(n),
            ..Merges::default()
        }
    }

    fn key(&self, rank: u32) -> (u32, u32) {
        self.rules.get(rank as usize).map_or((0, 0), |r| (r[0], r[1]))
    }

    /// Adds the next rule. A pair that is listed twice keeps the later rank, as a map filled in order would.
    fn push(&mut self, left: u32, right: u32, joined: u32) {
        let rank = self.rules.len() as u32;
        self.rules.push([left, right, joined]);
        let mut index = std::mem::take(&mut self.index);
        let hash = |&r: &u32| self.hasher.hash_one(self.key(r));
        let entry = index.entry(hash(&rank), |&r| self.key(r) == (left, right), hash);
        entry.insert(rank);
        self.index = index;
    }

    #[inline]
    fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let hash = self.hasher.hash_one((left, right));
        let &rank = self.index.find(hash, |&r| self.key(r) == (left, right))?;
        Some((rank, self.rules.get(rank as usize)?[2]))
    }
}

/// The bytes of a byte-level vocabulary. A token that is not written in the byte alphabet keeps its own text.
pub(super) fn vocab(facts: &Facts<'_>) -> Result<Vocab> {
    let alphabet = Alphabet::new();
    let mut vocab = Vocab::with_capacity(facts.tokens.len());
    let mut piece = Vec::new();
    for (&token, &kind) in facts.tokens.iter().zip(&facts.kinds) {
        piece.clear();
        let by_alphabet = matches!(kind, Kind::Normal | Kind::Byte) && alphabet.decode(token, &mut piece);
        let bytes = if by_alphabet { &piece } else { token.as_bytes() };
        vocab.push(bytes, kind, by_alphabet)?;
    }
    Ok(vocab)
}

impl Bpe {
    pub fn new(facts: &Facts<'_>, vocab: &Vocab) -> Result<Self> {
        let rules: &PreTokenizer = pre::by_name(facts.pre)?;
        if u32::try_from(facts.merges.len()).is_err() {
            return Err(Error::limit("too many merges").item("tokenizer.ggml.merges"));
        }
        let alphabet = Alphabet::new();
        let mut merges = Merges::with_capacity(facts.merges.len());
        let (mut joined, mut right) = (Vec::new(), Vec::new());
        for (rank, &merge) in facts.merges.iter().enumerate() {
            let mut rule = || {
                // The first character may itself be a space.
                let first = merge.chars().next()?.len_utf8();
                let (l, r) = merge.split_at(merge.get(first..)?.find(' ')? + first);
                joined.clear();
                right.clear();
                let known = alphabet.decode(l, &mut joined) && alphabet.decode(r.get(1..)?, &mut right);
                let left_id = known.then(|| vocab.text_id(&joined))??;
                let right_id = vocab.text_id(&right)?;
                joined.extend_from_slice(&right);
                Some((left_id, right_id, vocab.text_id(&joined)?))
            };
            let (l, r, j) = rule().ok_or_else(|| {
                Error::invalid(format!("merge {rank} does not join two tokens into a third"))
                    .item("tokenizer.ggml.merges")
                    .expected("two tokens and a space between them")
                    .found(format_args!("\"{merge}\""))
            })?;
            merges.push(l, r, j);
        }
        let mut bytes = [None; 256];
        for b in 0..=255u8 {
            bytes[usize::from(b)] = vocab.text_id(&[b]);
        }
        Ok(Bpe {
            splitter: Splitter::new(rules.patterns)?,
            nfc: rules.nfc,
            ignore_merges: rules.ignore_merges,
            merges,
            bytes,
        })
    }

    /// Appends the ids of `text`, which holds no special tokens.
    pub fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        // Everything below U+0300 is in normal form C already.
        let composed: String;
        let text = if self.nfc && text.chars().any(|c| c >= '\u{300}') {
            composed = text.nfc().map(|(c, _)| c).collect();
            &composed
        } else {
            text
        };
        let mut merger = Merger::new();
        self.splitter.split(text, &mut |piece| {
            if self.ignore_merges
                && let Some(id) = vocab.text_id(piece.as_bytes())
            {
                out.push(id);
                return;
            }
            merger.clear();
            for (at, b) in (0u32..).zip(piece.bytes()) {
                if let Some(id) = self.bytes[usize::from(b)] {
                    merger.push(id, at, at + 1, 0, true);
                }
            }
            merger.merge(|a, b| self.merges.get(a.id, b.id), out);
        });
    }
}
