//! What the command line and the file of `--config` come to.

use std::path::PathBuf;

use graft::kernels::Precision;
use graft::train::{
    Arrangement, BatchOptions, DataOptions, Init, NewAdapter, Optimizer, Schedule, Targets, TrainOptions,
};
use graft::{Error, Model, Result};

use crate::args::{TrainArgs, TrainOptionArgs};
use crate::memory::parse_bytes;

/// The options, checked as far as they can be alone.
pub struct Plan {
    pub data: DataOptions,
    pub batches: BatchOptions,
    pub packing: bool,
    pub accumulate: usize,
    pub steps: Option<usize>,
    pub epochs: usize,
    pub save_every: usize,
    pub eval_every: Option<usize>,
    pub early_stop: Option<usize>,
    pub init_from: Option<PathBuf>,
    pub dropout: Option<f64>,
    /// Bytes that the process may take.
    pub memory: Option<usize>,
    new: NewAdapter,
    train: TrainOptions,
    warmup: Option<usize>,
}

fn bytes_of(text: &str) -> Result<usize> {
    parse_bytes(text).map_err(|e| Error::usage(e).item("--memory").found(text))
}

/// What the command line says, or else the file.
macro_rules! first_of {
    ($($field:ident)*; $line:ident, $file:ident) => {
        TrainOptionArgs {
            $($field: $line.$field.clone().or($file.$field),)*
            packing: $line.packing || $file.packing,
            skip_bad: $line.skip_bad || $file.skip_bad,
        }
    };
}

impl Plan {
    pub fn read(args: &TrainArgs) -> Result<Self> {
        let file = match &args.config {
            None => TrainOptionArgs::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "cannot read", &e))?;
                toml::from_str(&text).map_err(|e| Error::usage(e.to_string().trim().to_owned()).file(path))?
            }
        };
        let line = &args.options;
        let o = first_of!(
            method r alpha targets init dropout modules_to_save num_virtual_tokens prompt_tuning_init_text token_indices oft_block_size
            boft_block_size group_size init_from epochs steps batch accumulate seq lr schedule warmup weight_decay clip lora_plus optimizer
            precision memory seed save_every eval_every early_stop; line, file
        );
        if o.epochs.is_some() && o.steps.is_some() {
            return Err(Error::usage("--epochs and --steps cannot both be given"));
        }
        let at_least_one = |item: &str, n: usize| match n {
            0 => Err(Error::usage("number out of range")
                .item(item)
                .expected("1 or more")
                .found(0)),
            n => Ok(n),
        };
        let seed = o.seed.unwrap_or(42);
        let seq = o.seq.unwrap_or(512);
        let d = TrainOptions::default();
        let new = NewAdapter::of(o.method.as_deref().unwrap_or("lora"))?;
        let precision = match o.precision.as_deref() {
            None | Some("fast") => Precision::Fast,
            Some("exact") => Precision::Exact,
            Some(other) => {
                let e = Error::usage("unknown precision").item("--precision");
                return Err(e.expected("fast or exact").found(other));
            }
        };
        Ok(Plan {
            data: DataOptions {
                seq,
                skip_bad: o.skip_bad,
                seed,
                ..Default::default()
            },
            batches: BatchOptions {
                batch: at_least_one("--batch", o.batch.unwrap_or(4))?,
                arrangement: if o.packing {
                    Arrangement::Packed
                } else {
                    Arrangement::ByLength
                },
            },
            packing: o.packing,
            accumulate: at_least_one("--accumulate", o.accumulate.unwrap_or(1))?,
            steps: o.steps.map(|n| at_least_one("--steps", n)).transpose()?,
            epochs: at_least_one("--epochs", o.epochs.unwrap_or(3) as usize)?,
            save_every: at_least_one("--save-every", o.save_every.unwrap_or(50))?,
            eval_every: o.eval_every.map(|n| at_least_one("--eval-every", n)).transpose()?,
            early_stop: o.early_stop.map(|n| at_least_one("--early-stop", n)).transpose()?,
            init_from: o.init_from,
            dropout: o.dropout,
            memory: o.memory.as_deref().map(bytes_of).transpose()?,
            new: NewAdapter {
                r: o.r.unwrap_or(new.r),
                alpha: o.alpha.unwrap_or(new.alpha),
                targets: Targets::parse(o.targets.as_deref().unwrap_or("all-linear")),
                init: Init::named(o.init.as_deref().unwrap_or("default"))?,
                seed,
                dropout: o.dropout.unwrap_or(0.0),
                modules_to_save: o.modules_to_save.unwrap_or_default(),
                num_virtual_tokens: o.num_virtual_tokens.unwrap_or(new.num_virtual_tokens),
                prompt_tuning_init_text: o.prompt_tuning_init_text,
                token_indices: o.token_indices.unwrap_or_default(),
                oft_block_size: o.oft_block_size.unwrap_or(new.oft_block_size),
                boft_block_size: o.boft_block_size.unwrap_or(new.boft_block_size),
                group_size: o.group_size.unwrap_or(new.group_size),
                ..new
            },
            train: TrainOptions {
                lr: o.lr.unwrap_or(d.lr),
                schedule: Schedule::named(o.schedule.as_deref().unwrap_or("cosine"))?,
                optimizer: Optimizer::named(o.optimizer.as_deref().unwrap_or("adamw"))?,
                weight_decay: o.weight_decay.unwrap_or(0.0),
                clip: match o.clip {
                    Some(0.0) => None,
                    other => other.or(Some(1.0)),
                },
                lora_plus: o.lora_plus,
                seq,
                precision,
                seed,
                ..d
            },
            warmup: o.warmup,
        })
    }

    /// Tokens of the longest sequence, and the precision.
    pub fn sequences(&self) -> (usize, Precision) {
        (self.train.seq, self.train.precision)
    }

    /// The options of a training of so many steps.
    pub fn train(&self, steps: usize) -> TrainOptions {
        TrainOptions {
            steps,
            warmup: self.warmup.unwrap_or(TrainOptions::usual_warmup(steps)),
            ..self.train.clone()
        }
    }

    /// What to begin with.
    pub fn new_adapter(&self, model: &Model) -> NewAdapter {
        let name = model.gguf().metadata().str("general.name").ok().flatten();
        NewAdapter {
            base_model: name.map(str::to_owned),
            ..self.new.clone()
        }
    }

    /// The method, for the card.
    pub fn method(&self) -> &str {
        &self.new.method
    }
}
