//! Ids to text, one at a time.

use super::Tokenizer;
use super::facts::Kind;
use crate::error::{Error, Result};

/// The state of decoding token by token: see [`Tokenizer::stream`].
///
/// Pieces come out as soon as their characters are complete; put together they are what [`Tokenizer::decode`] gives.
/// (One exception: where a SentencePiece model writes bytes that are no UTF-8, `decode` replaces the whole run of bytes
/// by U+FFFD, as Hugging Face's decoder does; the stream cannot know how a run will end and keeps its good characters.)
pub struct DecodeStream {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Hold a run of byte tokens until it ends; it is text as a whole or not at all.
    whole_runs: bool,
    /// Nothing was put out yet.
    at_start: bool,
    /// Bytes that are not put out yet: the beginning of a character, or a held run.
    pending: Vec<u8>,
    out: String,
}

impl DecodeStream {
    pub(super) fn new(tokenizer: Tokenizer, skip_special: bool, whole_runs: bool) -> Self {
        DecodeStream {
            tokenizer,
            skip_special,
            whole_runs,
            at_start: true,
            pending: Vec::new(),
            out: String::new(),
        }
    }

    /// Takes the next id and gives the characters that are complete now: nothing while a character is unfinished.
    /// An id outside the vocabulary is an error.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        self.out.clear();
        self.append(id)?;
        Ok(&self.out)
    }

    /// Whatever is left: an unfinished character as U+FFFD.
    pub fn finish(mut self) -> String {
        self.out.clear();
        self.flush();
        self.out
    }

    /// As [`DecodeStream::push`], onto the end of `out`.
    pub(super) fn append(&mut self, id: u32) -> Result<()> {
        let tokenizer = self.tokenizer.clone();
        let vocab = tokenizer.vocab();
        let Some(kind) = vocab.kind(id) else {
            let e = Error::usage("the token id is outside the vocabulary");
            return Err(e.expected(format_args!("below {}", vocab.len())).found(id));
        };
        if kind == Kind::Unused || (self.skip_special && matches!(kind, Kind::Control | Kind::Unknown)) {
            return Ok(());
        }
        let piece = vocab.piece(id);
        if !tokenizer.has_byte_tokens() {
            self.pending.extend_from_slice(piece);
            self.put_complete();
        } else if kind == Kind::Byte {
            self.pending.extend_from_slice(piece);
            if !self.whole_runs {
                self.put_complete();
            }
        } else {
            self.flush();
            self.put(&String::from_utf8_lossy(piece));
        }
        Ok(())
    }

    /// Puts out the complete characters of `pending` and keeps the beginning of the next.
    fn put_complete(&mut self) {
        let bytes = std::mem::take(&mut self.pending);
        let mut rest: &[u8] = &bytes;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.put(text);
                    return;
                }
                Err(e) => {
                    let (good, bad) = rest.split_at(e.valid_up_to());
                    self.put(&String::from_utf8_lossy(good));
                    let Some(n) = e.error_len() else {
                        self.pending = bad.to_vec();
                        return;
                    };
                    self.put("\u{fffd}");
                    rest = bad.get(n..).unwrap_or(&[]);
                }
            }
        }
    }

    /// Puts out all of `pending`.
    pub(super) fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.pending);
        if self.whole_runs && self.tokenizer.has_byte_tokens() && std::str::from_utf8(&bytes).is_err() {
            for _ in &bytes {
                self.put("\u{fffd}");
            }
        } else {
            self.put(&String::from_utf8_lossy(&bytes));
        }
    }

    fn put(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let text = if self.at_start && self.tokenizer.strips_first_space() {
            text.strip_prefix(' ').unwrap_or(text)
        } else {
            text
        };
        self.at_start = false;
        self.out.push_str(text);
    }

    pub(super) fn into_text(self) -> String {
        self.out
    }
}
