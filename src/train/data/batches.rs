//! Examples put together: batch after batch, epoch after epoch, from any place on.
//!
//! Examples are taken in windows: so many that are arranged together (see [`Arrangement`]). What a window holds follows from where it
//! begins, so a place in the data is the epoch, the position where the window begins, and the number of the batch in it.

use serde::{Deserialize, Serialize};

use super::Data;
use super::order::{Order, mix};
use super::source::Source;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::train::Example;

/// Batches of a window: so many that few are left half empty, so few that a window is small.
const WINDOW: usize = 64;

/// Which examples come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrangement {
    /// As they come.
    #[default]
    Plain,
    /// Those of about the same length, among 64 batches of them.
    ByLength,
    /// As many as have room in the length of a sequence ([`DataOptions::seq`](super::DataOptions::seq)), each still by itself. What
    /// TRL calls packing, by the same rule among the tokens of 64 sequences: the longest first, each where there is room.
    Packed,
}

/// How to put examples together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Examples of a batch; the last of an epoch may have fewer. It has no meaning where they are packed.
    pub batch: usize,
    /// Which examples come together.
    pub arrangement: Arrangement,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions {
            batch: 1,
            arrangement: Arrangement::Plain,
        }
    }
}

/// Rows of an epoch so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Examples.
    pub examples: u64,
    /// Of them, those that were cut because they were too long.
    pub cut: u64,
    /// Bad rows that were skipped.
    pub skipped: u64,
}

/// Where in its data a run is: before which batch. Small, and kept beside a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// What the data and their arrangement are recognised by.
    data: u64,
    epoch: u64,
    /// Where the window begins.
    position: u64,
    /// Batches of the window that are done.
    batch: u64,
    /// Up to the window.
    counts: Counts,
}

impl Place {
    /// The epoch, from 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// The batches of a file.
pub struct Batches {
    source: Source,
    order: Order,
    options: BatchOptions,
    /// Before the current window.
    place: Place,
    /// Behind it.
    counts: Counts,
    position: u64,
    /// What is left of it, the next batch last.
    window: Vec<Vec<Example>>,
}

impl Batches {
    pub(super) fn new(data: Data, options: &BatchOptions) -> Result<Self> {
        if options.batch == 0 {
            return Err(Error::usage("a batch of no examples")
                .item("batch")
                .expected("1 or more"));
        }
        let arrangement = options.arrangement as u64;
        let place = Place {
            data: mix(&[data.fingerprint(), options.batch as u64, arrangement]),
            epoch: 0,
            position: 0,
            batch: 0,
            counts: Counts::default(),
        };
        Ok(Batches {
            source: Source::open(&data)?,
            order: data.order(),
            options: *options,
            counts: place.counts,
            position: 0,
            place,
            window: Vec::new(),
        })
    }

    /// The next batch; `None` at the end of an epoch, and then on with the next one.
    ///
    /// # Errors
    /// A bad row, unless [`DataOptions::skip_bad`](super::DataOptions::skip_bad) is on, and an epoch of nothing else; a file that was
    /// changed or cannot be read. The place is then as before.
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Vec<Example>>> {
        if self.window.is_empty() {
            self.close();
            self.fill()?;
        }
        match self.window.pop() {
            Some(batch) => {
                self.place.batch += 1;
                Ok(Some(batch))
            }
            None if self.counts.examples == 0 => {
                let e = Error::invalid("there is nothing to learn from").file(self.source.data.path());
                Err(e
                    .expected("a good row at least")
                    .found(format!("{} bad ones", self.counts.skipped)))
            }
            None => {
                self.begin(self.place.epoch.saturating_add(1), 0, Counts::default());
                Ok(None)
            }
        }
    }

    /// The epoch of the next batch, from 0.
    pub fn epoch(&self) -> u64 {
        self.place.epoch
    }

    /// Rows of this epoch that were read so far: those of batches that are still to come may be among them.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Before which batch it is.
    pub fn state(&self) -> Place {
        match self.window.is_empty() {
            true => Place {
                position: self.position,
                batch: 0,
                counts: self.counts,
                ..self.place
            },
            false => self.place.clone(),
        }
    }

