//! What a trainer does: steps, measurements, and the adapter as it is then.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;

use super::adapter::{self, graft_adapter};
use super::call;
use super::error::graft_error;
use super::handle;
use super::input::{self, Extensible, facts, maybe_facts, out};
use super::status::graft_status;
use super::trainer::{examples, graft_row, graft_trainer};
use crate::train::StepReport;

/// What a step did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_train_report {
    /// `sizeof(graft_train_report)`, set by the caller.
    pub struct_size: usize,
    /// Which step of the training, from 1.
    pub step: u64,
    /// The mean loss of a learnt token, before the step changed anything (in nats).
    pub loss: f64,
    /// Tokens that were learnt.
    pub targets: u64,
    /// All tokens.
    pub tokens: u64,
    /// Norm of the gradients, before it was cut.
    pub grad_norm: f64,
    /// What it took.
    pub seconds: f64,
    /// The learning rate.
    pub lr: f32,
    /// Not 0: loss or gradients were not finite, and nothing was changed.
    pub skipped: i32,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_train_report {
    const NAME: &'static str = "graft_train_report";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        report_of(&StepReport::default())
    }
}

fn report_of(report: &StepReport) -> graft_train_report {
    graft_train_report {
        struct_size: size_of::<graft_train_report>(),
        step: report.step as u64,
        loss: report.loss,
        targets: report.targets as u64,
        tokens: report.tokens as u64,
        grad_norm: report.grad_norm,
        seconds: report.seconds,
        lr: report.lr,
        skipped: report.skipped.into(),
    }
}

/// One step over these rows, which need not be added. `report` may be NULL. `GRAFT_ERROR_LIMIT` behind the last step of a schedule, and after ten
/// steps in a row whose loss was not finite; `GRAFT_ERROR_CANCELLED` where the options' `cancel` ends it: then nothing is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_step(
    trainer: *mut graft_trainer,
    rows: *const graft_row,
    n_rows: usize,
    report: *mut graft_train_report,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let report = maybe_facts(report)?;
            let mut training = handle::exclusive(trainer)?;
            let (examples, _) = examples(rows, n_rows, &training)?;
            let done = training.trainer.step(&examples)?;
            if let Some(report) = report {
                report.put(report_of(&done));
            }
            Ok(())
        })
    }
}

/// Is told what a step did. Not 0 ends the run behind it: the call fails with `GRAFT_ERROR_CANCELLED`, and what was learnt stays. The trainer is busy
/// meanwhile.
pub type graft_train_callback =
    Option<unsafe extern "C" fn(report: *const graft_train_report, user_data: *mut c_void) -> i32>;

/// `steps` steps over the rows that were added, `batch` of them in each, all of them in every epoch; 0: the steps that are left of those in the
/// options. It goes on where the last run ended. `callback` is told of every step, `report` of the last one; both may be NULL.
/// `GRAFT_ERROR_LIMIT` where the schedule has fewer steps left, `GRAFT_ERROR_USAGE` where no rows were added, `GRAFT_ERROR_MISMATCH` where these
/// are not those of the checkpoint, `GRAFT_ERROR_CANCELLED` where `callback` or the options' `cancel` ends it: steps that were done stay, and the next
/// run goes on behind them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_run(
    trainer: *mut graft_trainer,
    steps: u64,
    callback: graft_train_callback,
    user_data: *mut c_void,
    report: *mut graft_train_report,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let report = maybe_facts(report)?;
            let mut training = handle::exclusive(trainer)?;
            let training = &mut *training;
            let done = training.trainer.steps_done();
            let steps = match input::size(steps, "steps")? {
                0 => training.trainer.options().steps.saturating_sub(done),
                n => n,
            };
            let mut last = StepReport {
                step: done,
                ..Default::default()
            };
            training.trainer.run(&mut training.rows, steps, &mut |step| {
                last = *step;
                let Some(callback) = callback else {
                    return ControlFlow::Continue(());
                };
                let report = report_of(step);
                match callback(&raw const report, user_data) {
                    0 => ControlFlow::Continue(()),
                    _ => ControlFlow::Break(()),
                }
            })?;
            if let Some(report) = report {
                report.put(report_of(&last));
            }
            Ok(())
        })
    }
}

