//! Trainers: a new adapter for a model, and the rows that it learns from. The model stays as it is, and may be used meanwhile.
//!
//! A trainer is made (`graft_trainer_new`), given rows (`graft_trainer_add`), and run (`graft_trainer_run`); what it has learnt is there at once, for
//! sessions of the same model (`graft_trainer_adapter`), and as the folder that PEFT loads (`graft_trainer_save`).

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::ptr::null;

use super::chat::{self, graft_message};
use super::error::graft_error;
use super::handle::{self, Handle};
use super::input::{self, out};
use super::model::graft_model;
use super::status::graft_status;
use super::train_options::{Options, graft_train_options, train_options};
use super::{Fault, Outcome, call, quiet};
use crate::Model;
use crate::error::{Error, ErrorKind};
use crate::runtime::Cancel;
use crate::train::data::Row;
use crate::train::{Example, Examples, Parameters, Trainer};

/// An adapter that is being trained. One thread at a time. It keeps what it needs of its model, which may be freed before it.
pub struct graft_trainer {
    _opaque: (),
}

/// A training and its rows.
pub(super) struct Training {
    pub trainer: Trainer,
    pub rows: Examples,
    /// Rows that were cut.
    pub cut: u64,
    pub cancel: Option<Cancel>,
}

impl Handle for graft_trainer {
    type Shared = ();
    type Own = Training;
    const KIND: u8 = 10;
    const NAME: &'static str = "graft_trainer";
}

/// Makes a trainer of what `begin` makes of a model and options.
unsafe fn make(
    model: *const graft_model,
    options: *const graft_train_options,
    trainer: *mut *mut graft_trainer,
    begin: impl FnOnce(&Model, &mut Options) -> crate::Result<Trainer>,
) -> Outcome<()> {
    // SAFETY: as the caller promises.
    let (trainer, mut options, loaded) = unsafe {
        (
            out(trainer, "trainer")?,
            train_options(options)?,
            handle::shared(model)?,
        )
    };
    let mut made = begin(&loaded.model, &mut options)?;
    let Options { rows, cancel, .. } = options;
    made.cancel_by(cancel.clone());
    let training = Training {
        trainer: made,
        rows,
        cut: 0,
        cancel,
    };
    trainer.put(handle::create((), training));
    Ok(())
}

/// A trainer of these tensors, within the options' `memory`.
fn trainer_of(model: &Model, parameters: Parameters, options: &mut Options) -> crate::Result<Trainer> {
    options.plan(model, &parameters)?;
    Trainer::new(model, parameters, options.train.clone())
}

/// Begins a new adapter of `model`. `GRAFT_ERROR_USAGE` for options that are out of range, that the method does not have, and targets that match
/// nothing; `GRAFT_ERROR_LIMIT` where it does not fit into the options' `memory`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_new(
    model: *const graft_model,
    options: *const graft_train_options,
    trainer: *mut *mut graft_trainer,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            make(model, options, trainer, |model, options| {
                let parameters = options.begin(model)?;
                trainer_of(model, parameters, options)
            })
        })
    }
}

/// Goes on with the adapter in a folder that PEFT or `graft_trainer_save` wrote, of any method whose gradients Graft knows: its numbers, and nothing
/// of the training that made them. Method, targets, init, r, alpha and what else only a beginning needs are the adapter's; those of the options are
/// not looked at. `GRAFT_ERROR_LIMIT` where it does not fit into the options' `memory`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_open(
    model: *const graft_model,
    path: *const c_char,
    path_len: usize,
    options: *const graft_train_options,
    trainer: *mut *mut graft_trainer,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let path: PathBuf = input::path(path, path_len, "path")?;
            make(model, options, trainer, |model, options| {
                let parameters = options.open(&path)?;
                trainer_of(model, parameters, options)
            })
        })
    }
}

/// Goes on with a training that `graft_trainer_checkpoint` wrote, bit for bit as if it had not been stopped (on the same kind of machine), once the
/// same rows are added in the same order; before other rows, `graft_trainer_clear` begins anew with them. The options are those it was made
/// with: `GRAFT_ERROR_MISMATCH`, by name, for others and for another model; method, targets, init, r, alpha, dropout and what else only a beginning
/// needs are the adapter's. Attention is kept or runs again as it did: `GRAFT_ERROR_LIMIT` where that does not fit into the options' `memory`.
/// `GRAFT_ERROR_INVALID` for a damaged file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_resume(
    model: *const graft_model,
    path: *const c_char,
    path_len: usize,
    options: *const graft_train_options,
    trainer: *mut *mut graft_trainer,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let path: PathBuf = input::path(path, path_len, "path")?;
            make(model, options, trainer, |model, options| {
                let (trainer, place) = Trainer::resume(model, options.train.clone(), &path)?;
                options.check_plan(&trainer)?;
                options.rows.resume(&place).map_err(|e| e.file(&path))?;
                Ok(trainer)
            })
        })
    }
}

