//! The first way through a file: every row is checked, and where it begins is noted.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use super::DataOptions;
use super::lines::{Index, Reader};
use super::row::{self, Row};
use super::text::Cutter;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Model;

/// What is found on the way.
pub(super) struct Scan<'a> {
    pub path: &'a Path,
    pub options: &'a DataOptions,
    pub progress: &'a mut dyn FnMut(f32) -> ControlFlow<()>,
    /// Bytes of the file, at least 1.
    pub size: u64,
    pub index: Index,
    pub usable: u64,
    pub bad: u64,
    /// Of the content.
    pub sum: u64,
}

impl Scan<'_> {
    pub fn lines(&mut self, reader: &mut Reader, model: &Model) -> Result<()> {
        let mut bytes = Vec::new();
        model.tokenizer()?;
        loop {
            let from = reader.at();
            if reader.line(&mut bytes)? == 0 {
                return Ok(());
            }
            let blank = bytes.trim_ascii().is_empty();
            let bad = match Row::parse(&bytes) {
                _ if blank => None,
                Ok(Row::Choices { .. }) if !self.options.choices => Some(row::only_evaluated()),
                // Without a template none of them can be learnt: that is no fault of the line.
                Ok(Row::Messages { .. }) => model.need_chat_template().map(|_| None)?,
                Ok(_) => None,
                Err(e) => Some(e),
            };
            let line = self.index.rows() + 1;
            self.add(&bytes, from..reader.at(), line, bad)?;
            self.usable -= u64::from(blank);
        }
    }

    pub fn text(&mut self, reader: &mut Reader, model: &Model) -> Result<()> {
        let tokenizer = model.tokenizer()?;
        let cutter = Cutter::new(tokenizer, self.options.seq);
        let (mut bytes, end) = (Vec::new(), reader.stamp().size);
        let mut again = Reader::again(reader.path(), reader.stamp())?;
        cutter.cut(reader, end, &mut |part| {
            again.bytes(part.range.clone(), &mut bytes)?;
            self.add(&bytes, part.range, part.line, part.bad)
        })
    }

    /// One more row.
    fn add(&mut self, bytes: &[u8], range: Range<u64>, line: u64, bad: Option<Error>) -> Result<()> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words = words.iter().map(|w| u64::from_le_bytes(*w));
        let rest = rest.iter().map(|b| u64::from(*b));
        // Not one that withstands an attack: it is to notice a mistake.
        self.sum = words.chain(rest).fold(self.sum ^ range.end, |h, w| {
            (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        });
        match bad {
            None => self.usable += 1,
            Some(e) if !self.options.skip_bad => return Err(at(e, self.path, line)),
            Some(_) => self.bad += 1,
        }
        let share = range.end as f64 / self.size as f64;
        self.index.push(range);
        match (self.progress)(share as f32) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
        }
    }
}

/// `e` with the line in front.
pub(super) fn at(e: Error, path: &Path, line: u64) -> Error {
    Error::new(e.kind(), e.to_string())
        .item(format!("line {line}"))
        .file(path)
}
