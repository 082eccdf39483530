//! The tokens of a vocabulary: id to bytes, bytes to id, in two flat tables.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::facts::Kind;
use crate::error::{Error, Result};

/// All tokens, by id, as the bytes that they stand for in a text (a space is a space, not `Ġ` or `▁`).
///
/// One block of bytes with offsets: a quarter of a million `String`s would cost more memory than the tokens.
#[derive(Default)]
pub(super) struct Vocab {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    /// Ids of the tokens that text is made into: what merging may give.
    text: HashTable<u32>,
    /// Ids of all others (control, user-defined, …).
    named: HashTable<u32>,
    hasher: DefaultHashBuilder,
    longest_text: usize,
}

impl Vocab {
    /// Room for `n` tokens.
    pub fn with_capacity(n: usize) -> Self {
        Vocab {
            bytes: Vec::with_capacity(n.saturating_mul(8)),
            ends: Vec::with_capacity(n),
            kinds: Vec::with_capacity(n),
            text: HashTable::with_capacity(n),
            ..Vocab::default()
        }
    }

    /// Adds the next id: `piece` are its bytes. With `mergeable` it is found by [`Vocab::text_id`].
    ///
    /// Where two tokens have the same bytes the first keeps them, as an id that text never gives is harmless.
    pub fn push(&mut self, piece: &[u8], kind: Kind, mergeable: bool) -> Result<u32> {
        let id = u32::try_from(self.ends.len()).map_err(|_| Error::limit("too many tokens"))?;
        self.bytes.extend_from_slice(piece);
        let end = u32::try_from(self.bytes.len());
        self.ends
            .push(end.map_err(|_| Error::limit("the vocabulary's text is longer than 4 GB"))?);
        self.kinds.push(kind);
        if mergeable && !piece.is_empty() {
            self.longest_text = self.longest_text.max(piece.len());
            self.index(id, true);
        }
        if kind != Kind::Normal && !piece.is_empty() {
            self.index(id, false);
        }
        Ok(id)
    }

    fn index(&mut self, id: u32, text: bool) {
        let mut table = std::mem::take(if text { &mut self.text } else { &mut self.named });
        let hash = |&other: &u32| self.hasher.hash_one(self.piece(other));
        let same = |&other: &u32| self.piece(other) == self.piece(id);
        table.entry(hash(&id), same, hash).or_insert(id);
        *(if text { &mut self.text } else { &mut self.named }) = table;
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of `id`; empty outside the vocabulary.
    #[inline]
    pub fn piece(&self, id: u32) -> &[u8] {
        let i = id as usize;
        let start = match i.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
        };
        let end = self.ends.get(i).copied().unwrap_or(0);
        self.bytes.get(start as usize..end as usize).unwrap_or(&[])
    }

    /// What `id` is; `None` outside the vocabulary.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// The token that stands for exactly these bytes of a text.
    #[inline]
    pub fn text_id(&self, piece: &[u8]) -> Option<u32> {
        if piece.len() > self.longest_text {
            return None;
        }
        self.find(&self.text, piece)
    }

    /// The control, user-defined, … token with this text.
    pub fn named_id(&self, piece: &[u8]) -> Option<u32> {
        self.find(&self.named, piece)
    }

    fn find(&self, table: &HashTable<u32>, piece: &[u8]) -> Option<u32> {
        table
            .find(self.hasher.hash_one(piece), |&id| self.piece(id) == piece)
            .copied()
    }

    /// The ids of one kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = u32> {
        let pairs = (0u32..).zip(&self.kinds);
        pairs.filter(move |&(_, &k)| k == kind).map(|(id, _)| id)
    }
}
