//! Single rows of a file that was looked through.

use std::ops::Range;

use super::lines::{Places, Reader};
use super::row::{self, Row};
use super::scan::at;
use super::text::Cutter;
use super::{Data, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Model;
use crate::train::Example;

/// What a row of the file turned out to be.
pub(super) enum Found {
    /// A line without anything.
    Blank,
    /// Why it cannot be used; names file and line.
    Bad(Error),
    Row(Row),
}

/// A reader of single rows.
pub(super) struct Source {
    pub data: Data,
    reader: Reader,
    places: Places,
    bytes: Vec<u8>,
}

impl Source {
    pub fn open(data: &Data) -> Result<Self> {
        Ok(Source {
            reader: Reader::again(&data.0.path, &data.0.stamp)?,
            data: data.clone(),
            places: Places::default(),
            bytes: Vec::new(),
        })
    }

    /// Reads row `row`, which is below [`Index::rows`].
    pub fn read(&mut self, row: u64) -> Result<Found> {
        self.reader.check()?;
        let inner = &*self.data.0;
        let reader = &mut self.reader;
        let range = self
            .places
            .find(&inner.index, row, |group| split(inner, reader, group))?;
        let last = range.end == inner.stamp.size;
        if inner.plain {
            self.reader.bytes(range, &mut self.bytes)?;
            return Ok(match row::utf8(&self.bytes) {
                Ok(text) if last => Found::Row(Row::Text(text.into())),
                Ok(text) => Found::Row(Row::Part(text.into())),
                Err(e) => Found::Bad(e.file(&inner.path)),
            });
        }
        self.reader.seek(range.start)?;
        self.reader.line(&mut self.bytes)?;
        if self.bytes.trim_ascii().is_empty() {
            return Ok(Found::Blank);
        }
        Ok(match Row::parse(&self.bytes) {
            Ok(row) => Found::Row(row),
            Err(e) => Found::Bad(at(e, &inner.path, row + 1)),
        })
    }

    /// What is learnt from a row, and whether it was cut; `None` for a blank line too.
    pub fn example(&mut self, row: u64) -> Result<Judged<(Example, bool)>> {
        match self.read(row)? {
            Found::Blank => Ok(None),
            Found::Bad(e) => Ok(Some(Err(e))),
            Found::Row(found) => {
                let data = &*self.data.0;
                let made = found.example(&data.model, data.options.seq);
                judged(data, row + 1, &found, made)
            }
        }
    }
}

/// What was made of a row: `None` where there is nothing in it to be learnt; an error is that of a bad row, and names file and line.
pub(super) type Judged<T> = Option<Result<T>>;

/// Sorts out what was made of the row of `line`: an error that is no fault of the row ends it all.
fn judged<T>(data: &Inner, line: u64, row: &Row, made: Result<T>) -> Result<Judged<T>> {
    match made {
        Err(e) if is_fault_of_model(&e, row) => Err(e),
        Err(_) if is_one_token(&data.model, row) => Ok(None),
        made => Ok(Some(made.map_err(|e| at(e, &data.path, line)))),
    }
}

/// Whether no row of this form could be used: skipping them all would hide why.
fn is_fault_of_model(e: &Error, row: &Row) -> bool {
    match e.kind() {
        ErrorKind::Invalid => false,
        // A template that hides a turn of this row may show those of others.
        ErrorKind::Unsupported => !matches!(row, Row::Messages { .. }),
        // A rendering that is given up leaves its thread behind: not for row after row.
        ErrorKind::Limit => e.item_name() == Some("tokenizer.chat_template"),
        _ => true,
    }
}

/// What can be left of a line that is longer than a part. Nothing follows it that could be learnt, and nothing is wrong with it.
fn is_one_token(model: &Model, row: &Row) -> bool {
    let Row::Part(text) = row else { return false };
    let tokens = model.tokenizer().and_then(|tokenizer| row::encode(tokenizer, text));
    tokens.is_ok_and(|tokens| tokens.len() == 1)
}

/// Where rows begin in a group.
fn split(inner: &Inner, reader: &mut Reader, group: Range<u64>) -> Result<Vec<u64>> {
    let mut starts = Vec::new();
    reader.seek(group.start)?;
    if inner.plain {
        let cutter = Cutter::new(inner.model.tokenizer()?, inner.options.seq);
        cutter.cut(reader, group.end, &mut |part| {
            starts.push(part.range.start);
            Ok(())
        })?;
        return Ok(starts);
    }
    let mut bytes = Vec::new();
    while reader.at() < group.end {
        starts.push(reader.at());
        if reader.line(&mut bytes)? == 0 {
            break;
        }
    }
    Ok(starts)
}

/// The rows of a file in its order.
pub struct Rows {
    source: Source,
    next: u64,
    bad: u64,
}

impl Rows {
    pub(super) fn new(data: &Data) -> Result<Self> {
        Ok(Rows {
            source: Source::open(data)?,
            next: 0,
            bad: 0,
        })
    }

    /// The next row, with the number of its line (of a plain text: its part), from 1.
    ///
    /// # Errors
    /// A bad line, unless [`skip_bad`](super::DataOptions::skip_bad) is on; a file that has changed.
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<(u64, Row)>> {
        while self.next < self.source.data.0.index.rows() {
            self.next += 1;
            match self.source.read(self.next - 1)? {
                Found::Row(row) => return Ok(Some((self.next, row))),
                Found::Bad(e) if !self.source.data.0.options.skip_bad => return Err(e),
                Found::Bad(_) => self.bad += 1,
                Found::Blank => (),
            }
        }
        Ok(None)
    }

    /// What was made of a row that was read; `None` if that is bad and to be skipped, and for a part of one token.
    pub(in crate::train) fn judge<T>(&mut self, line: u64, row: &Row, made: Result<T>) -> Result<Option<T>> {
        let data = &*self.source.data.0;
        match judged(data, line, row, made)?.transpose() {
            Err(_) if data.options.skip_bad => {
                self.bad += 1;
                Ok(None)
            }
            judged => judged,
        }
    }

    /// Bad rows that were skipped so far.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    /// The share of rows that were read.
    pub fn share(&self) -> f32 {
        self.next as f32 / self.source.data.0.index.rows().max(1) as f32
    }
}
