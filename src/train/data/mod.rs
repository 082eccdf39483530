//! Training data: files of examples, in any order, without being in memory.
//!
//! A file is JSON Lines (each line a [`Row`]) or, where its name ends with `.txt`, a plain text that is cut into parts. [`Data::open`]
//! goes through it once: every line is checked, and where it begins is noted. [`Data::batches`] then reads each row when its turn comes.
//!
//! `lines` is the file by position, `scan` looks through it, `text` cuts a plain text, `source` reads single rows; [`row`] is what a
//! line says, `learnt` what is learnt from it, `chat` finds what the assistant says; `order` shuffles, [`batches`] puts together.

pub mod batches;
mod chat;
mod learnt;
mod lines;
pub(super) mod order;
pub mod row;
mod scan;
mod source;
#[cfg(test)]
mod tests;
mod text;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::format::lines::LONGEST_LINE;
pub use batches::{Arrangement, BatchOptions, Batches, Counts, Place};
pub use row::Row;
pub use source::Rows;

use crate::error::{Error, Result};
use crate::runtime::Model;
use lines::{Index, Reader, Stamp};
use order::{Order, mix};
use scan::Scan;

/// How to read a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataOptions {
    /// The most tokens of an example: what is longer is cut, and its beginning kept. A plain text is cut into parts of as many.
    pub seq: usize,
    /// Skip bad lines and count them, instead of ending with an error.
    pub skip_bad: bool,
    /// Take rows in an order that the seed says, another one in every epoch; else as in the file.
    pub shuffle: bool,
    /// Where random numbers begin.
    pub seed: u64,
    /// Accept rows with choices, for [`evaluate`](crate::train::evaluate); they cannot be learnt.
    pub choices: bool,
}

impl Default for DataOptions {
    fn default() -> Self {
        DataOptions {
            seq: 1024,
            skip_bad: false,
            shuffle: true,
            seed: 0,
            choices: false,
        }
    }
}

/// A data file, looked through. Cloning shares it.
#[derive(Clone)]
pub struct Data(Arc<Inner>);

struct Inner {
    model: Model,
    path: PathBuf,
    stamp: Stamp,
    index: Index,
    options: DataOptions,
    plain: bool,
    usable: u64,
    bad: u64,
    /// Of the content.
    sum: u64,
}

impl Data {
    /// Looks through the file at `path`, for `model` to learn from. A plain text becomes tokens on the way, to find where to cut it.
    ///
    /// # Errors
    /// A file that cannot be read, or has no row that can be used; the first line that is bad (what [`Row::parse`] says, or choices),
    /// unless `skip_bad` is on; a length outside of 2 and the model's context. Each names the file, and the line.
    pub fn open(path: impl AsRef<Path>, model: &Model, options: &DataOptions) -> Result<Self> {
        Self::open_with(path, model, options, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Data::open`]; `progress` is told the share that is done, and may end it.
    ///
    /// # Errors
    /// As [`Data::open`]; `Cancelled` where `progress` breaks.
    pub fn open_with(
        path: impl AsRef<Path>,
        model: &Model,
        options: &DataOptions,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Self> {
        Self::look_through(path.as_ref(), model, options, Index::new(), progress)
    }

    fn look_through(
        path: &Path,
        model: &Model,
        options: &DataOptions,
        index: Index,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Self> {
        let most = model.spec().context_length;
        if !(2..=most).contains(&options.seq) {
            let e = Error::usage("the length of examples is out of range").item("seq");
            return Err(e
                .expected(format!("2 to {most}, the model's context length"))
                .found(options.seq));
        }
        let mut reader = Reader::open(path)?;
        let mut scan = Scan {
            size: reader.stamp().size.max(1),
            index,
            options,
            path,
            usable: 0,
            bad: 0,
            sum: 0,
            progress,
        };
        let plain = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("txt"));
        reader.begin()?;
        match plain {
            true => scan.text(&mut reader, model)?,
            false => scan.lines(&mut reader, model)?,
        }
        reader.check()?;
        let Scan {
            index,
            usable,
            bad,
            sum,
            ..
        } = scan;
        if usable == 0 {
            let e = Error::invalid("there is nothing to learn from").file(path);
            return Err(match bad {
                0 => e.expected("a line at least").found("an empty file"),
                n => e.expected("a good line at least").found(format!("{n} bad lines")),
            });
        }
        Ok(Data(Arc::new(Inner {
            model: model.clone(),
            path: path.into(),
            stamp: reader.stamp().clone(),
            index,
            options: options.clone(),
            plain,
            usable,
            bad,
            sum,
        })))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The model that it was opened for.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// How it is read.
    pub fn options(&self) -> &DataOptions {
        &self.0.options
    }

    /// Rows: lines that are not blank and not bad, or parts of a plain text. A row may still turn out to have nothing to learn:
    /// a prompt that fills the whole length ([`Counts`] say how many did), a part of one token.
    pub fn len(&self) -> u64 {
        self.0.usable
    }

    /// Never: a file without rows is an error.
    pub fn is_empty(&self) -> bool {
        self.0.usable == 0
    }

    /// Bad lines that were found when it was opened (with `skip_bad`; else the first is an error).
    pub fn bad(&self) -> u64 {
        self.0.bad
    }

    /// Its examples in batches, from the first of the first epoch on.
    ///
    /// # Errors
    /// A batch of no examples; a file that has changed.
    pub fn batches(&self, options: &BatchOptions) -> Result<Batches> {
        Batches::new(self.clone(), options)
    }

    /// Its rows in the order of the file.
    ///
    /// # Errors
    /// A file that has changed.
    pub fn rows(&self) -> Result<Rows> {
        Rows::new(self)
    }

    fn order(&self) -> Order {
        let Inner { index, options, .. } = &*self.0;
        Order::new(index.rows(), index.step(), options.shuffle.then_some(options.seed))
    }

    /// What tells the order and content of its examples from others.
    fn fingerprint(&self) -> u64 {
        let Inner {
            index, options, sum, ..
        } = &*self.0;
        let DataOptions {
            seq,
            skip_bad,
            shuffle,
            seed,
            choices,
        } = options;
        let flags = [*skip_bad, *shuffle, *choices].map(u64::from);
        mix(&[
            *sum,
            index.rows(),
            index.step(),
            *seq as u64,
            *seed,
            flags[0],
            flags[1],
            flags[2],
        ])
    }
}