/// Frees a trainer. NULL is allowed. While a call on it is under way, here from its callback or in another thread: when that call, which goes
/// on, returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_free(trainer: *mut graft_trainer) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(trainer) });
}

/// What is learnt together: one of `tokens`, `text`, `completion`, `messages` and `line`; all else is 0. This struct never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_row {
    /// Tokens.
    pub tokens: *const u32,
    /// How many.
    pub n_tokens: usize,
    /// By token, 0 where it only stands before others; NULL where all are learnt. The first never is: nothing stands before it.
    pub learn: *const u8,
    /// A text, all of which is learnt, and that it ends there.
    pub text: *const c_char,
    /// Its length.
    pub text_len: usize,
    /// What stands before `completion`, and is not learnt.
    pub prompt: *const c_char,
    /// Its length.
    pub prompt_len: usize,
    /// What is learnt, and that it ends there.
    pub completion: *const c_char,
    /// Its length.
    pub completion_len: usize,
    /// A conversation: what the assistant says in it is learnt, through the model's chat template.
    pub messages: *const graft_message,
    /// How many.
    pub n_messages: usize,
    /// The tools that the template is told of: a JSON list, or NULL.
    pub tools: *const c_char,
    /// Its length.
    pub tools_len: usize,
    /// A line of a data file of `graft train`: {"text"}, {"prompt", "completion"} or {"messages", "tools"}.
    pub line: *const c_char,
    /// Its length.
    pub line_len: usize,
}

/// The example that a row is, cut to what the training has room for; and whether it had to be.
unsafe fn example(row: &graft_row, of: &Training) -> Outcome<(Example, bool)> {
    let learner = of.trainer.learner();
    let (model, seq) = (learner.model(), learner.longest());
    let forms = [
        ("tokens", row.tokens.is_null()),
        ("text", row.text.is_null()),
        ("completion", row.completion.is_null()),
        ("messages", row.messages.is_null()),
        ("line", row.line.is_null()),
    ];
    let mut given: Vec<_> = forms.iter().filter(|f| !f.1).map(|f| f.0).collect();
    let form = given.first().copied().unwrap_or_default();
    // What belongs to another form would be left out, and that silently.
    let beside = [
        ("learn", row.learn.is_null(), "tokens"),
        ("prompt", row.prompt.is_null(), "completion"),
        ("tools", row.tools.is_null(), "messages"),
    ];
    given.extend(beside.iter().filter(|b| !b.1 && b.2 != form).map(|b| b.0));
    if form.is_empty() || given.len() > 1 {
        let e = Error::usage("a row has one form");
        let e = e.expected("one of tokens (and learn), text, completion (and prompt), messages (and tools), and line");
        return Err(e
            .found(if given.is_empty() {
                "none".into()
            } else {
                given.join(", ")
            })
            .into());
    }
    // SAFETY: as the caller promises.
    let said = unsafe {
        match form {
            "tokens" => {
                let tokens = input::slice(row.tokens, row.n_tokens, "tokens")?.to_vec();
                let learn = match row.learn.is_null() {
                    true => vec![true; tokens.len()],
                    false => input::slice(row.learn, row.n_tokens, "learn")?
                        .iter()
                        .map(|l| *l != 0)
                        .collect(),
                };
                return Ok(Example::new(tokens, learn)?.cut(seq)?);
            }
            "text" => Row::Text(input::text(row.text, row.text_len, "text")?.to_owned()),
            "completion" => Row::Completion {
                prompt: input::maybe_text(row.prompt, row.prompt_len, "prompt")?
                    .unwrap_or_default()
                    .to_owned(),
                completion: input::text(row.completion, row.completion_len, "completion")?.to_owned(),
            },
            "messages" => {
                let tools = input::maybe_text(row.tools, row.tools_len, "tools")?;
                Row::Messages {
                    messages: chat::messages(row.messages, row.n_messages)?,
                    tools: tools.map(|text| chat::json(text, "tools", "a list")).transpose()?,
                }
            }
            _ => Row::parse(input::text(row.line, row.line_len, "line")?.as_bytes())?,
        }
    };
    Ok(said.example(model, seq)?)
}

