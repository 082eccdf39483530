//! What a trainer trains, and how: options with the names and defaults of `graft train`. And what memory that will take, known before it begins.

use std::ffi::c_char;
use std::path::Path;
use std::ptr::null;

use super::cancel::{flag, graft_cancel};
use super::error::graft_error;
use super::handle;
use super::input::{self, Extensible, facts};
use super::model::graft_model;
use super::session::{GRAFT_PRECISION_EXACT, GRAFT_PRECISION_FAST, graft_precision};
use super::status::graft_status;
use super::{Outcome, call};
use crate::Model;
use crate::error::Error;
use crate::kernels::Precision;
use crate::runtime::Cancel;
use crate::train::{
    Examples, Init, NewAdapter, Optimizer, Parameters, Schedule, Targets, TrainOptions, TrainPlan, Trainer,
};

/// What is trained, and how. A text that is NULL is its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_train_options {
    /// `sizeof(graft_train_options)`.
    pub struct_size: usize,
    /// "lora", "rslora", "dora", "adalora", "loha", "lokr", "vera", "miss", "ia3", "oft", "boft", "hra", "road", "ln_tuning", "trainable_tokens",
    /// "prompt_tuning" or "prefix_tuning"; NULL for "lora". An option that only other methods read must be left at its default.
    pub method: *const c_char,
    /// Its length.
    pub method_len: usize,
    /// Which modules: "all-linear", names separated by commas, or a regular expression of the whole path; NULL for "all-linear".
    pub targets: *const c_char,
    /// Its length.
    pub targets_len: usize,
    /// How updates of LoRA begin: "default", "gaussian", "pissa" or "olora"; NULL for "default".
    pub init: *const c_char,
    /// Its length.
    pub init_len: usize,
    /// Rank of the updates; 0, the default, for the method's own: 8, of VeRA 256, of MiSS 64.
    pub r: u32,
    /// Rows of a step; 4 by default. They run one after the other: more of them take longer, not more memory.
    pub batch: u32,
    /// The updates' scale is alpha / r; 16 by default.
    pub alpha: f64,
    /// Share of the numbers that inputs of low-rank updates lose while they learn; 0 by default. For an adapter that is opened, 0 is what it has, and
    /// -1 is 0.
    pub dropout: f64,
    /// For all that is random: what updates begin with, and the order of the rows; 42 by default.
    pub seed: u64,
    /// Steps that the schedule runs over; 100 by default.
    pub steps: u64,
    /// Steps that lead up to the learning rate; -1, the default, for 3 in 100.
    pub warmup: i64,
    /// How the learning rate goes: "cosine" or "linear" down to 0 in the last step, which then is the last, or "constant", which has no end; NULL
    /// for "cosine".
    pub schedule: *const c_char,
    /// Its length.
    pub schedule_len: usize,
    /// "adamw", "adamw8bit", "sgd" or "lion"; NULL for "adamw".
    pub optimizer: *const c_char,
    /// Its length.
    pub optimizer_len: usize,
    /// The learning rate; 2e-4 by default.
    pub lr: f32,
    /// Share of itself that a number loses in a step of learning rate 1; 0 by default.
    pub weight_decay: f32,
    /// The most that the norm of the gradients may be, 1 by default; 0: whatever it is.
    pub clip: f32,
    /// B of low-rank updates learns so many times faster (LoRA+; 16 is usual); 0, the default, for as fast as A.
    pub lora_plus: f32,
    /// The most tokens of a row, 512 by default: what is longer is cut, and its beginning kept. Memory grows with it.
    pub seq: u64,
    /// `GRAFT_PRECISION_FAST` or `GRAFT_PRECISION_EXACT`.
    pub precision: graft_precision,
    /// Not 0, the default: in every epoch the rows come in another order. 0: as they were added.
    pub shuffle: i32,
    /// Ends calls, now and later, until it is cleared; or NULL. It is looked at before each row of a step, which then changes nothing.
    pub cancel: *const graft_cancel,
    /// The most bytes that the training may take, of those that `graft_plan_training` counts; 0, the default: as many as it takes. Where that is
    /// not enough, attention runs again on the way back instead of being kept, which takes a tenth longer; where that is not either,
    /// `GRAFT_ERROR_LIMIT` says how many are.
    pub memory: u64,
    /// Norms and tables ("embed_tokens", "lm_head") that are trained whole beside the adapter: names separated by commas; NULL for none.
    pub modules_to_save: *const c_char,
    /// Its length.
    pub modules_to_save_len: usize,
    /// Of "prompt_tuning": it begins with the tokens of this text, over and over; NULL for random ones.
    pub prompt_tuning_init_text: *const c_char,
    /// Its length.
    pub prompt_tuning_init_text_len: usize,
    /// Of "trainable_tokens": which.
    pub token_indices: *const u32,
    /// How many.
    pub n_token_indices: usize,
    /// Of "prompt_tuning" and "prefix_tuning": positions before the text; 0, the default, for 20.
    pub num_virtual_tokens: u32,
    /// Of "oft": inputs of a block; 0, the default, for 32. Where that does not divide a module's inputs, the nearest size that does.
    pub oft_block_size: u32,
    /// Of "boft": inputs of a block; 0, the default, for 4.
    pub boft_block_size: u32,
    /// Of "road": outputs of a group; 0, the default, for 64.
    pub group_size: u32,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_train_options {
    const NAME: &'static str = "graft_train_options";
    const FIRST: usize = std::mem::offset_of!(Self, memory);

    fn defaults() -> Self {
        let (new, train) = (NewAdapter::default(), TrainOptions::default());
        graft_train_options {
            struct_size: size_of::<Self>(),
            method: null(),
            method_len: 0,
            targets: null(),
            targets_len: 0,
            init: null(),
            init_len: 0,
            r: 0,
            batch: 4,
            alpha: new.alpha,
            seed: new.seed,
            steps: train.steps as u64,
            warmup: -1,
            schedule: null(),
            schedule_len: 0,
            optimizer: null(),
            optimizer_len: 0,
            lr: train.lr,
            weight_decay: train.weight_decay,
            clip: train.clip.unwrap_or(0.0),
            lora_plus: train.lora_plus.unwrap_or(0.0),
            dropout: 0.0,
            seq: train.seq as u64,
            precision: GRAFT_PRECISION_FAST,
            shuffle: 1,
            cancel: null(),
            memory: 0,
            modules_to_save: null(),
            modules_to_save_len: 0,
            prompt_tuning_init_text: null(),
            prompt_tuning_init_text_len: 0,
            token_indices: null(),
            n_token_indices: 0,
            num_virtual_tokens: 0,
            oft_block_size: 0,
            boft_block_size: 0,
            group_size: 0,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_train_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_train_options_init(options: *mut graft_train_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

/// The options, read.
pub(super) struct Options {
    pub new: NewAdapter,
    pub train: TrainOptions,
    pub rows: Examples,
    pub cancel: Option<Cancel>,
    /// The most bytes.
    memory: Option<usize>,
}

/// A size that is 0 for the usual one.
fn or_usual(n: u32, usual: usize) -> usize {
    if n == 0 { usual } else { n as usize }
}

pub(super) unsafe fn train_options(options: *const graft_train_options) -> Outcome<Options> {
    // SAFETY: as the caller promises.
    let o = unsafe { input::options(options) }?;
    // SAFETY: as the caller promises.
    let (new, cancel) = unsafe { (new_adapter(&o)?, flag(o.cancel)?) };
    let memory = match o.memory {
        0 => None,
        n => Some(input::size(n, "memory")?),
    };
    let rows = Examples::new(o.batch as usize, (o.shuffle != 0).then_some(o.seed))?;
    Ok(Options {
        new,
        // SAFETY: as the caller promises.
        train: unsafe { how(&o) }?,
        rows,
        cancel,
        memory,
    })
}

/// What the options say of a new adapter.
unsafe fn new_adapter(o: &graft_train_options) -> Outcome<NewAdapter> {
    // SAFETY: as the caller promises.
    let (method, targets, init, modules, text, tokens) = unsafe {
        (
            input::maybe_text(o.method, o.method_len, "method")?,
            input::maybe_text(o.targets, o.targets_len, "targets")?,
            input::maybe_text(o.init, o.init_len, "init")?,
            input::maybe_text(o.modules_to_save, o.modules_to_save_len, "modules_to_save")?,
            input::maybe_text(
                o.prompt_tuning_init_text,
                o.prompt_tuning_init_text_len,
                "prompt_tuning_init_text",
            )?,
            input::slice(o.token_indices, o.n_token_indices, "token_indices")?,
        )
    };
    let new = NewAdapter::of(method.unwrap_or("lora"))?;
    let names = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect();
    Ok(NewAdapter {
        targets: targets.map_or(new.targets.clone(), Targets::parse),
        init: init.map_or(Ok(new.init), Init::named)?,
        r: or_usual(o.r, new.r),
        alpha: o.alpha,
        dropout: o.dropout,
        seed: o.seed,
        modules_to_save: modules.map_or(Vec::new(), names),
        prompt_tuning_init_text: text.map(str::to_owned),
        token_indices: tokens.to_vec(),
        num_virtual_tokens: or_usual(o.num_virtual_tokens, new.num_virtual_tokens),
        oft_block_size: or_usual(o.oft_block_size, new.oft_block_size),
        boft_block_size: or_usual(o.boft_block_size, new.boft_block_size),
        group_size: or_usual(o.group_size, new.group_size),
        ..new
    })
}

/// What the options say of how it is trained.
unsafe fn how(o: &graft_train_options) -> Outcome<TrainOptions> {
    // SAFETY: as the caller promises.
    let (schedule, optimizer) = unsafe {
        (
            input::maybe_text(o.schedule, o.schedule_len, "schedule")?,
            input::maybe_text(o.optimizer, o.optimizer_len, "optimizer")?,
        )
    };
    let steps = input::size(o.steps, "steps")?;
    let precisions = [
        (GRAFT_PRECISION_FAST, Precision::Fast),
        (GRAFT_PRECISION_EXACT, Precision::Exact),
    ];
    // 0 is "none" where the library wants a number above it.
    let above_0 = |value: f32| (value != 0.0).then_some(value);
    Ok(TrainOptions {
        steps,
        lr: o.lr,
        schedule: schedule.map_or(Ok(Schedule::default()), Schedule::named)?,
        warmup: match o.warmup {
            -1 => TrainOptions::usual_warmup(steps),
            n => usize::try_from(n).map_err(|_| {
                let e = Error::usage("number out of range").item("warmup");
                e.expected("0 or more, or -1").found(n)
            })?,
        },
        optimizer: optimizer.map_or(Ok(Optimizer::ADAMW), Optimizer::named)?,
        weight_decay: o.weight_decay,
        clip: above_0(o.clip),
        lora_plus: above_0(o.lora_plus),
        seq: input::size(o.seq, "seq")?,
        precision: input::one_of(o.precision, "precision", &precisions)?,
        seed: o.seed,
        ..TrainOptions::default()
    })
}

impl Options {
    /// A new adapter of `model`.
    pub fn begin(&self, model: &Model) -> crate::Result<Parameters> {
        let name = model.gguf().metadata().str("general.name")?;
        let new = NewAdapter {
            base_model: name.map(str::to_owned),
            ..self.new.clone()
        };
        Parameters::start(model, &new)
    }

    /// The adapter in a folder.
    pub fn open(&self, folder: &Path) -> crate::Result<Parameters> {
        let mut parameters = Parameters::open(folder)?;
        match self.new.dropout {
            0.0 => {}
            -1.0 => parameters.set_dropout(0.0)?,
            p => parameters.set_dropout(p)?,
        }
        Ok(parameters)
    }

    /// What the training takes; the options become such that it is no more than `memory`.
    pub fn plan(&mut self, model: &Model, parameters: &Parameters) -> crate::Result<TrainPlan> {
        self.train.check(model)?;
        match self.memory {
            None => Ok(TrainPlan::of(model, parameters, &self.train)),
            Some(bytes) => TrainPlan::fit(model, parameters, &mut self.train, bytes, 0),
        }
    }

    /// That a training which is there already takes no more than `memory`.
    pub fn check_plan(&self, trainer: &Trainer) -> crate::Result<()> {
        let learner = trainer.learner();
        let plan = TrainPlan::of(learner.model(), learner.parameters(), trainer.options());
        match self.memory {
            None => Ok(()),
            Some(bytes) => plan.within(bytes, 0),
        }
    }
}

/// Bytes that a training takes at its most, by part. What is not in it: the tokenizer, the rows, and the app itself.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_train_plan {
    /// `sizeof(graft_train_plan)`, set by the caller.
    pub struct_size: usize,
    /// The tensors in the model's file: mapped, they are there without the training too, and the system may drop and read them again.
    pub weights: u64,
    /// The adapter's numbers, and the adapter as it runs.
    pub adapter: u64,
    /// The gradients of these numbers.
    pub gradients: u64,
    /// What the optimizer keeps of each number.
    pub optimizer: u64,
    /// What is kept of `seq` tokens in each layer for the way back.
    pub activations: u64,
    /// Buffers of the layer that is under way, and of the head.
    pub workspace: u64,
    /// All of it together.
    pub total: u64,
    /// 0: attention runs again on the way back instead of being kept, for the sake of the options' `memory`.
    pub keeps_attention: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_train_plan {
    const NAME: &'static str = "graft_train_plan";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_train_plan {
            struct_size: size_of::<Self>(),
            weights: 0,
            adapter: 0,
            gradients: 0,
            optimizer: 0,
            activations: 0,
            workspace: 0,
            total: 0,
            keeps_attention: 0,
            reserved: 0,
        }
    }
}

/// Writes to `*plan`, whose `struct_size` is set, what a trainer with these options would take: of a new adapter (`graft_trainer_new`) where
/// `folder` is NULL, else of the adapter in that folder (`graft_trainer_open`). The adapter is made for that and goes again; nothing is trained,
/// and the model may be in use meanwhile. Fails as these two do: `GRAFT_ERROR_LIMIT` where it does not fit into the options' `memory`. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_plan_training(
    model: *const graft_model,
    folder: *const c_char,
    folder_len: usize,
    options: *const graft_train_options,
    plan: *mut graft_train_plan,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let to = facts(plan)?;
            let folder = match folder.is_null() {
                true => None,
                false => Some(input::path(folder, folder_len, "folder")?),
            };
            let mut options = train_options(options)?;
            let model = &handle::shared(model)?.model;
            let parameters = match folder {
                None => options.begin(model)?,
                Some(folder) => options.open(&folder)?,
            };
            let plan = options.plan(model, &parameters)?;
            to.put(graft_train_plan {
                weights: plan.weights as u64,
                adapter: plan.adapter as u64,
                gradients: plan.gradients as u64,
                optimizer: plan.optimizer as u64,
                activations: plan.activations as u64,
                workspace: plan.workspace as u64,
                total: plan.total() as u64,
                keeps_attention: options.train.keep_attention.into(),
                ..Extensible::defaults()
            });
            Ok(())
        })
    }
}