/// The mean loss of a learnt token of these rows, as the adapter is now; of those that were added where `n_rows` is 0. Nothing is learnt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_evaluate(
    trainer: *mut graft_trainer,
    rows: *const graft_row,
    n_rows: usize,
    loss: *mut f64,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let loss = out(loss, "loss")?;
            let mut training = handle::exclusive(trainer)?;
            let (given, _) = examples(rows, n_rows, &training)?;
            let training = &mut *training;
            let rows = if n_rows == 0 { training.rows.all() } else { &given };
            loss.put(training.trainer.evaluate(rows)?);
            Ok(())
        })
    }
}

/// The adapter as it is now, for sessions of the same model; later steps do not change it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_adapter(
    trainer: *mut graft_trainer,
    adapter: *mut *mut graft_adapter,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let adapter = out(adapter, "adapter")?;
            let made = handle::exclusive(trainer)?.trainer.adapter()?;
            adapter::give(made, &"an adapter that is being trained", adapter);
            Ok(())
        })
    }
}

/// Writes the adapter as it is now to a folder, which PEFT's `from_pretrained`, `graft_adapter_open` and `graft_trainer_open` load; an adapter that is
/// there already is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_save(
    trainer: *mut graft_trainer,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let path = input::path(path, path_len, "path")?;
            Ok(handle::exclusive(trainer)?.trainer.save(&path)?)
        })
    }
}

/// Writes all that `graft_trainer_resume` needs to a file, whole or not at all: the adapter, what the optimizer keeps, the step, and which row is next;
/// not the rows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_checkpoint(
    trainer: *mut graft_trainer,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let path = input::path(path, path_len, "path")?;
            let training = handle::exclusive(trainer)?;
            Ok(training.trainer.save_checkpoint(&path, &training.rows.place())?)
        })
    }
}

/// Facts about a trainer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_trainer_info {
    /// `sizeof(graft_trainer_info)`, set by the caller.
    pub struct_size: usize,
    /// Steps that were done.
    pub steps: u64,
    /// Steps until the schedule ends; -1 where it has no end.
    pub steps_left: i64,
    /// Steps whose loss or gradients were not finite.
    pub steps_skipped: u64,
    /// Rows that were added.
    pub rows: u64,
    /// How many of them were cut because they are too long.
    pub rows_cut: u64,
    /// How often a run was through all of them.
    pub epochs: u64,
    /// Numbers that are trained.
    pub parameters: u64,
    /// The most tokens of a row: `seq`, or less where the adapter has positions of its own in the model's context.
    pub seq: u64,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_trainer_info {
    const NAME: &'static str = "graft_trainer_info";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_trainer_info {
            struct_size: size_of::<Self>(),
            steps: 0,
            steps_left: 0,
            steps_skipped: 0,
            rows: 0,
            rows_cut: 0,
            epochs: 0,
            parameters: 0,
            seq: 0,
        }
    }
}

/// Writes the facts about a trainer to `*info`, whose `struct_size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_trainer_get_info(
    trainer: *mut graft_trainer,
    info: *mut graft_trainer_info,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let info = facts(info)?;
            let training = handle::exclusive(trainer)?;
            let (trainer, rows) = (&training.trainer, &training.rows);
            let tensors = trainer.learner().parameters().all().iter();
            info.put(graft_trainer_info {
                steps: trainer.steps_done() as u64,
                steps_left: trainer
                    .steps_left()
                    .map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)),
                steps_skipped: trainer.steps_skipped() as u64,
                rows: rows.all().len() as u64,
                rows_cut: training.cut,
                epochs: rows.epoch(),
                parameters: tensors.map(|p| p.values.len() as u64).sum(),
                seq: trainer.learner().longest() as u64,
                ..Extensible::defaults()
            });
            Ok(())
        })
    }
}