/// The example of the row with this number, which may be learnt.
unsafe fn numbered(row: &graft_row, number: usize, of: &Training) -> Outcome<(Example, bool)> {
    // SAFETY: as the caller promises.
    let made = unsafe { example(row, of) }.and_then(|made| {
        of.trainer.learner().check(&made.0)?;
        Ok(made)
    });
    made.map_err(|Fault(status, e)| {
        let e = Error::new(e.kind(), e.to_string());
        Fault(status, e.item(format!("rows[{number}]")))
    })
}

/// The examples of rows, in their order; and how many of them were cut.
pub(super) unsafe fn examples(rows: *const graft_row, n_rows: usize, of: &Training) -> Outcome<(Vec<Example>, u64)> {
    // SAFETY: as the caller promises.
    let rows = unsafe { input::slice(rows, n_rows, "rows") }?;
    let (mut all, mut n_cut) = (Vec::new(), 0);
    for (number, row) in rows.iter().enumerate() {
        // SAFETY: as the caller promises.
        let (example, cut) = unsafe { numbered(row, number, of) }?;
        all.push(example);
        n_cut += u64::from(cut);
    }
    Ok((all, n_cut))
}

impl Training {
    fn add(&mut self, examples: Vec<Example>, cut: u64) {
        examples.into_iter().for_each(|example| self.rows.add(example));
        self.cut += cut;
    }
}

/// Adds rows to those that `graft_trainer_run` learns from, all of them or, where one cannot be learnt, none: the error names it. They are copied.
/// A run that was in the middle of the rows begins again with all of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_add(
    trainer: *mut graft_trainer,
    rows: *const graft_row,
    n_rows: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let mut training = handle::exclusive(trainer)?;
            let (examples, cut) = examples(rows, n_rows, &training)?;
            training.add(examples, cut);
            Ok(())
        })
    }
}

/// Sets a row, all of whose fields are 0, and returns 1; 0 where there are no more; anything else ends the call: `GRAFT_ERROR_CANCELLED`. What the row
/// points to stays until the next call of the callback, or the end of that which calls it.
pub type graft_row_callback = Option<unsafe extern "C" fn(row: *mut graft_row, user_data: *mut c_void) -> i32>;

/// As `graft_trainer_add`, of rows that `callback` gives one at a time, until it has no more. `n_rows`, which may be NULL, is how many these were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_pull(
    trainer: *mut graft_trainer,
    callback: graft_row_callback,
    user_data: *mut c_void,
    n_rows: *mut u64,
    error: *mut *mut graft_error,
) -> graft_status {
    const NONE: graft_row = graft_row {
        tokens: null(),
        n_tokens: 0,
        learn: null(),
        text: null(),
        text_len: 0,
        prompt: null(),
        prompt_len: 0,
        completion: null(),
        completion_len: 0,
        messages: null(),
        n_messages: 0,
        tools: null(),
        tools_len: 0,
        line: null(),
        line_len: 0,
    };
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let n_rows = input::maybe_out(n_rows, "n_rows")?;
            let Some(callback) = callback else {
                return Err(Error::usage("a callback is missing").item("callback").into());
            };
            let mut training = handle::exclusive(trainer)?;
            let (mut all, mut n_cut) = (Vec::new(), 0);
            loop {
                let mut row = NONE;
                let more = callback(&raw mut row, user_data);
                if more != 0 && more != 1 || training.cancel.as_ref().is_some_and(Cancel::is_set) {
                    return Err(Error::new(ErrorKind::Cancelled, "cancelled").into());
                }
                if more == 0 {
                    break;
                }
                let (example, cut) = numbered(&row, all.len(), &training)?;
                all.push(example);
                n_cut += u64::from(cut);
            }
            let n = all.len() as u64;
            training.add(all, n_cut);
            if let Some(to) = n_rows {
                to.put(n);
            }
            Ok(())
        })
    }
}

/// Takes all rows out: the next run begins with those that are added then. What was learnt stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_clear(
    trainer: *mut graft_trainer,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let mut training = handle::exclusive(trainer)?;
            training.rows.clear();
            training.cut = 0;
            Ok(())
        })
    }
}
