//! Finding special tokens in a text.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};

use super::facts::Kind;
use super::spm::SPACE;
use super::vocab::Vocab;
use crate::error::{Error, Result};

/// A searcher for a set of tokens: at each place the longest one.
pub(super) struct Special {
    search: Option<AhoCorasick>,
    ids: Vec<u32>,
}

/// A stretch of a text.
pub(super) enum Part<'t> {
    Text(&'t str),
    Token(u32),
}

impl Special {
    /// A searcher for the user-defined tokens and, with `control`, for those of the control and unknown kinds.
    /// With `marks`, as in SentencePiece, a space in a token is written `▁` in the text.
    pub fn new(vocab: &Vocab, control: bool, marks: bool) -> Result<Self> {
        let mut ids = Vec::new();
        let mut texts = Vec::new();
        let kinds: &[Kind] = if control {
            &[Kind::User, Kind::Control, Kind::Unknown]
        } else {
            &[Kind::User]
        };
        for id in kinds.iter().flat_map(|&k| vocab.of_kind(k)) {
            let Ok(text) = std::str::from_utf8(vocab.piece(id)) else {
                continue;
            };
            if text.is_empty() {
                continue;
            }
            ids.push(id);
            texts.push(if marks && text.contains(' ') {
                text.replace(' ', SPACE.encode_utf8(&mut [0; 4]))
            } else {
                text.to_owned()
            });
        }
        if ids.is_empty() {
            return Ok(Special { search: None, ids });
        }
        let search = AhoCorasickBuilder::new()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&texts)
            .map_err(|e| Error::limit(format!("too many special tokens: {e}")).item("tokenizer.ggml.tokens"))?;
        Ok(Special {
            search: Some(search),
            ids,
        })
    }

    /// Calls `part` with the special tokens of `text` and what lies between them, in order.
    pub fn split<'t>(&self, text: &'t str, mut part: impl FnMut(Part<'t>)) {
        let mut done = 0;
        if let Some(search) = &self.search {
            for found in search.find_iter(text) {
                let Some(&id) = self.ids.get(found.pattern().as_usize()) else {
                    continue;
                };
                if let Some(before) = text.get(done..found.start()).filter(|t| !t.is_empty()) {
                    part(Part::Text(before));
                }
                part(Part::Token(id));
                done = found.end();
            }
        }
        if let Some(rest) = text.get(done..).filter(|t| !t.is_empty()) {
            part(Part::Text(rest));
        }
    }
}
