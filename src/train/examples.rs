//! Examples in memory, and the order in which they are learnt: for who has no file of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Example;
use super::data::order::{Order, mix};
use crate::error::{Error, Result};
use crate::runtime::Digest;

/// Examples in memory. They come as those of a file do ([`Data`](super::Data)), in batches in plain order: shuffled anew in every epoch, the
/// last batch of an epoch perhaps smaller.
///
/// ```
/// # fn main() -> graft::Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/llama-tied");
/// use std::ops::ControlFlow;
///
/// use graft::train::data::Row;
/// use graft::train::{Examples, NewAdapter, Parameters, TrainOptions, Trainer};
///
/// let model = graft::Model::open(format!("{folder}/model.gguf"))?;
/// let options = TrainOptions { steps: 2, seq: 64, ..Default::default() };
/// let mut rows = Examples::new(4, Some(42))?; // four a step, shuffled
/// let row = Row::parse(br#"{"prompt": "My dog is called ", "completion": "Bruno."}"#)?;
/// rows.add(row.example(&model, options.seq)?.0);
/// let parameters = Parameters::start(&model, &NewAdapter::default())?;
/// let mut trainer = Trainer::new(&model, parameters, options)?;
/// trainer.run(&mut rows, 2, &mut |report| {
///     println!("step {}: loss {:.3}", report.step, report.loss);
///     ControlFlow::Continue(()) // or Break, to end here
/// })?;
/// let adapter = trainer.adapter()?; // for a session of the same model, at once
/// # assert_eq!(adapter.method(), "LORA");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Examples {
    all: Vec<Example>,
    /// Of a batch.
    batch: usize,
    /// Where shuffling begins; `None`: they stay as they were added.
    seed: Option<u64>,
    /// What tells them, and their order, from others.
    sum: u64,
    at: Place,
    /// Where to go on, as soon as all of them are there again.
    resumed: Option<Place>,
}

/// Before which example of which epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// [`Examples::sum`] when it was taken.
    examples: u64,
    epoch: u64,
    position: u64,
}

impl Examples {
    /// None yet. `batch` of them are one step; they are shuffled where there is a seed.
    ///
    /// # Errors
    /// A batch of no examples.
    pub fn new(batch: usize, seed: Option<u64>) -> Result<Self> {
        if batch == 0 {
            let e = Error::usage("a batch of no examples").item("batch");
            return Err(e.expected("1 or more").found(0));
        }
        Ok(Examples {
            all: Vec::new(),
            batch,
            seed,
            sum: mix(&[batch as u64, u64::from(seed.is_some()), seed.unwrap_or(0)]),
            at: Place::default(),
            resumed: None,
        })
    }

    /// Adds one. Where an epoch is under way, it ends here, and another begins with the new one in it.
    pub fn add(&mut self, example: Example) {
        let mut digest = Digest::new();
        for (id, learn) in example.tokens().iter().zip(example.learn()) {
            digest.add(&id.to_le_bytes());
            digest.add(&u32::from(*learn).to_le_bytes());
        }
        self.sum = mix(&[self.sum, example.tokens().len() as u64, digest.value()]);
        self.all.push(example);
        if self.at.position > 0 {
            self.at = self.epoch_behind();
        }
    }

    /// Takes all out, and begins with the first epoch again.
    pub fn clear(&mut self) {
        let Ok(empty) = Self::new(self.batch, self.seed) else {
            return;
        };
        *self = empty;
    }

    /// All, in the order in which they were added.
    pub fn all(&self) -> &[Example] {
        &self.all
    }

    /// The epoch of the next batch, from 0.
    pub fn epoch(&self) -> u64 {
        self.resumed.unwrap_or(self.at).epoch
    }

    /// Before which batch it is, for [`Trainer::save_checkpoint`](super::Trainer::save_checkpoint).
    pub fn place(&self) -> Value {
        let here = Place {
            examples: self.sum,
            ..self.at
        };
        serde_json::to_value(self.resumed.unwrap_or(here)).unwrap_or_default()
    }

    /// Goes to `place` as soon as the next batch is taken: by then the same examples must have been added, in the same order.
    ///
    /// # Errors
    /// `Mismatch` for the place of something else: of a file.
    pub fn resume(&mut self, place: &Value) -> Result<()> {
        let place = serde_json::from_value(place.clone()).map_err(|_| {
            let e = Error::mismatch("the place to go on from is not one among examples in memory");
            e.expected("a checkpoint of such a training").found(place)
        })?;
        self.resumed = Some(place);
        Ok(())
    }

    /// The next batch, and where [`Examples::go_to`] goes once it is learnt.
    ///
    /// # Errors
    /// `Usage` where there are no examples, `Mismatch` where they are not those of the place to go on from.
    pub(super) fn next_batch(&mut self) -> Result<(Vec<Example>, Place)> {
        if self.all.is_empty() {
            return Err(Error::usage("there is nothing to learn from")
                .expected("a row at least")
                .found("none"));
        }
        if let Some(place) = self.resumed {
            if place.examples != self.sum {
                let e = Error::mismatch("the rows are not those that the training had, or not in their order");
                return Err(e
                    .expected("the same rows, or a new beginning with others")
                    .found(self.all.len()));
            }
            (self.at, self.resumed) = (place, None);
        }
        let n = self.all.len() as u64;
        let order = Order::new(n, 1, self.seed);
        // A place that a checkpoint tells is input.
        let from = self.at.position.min(n - 1);
        let to = from.saturating_add(self.batch as u64).min(n);
        let rows = (from..to).filter_map(|position| order.row(self.at.epoch, position));
        let batch = rows.filter_map(|row| self.all.get(row as usize).cloned()).collect();
        let behind = match to == n {
            true => self.epoch_behind(),
            false => Place {
                position: to,
                ..self.at
            },
        };
        Ok((batch, behind))
    }

    /// The batch before `behind` was learnt.
    pub(super) fn go_to(&mut self, behind: Place) {
        self.at = behind;
    }

    fn epoch_behind(&self) -> Place {
        Place {
            epoch: self.at.epoch.saturating_add(1),
            position: 0,
            ..self.at
        }
    }
}
