//! A plain text, cut into parts of at most so many tokens.
//!
//! A part ends where a line does (a line of more than a part's tokens is cut at spaces, or between characters), so that each can be
//! read and encoded by itself: the file is never in memory as a whole, and a part's tokens do not depend on what is before it. How
//! many tokens lines have together is taken for the sum of what they have alone; where they are more, the part is cut when it is read.

use std::ops::Range;

use super::lines::Reader;
use super::row::utf8;
use crate::error::{Error, Result};
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// Cuts a text from any place where a part begins.
pub(super) struct Cutter<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens of a part, without those that are put around it.
    room: usize,
}

/// A part of a text.
#[derive(Debug)]
pub(super) struct Part {
    pub range: Range<u64>,
    /// The line in which it begins; from 1, which is where the cutting began.
    pub line: u64,
    /// Why it cannot be read.
    pub bad: Option<Error>,
}

impl<'a> Cutter<'a> {
    /// For parts of `seq` tokens, with a begin token where the model wants one and an end token behind the last.
    pub fn new(tokenizer: &'a Tokenizer, seq: usize) -> Self {
        let around = 1 + usize::from(tokenizer.begin_token().is_some());
        Cutter {
            tokenizer,
            room: seq.saturating_sub(around).max(1),
        }
    }

    /// Gives `each` the parts from where `reader` is to byte `end`, where one must end.
    pub fn cut(&self, reader: &mut Reader, end: u64, each: &mut dyn FnMut(Part) -> Result<()>) -> Result<()> {
        let (mut bytes, mut line) = (Vec::new(), 1);
        let mut part = Part {
            range: reader.at()..reader.at(),
            line,
            bad: None,
        };
        let mut tokens = 0;
        while reader.at() < end {
            let from = reader.at();
            let piece = self.piece(reader, &mut bytes)?;
            let fits = piece.as_ref().is_ok_and(|n| tokens + n <= self.room);
            if !fits && !part.range.is_empty() {
                each(part)?;
                tokens = 0;
                part = Part {
                    range: from..from,
                    line,
                    bad: None,
                };
            }
            part.range.end = reader.at();
            line += u64::from(bytes.ends_with(b"\n"));
            match piece {
                Ok(n) => tokens += n,
                Err(e) => {
                    each(Part { bad: Some(e), ..part })?;
                    part = Part {
                        range: reader.at()..reader.at(),
                        line,
                        bad: None,
                    };
                }
            }
        }
        match part.range.is_empty() {
            true => Ok(()),
            false => each(part),
        }
    }

    /// Reads a line, or as much of one as has room, into `bytes`; the inner result is its number of tokens, or what is wrong with it.
    fn piece(&self, reader: &mut Reader, bytes: &mut Vec<u8>) -> Result<Result<usize>> {
        let from = reader.at();
        // Few tokens are longer than this; and if they are, the part is shorter than it could be.
        let mut most = self.room.saturating_mul(8).clamp(64, 1 << 24);
        loop {
            reader.seek(from)?;
            reader.some(most, bytes)?;
            if bytes.len() == most && !bytes.ends_with(b"\n") {
                bytes.truncate(last_border(bytes));
                reader.seek(from + bytes.len() as u64)?;
            }
            let text = match utf8(bytes) {
                Ok(text) => text,
                Err(e) => return Ok(Err(e)),
            };
            let options = EncodeOptions {
                add_bos_eos: false,
                parse_special: true,
            };
            let n = self.tokenizer.encode(text, options)?.len();
            let mut characters = text.chars();
            match (characters.next(), characters.next()) {
                // It is longer than one character, which cannot be cut.
                (Some(first), Some(_)) if n > self.room => most = (bytes.len() / 2).max(first.len_utf8()),
                _ => return Ok(Ok(n)),
            }
        }
    }
}

/// Where to cut a line: before its last space, or else between its last characters.
fn last_border(bytes: &[u8]) -> usize {
    let space = bytes.iter().rposition(|b| *b == b' ' || *b == b'\t');
    let starts_character = |b: &u8| b & 0xc0 != 0x80;
    let character = || bytes.iter().rposition(starts_character);
    space
        .filter(|at| *at > 0)
        .or_else(character)
        .filter(|at| *at > 0)
        .unwrap_or(bytes.len())
}