    /// Goes to `place`: the next batch is the one that it was before.
    ///
    /// # Errors
    /// `Mismatch` for a place in other data, or in the same otherwise arranged; those of [`Batches::next`].
    pub fn resume(&mut self, place: &Place) -> Result<()> {
        let path = self.source.data.path().to_owned();
        let other = || {
            let e = Error::mismatch("the place to go on from is in other data, or in the same with other options");
            Err(e.file(&path))
        };
        if place.data != self.place.data || place.position > self.order.positions() {
            return other();
        }
        self.begin(place.epoch, place.position, place.counts);
        if place.batch > 0 {
            self.fill()?;
            let left = u64::try_from(self.window.len())
                .ok()
                .and_then(|n| n.checked_sub(place.batch));
            let Some(left) = left.and_then(|n| usize::try_from(n).ok()) else {
                self.begin(place.epoch, place.position, place.counts);
                return other();
            };
            self.window.truncate(left);
            self.place.batch = place.batch;
        }
        Ok(())
    }

    fn begin(&mut self, epoch: u64, position: u64, counts: Counts) {
        self.window.clear();
        self.place = Place {
            data: self.place.data,
            epoch,
            position,
            batch: 0,
            counts,
        };
        (self.position, self.counts) = (position, counts);
    }

    /// The window is done: the place is behind it.
    fn close(&mut self) {
        self.place = self.state();
    }

    /// Reads the window that begins at the place.
    fn fill(&mut self) -> Result<()> {
        let (position, counts) = (self.position, self.counts);
        let read = self.read();
        if read.is_err() {
            (self.position, self.counts) = (position, counts);
        }
        let mut rng = self.source.data.options().shuffle.then(|| {
            let Place {
                data, epoch, position, ..
            } = self.place;
            Rng::new(mix(&[data, epoch, position]))
        });
        let seq = self.source.data.options().seq;
        let mut batches = arrange(read?, &self.options, seq);
        match &mut rng {
            Some(rng) => shuffle(&mut batches, rng),
            // As the file has them, as far as can be.
            None => batches.sort_by_key(|batch| batch.iter().map(|(n, _)| *n).min()),
        }
        let examples = |batch: Vec<(usize, Example)>| batch.into_iter().map(|(_, example)| example).collect();
        self.window = batches.into_iter().rev().map(examples).collect();
        Ok(())
    }

    /// The examples of the next window.
    fn read(&mut self) -> Result<Vec<Example>> {
        let Batches { options, source, .. } = self;
        let (skip_bad, seq) = (source.data.options().skip_bad, source.data.options().seq);
        let (mut examples, mut tokens) = (Vec::new(), 0usize);
        while self.position < self.order.positions() {
            let full = match options.arrangement {
                Arrangement::Plain => examples.len() >= options.batch,
                Arrangement::ByLength => examples.len() / WINDOW >= options.batch,
                Arrangement::Packed => tokens / WINDOW >= seq,
            };
            if full {
                break;
            }
            let row = self.order.row(self.place.epoch, self.position);
            self.position += 1;
            let Some(row) = row else { continue };
            match source.example(row)? {
                None => (),
                Some(Ok((example, cut))) => {
                    self.counts.examples += 1;
                    self.counts.cut += u64::from(cut);
                    tokens += example.tokens().len();
                    examples.push(example);
                }
                Some(Err(_)) if skip_bad => self.counts.skipped += 1,
                Some(Err(e)) => return Err(e),
            }
        }
        Ok(examples)
    }
}

/// Puts the examples of a window together; each keeps its number in it.
fn arrange(examples: Vec<Example>, options: &BatchOptions, seq: usize) -> Vec<Vec<(usize, Example)>> {
    let mut examples: Vec<_> = examples.into_iter().enumerate().collect();
    if options.arrangement != Arrangement::Plain {
        examples.sort_by_key(|(n, example)| (std::cmp::Reverse(example.tokens().len()), *n));
    }
    if options.arrangement != Arrangement::Packed {
        let mut batches = Vec::new();
        while !examples.is_empty() {
            let rest = examples.split_off(options.batch.min(examples.len()));
            batches.push(std::mem::replace(&mut examples, rest));
        }
        return batches;
    }
    let mut packs: Vec<(usize, Vec<_>)> = Vec::new();
    for (n, example) in examples {
        let needed = example.tokens().len();
        let room = |pack: &&mut (usize, Vec<_>)| seq - pack.0 >= needed;
        match packs.iter_mut().find(room) {
            Some((taken, pack)) => {
                *taken += needed;
                pack.push((n, example));
            }
            None => packs.push((needed, vec![(n, example)])),
        }
    }
    packs.into_iter().map(|(_, pack)| pack).collect()
}

/// Fisher and Yates.
fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for i in (1..list.len()).rev() {
        let j = (rng.next() % (i as u64 + 1)) as usize;
        list.swap(i, j);
    }
}
