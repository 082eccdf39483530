//! Batches: many prompts, one after the other, each a line of JSON, to records, each a line of JSON; a file of them goes on where it was
//! stopped.
//!
//! A line is an object with exactly one of "prompt" (text as it is), "messages" ([{"role", "content"}], through the chat template) and
//! "tokens", and optionally: id, adapter (a name, a list of them, or null for none), max_tokens, temperature, top_k, top_p, min_p,
//! repeat_penalty, repeat_last_n, frequency_penalty, presence_penalty, seed, stop, logit_bias ({"42": -1}), ignore_eos. Another field is an
//! error. What a line leaves out is as the batch's options say.
//!
//! Its record is {"id", "text", "tokens", "finish_reason", "prompt_tokens"}, or {"id", "error"}: what is wrong with a line is no failure of the
//! call. A missing id is the line's number. A record depends on its line and number alone, not on the lines before.

use std::ffi::{c_char, c_void};
use std::ptr::null;

use super::adapter::{adapter_options, graft_adapter, graft_adapter_options};
use super::error::graft_error;
use super::generate::{generate_options, graft_generate_options};
use super::handle::{self, Handle};
use super::input::{self, Extensible, maybe_facts, maybe_out, out};
use super::memory::give_text;
use super::model::{Progress, graft_model, graft_progress_callback};
use super::sampling::{graft_sampler_options, sampler_options};
use super::session::{graft_session_options, session_options};
use super::status::graft_status;
use super::{Outcome, call, quiet};
use crate::error::Error;
use crate::runtime::{Batch, BatchOptions};

/// A model that answers lines. One thread at a time. It keeps what it needs of its model and adapters: they may be freed before it.
pub struct graft_batch {
    _opaque: (),
}

impl Handle for graft_batch {
    type Shared = ();
    type Own = Batch;
    const KIND: u8 = 9;
    const NAME: &'static str = "graft_batch";
}

/// What lines are answered with that do not say it themselves. All of it is read, and copied, when the batch is made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_batch_options {
    /// `sizeof(graft_batch_options)`.
    pub struct_size: usize,
    /// How to choose tokens, or NULL for the defaults. To the seed the line's number is added.
    pub sampler: *const graft_sampler_options,
    /// When to end, or NULL for the defaults; its `sampler` is NULL. Its `cancel` ends calls, now and later, until it is cleared.
    pub generate: *const graft_generate_options,
    /// How to compute, or NULL for the defaults. Where `context` is 0 there is as much room as each line needs, up to the model's own context
    /// length.
    pub session: *const graft_session_options,
    /// How to open the folders that lines name, or NULL for the defaults.
    pub adapter: *const graft_adapter_options,
    /// Not 0: a line may name an adapter's folder ("DIR" or "DIR@WEIGHT"), which is then opened, and kept for later lines. 0, the default, is for
    /// lines that somebody else wrote: they have the adapters of `graft_batch_adapter` alone, and name no files.
    pub folders: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_batch_options {
    const NAME: &'static str = "graft_batch_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_batch_options {
            struct_size: size_of::<Self>(),
            sampler: null(),
            generate: null(),
            session: null(),
            adapter: null(),
            folders: 0,
            reserved: 0,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_batch_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_batch_options_init(options: *mut graft_batch_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

unsafe fn batch_options(options: *const graft_batch_options) -> Outcome<BatchOptions> {
    // SAFETY: as the caller promises.
    unsafe {
        let o = input::options(options)?;
        let generate = input::options(o.generate)?;
        if !generate.sampler.is_null() {
            let e = Error::usage("a sampler for one generation").item("generate.sampler");
            return Err(e
                .expected("NULL: each line has a sampler of its own")
                .found("a sampler")
                .into());
        }
        Ok(BatchOptions {
            sampling: sampler_options(o.sampler)?,
            generate: generate_options(&generate)?,
            session: session_options(o.session)?,
            adapter: adapter_options(o.adapter)?,
            folders: o.folders != 0,
        })
    }
}

/// A batch of a model's answers. `GRAFT_ERROR_USAGE` for options that no line could be answered with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_batch_new(
    model: *const graft_model,
    options: *const graft_batch_options,
    batch: *mut *mut graft_batch,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let batch = out(batch, "batch")?;
            let options = batch_options(options)?;
            let made = Batch::new(&handle::shared(model)?.model, options)?;
            batch.put(handle::create((), made));
            Ok(())
        })
    }
}

/// Frees a batch. NULL is allowed. While a call on it is under way, here from its callback or in another thread: when that call, which goes
/// on, returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_batch_free(batch: *mut graft_batch) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(batch) });
}

/// From now on lines may have this adapter by its name: "NAME", or "NAME@WEIGHT" with a weight of their own. It takes the place of another one of
/// that name. `name` NULL: it is on for lines that have no "adapter", with the others that were added so. `GRAFT_ERROR_MISMATCH` for an adapter of
/// another model, `GRAFT_ERROR_USAGE` for an empty name or a weight that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_batch_adapter(
    batch: *mut graft_batch,
    name: *const c_char,
    name_len: usize,
    adapter: *const graft_adapter,
    weight: f32,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let name = input::maybe_text(name, name_len, "name")?;
            let mut batch = handle::exclusive(batch)?;
            let adapter = handle::shared(adapter)?.adapter.clone();
            match name {
                Some(name) => batch.add_adapter(name, adapter, weight)?,
                None => batch.add_default_adapter(adapter, weight)?,
            }
            Ok(())
        })
    }
}

/// The record of one line. `number` is the line's id where it has none, and is added to the seed. `*record` has no line break, is NUL-terminated,
/// and to be freed with `graft_free`; `record_len` may be NULL. `GRAFT_ERROR_CANCELLED` where the options' `cancel` is set before the answer is
/// whole.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_batch_line(
    batch: *mut graft_batch,
    line: *const c_char,
    line_len: usize,
    number: u64,
    record: *mut *mut c_char,
    record_len: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (record, record_len) = (out(record, "record")?, maybe_out(record_len, "record_len")?);
            let line = input::text(line, line_len, "line")?;
            let made = handle::exclusive(batch)?.answer(line, number)?;
            give_text(made, record, record_len)
        })
    }
}

/// What a run did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_batch_report {
    /// `sizeof(graft_batch_report)`, set by the caller.
    pub struct_size: usize,
    /// Lines that had a record already.
    pub before: u64,
    /// Lines that it wrote a record for.
    pub answered: u64,
    /// How many of these records say what is wrong with their line.
    pub failed: u64,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_batch_report {
    const NAME: &'static str = "graft_batch_report";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_batch_report {
            struct_size: size_of::<Self>(),
            before: 0,
            answered: 0,
            failed: 0,
        }
    }
}

/// Answers the lines of the file `input`, numbered from 1 (blank ones count, and have no record), and appends their records, in order, to the file
/// `output`, which is made where there is none. Lines that have a record there already are passed over, and a record that was not written to its
/// end is cut off: after a stop, of whatever kind, the same call goes on. `GRAFT_ERROR_MISMATCH` where `output` holds something else: it is then left
/// as it was. `callback` is told after each line how much of the input is read, and may be NULL, as `report`. `GRAFT_ERROR_CANCELLED` where it or
/// the options' `cancel` ends the work: between two lines, or within one, of which nothing is then written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_batch_run(
    batch: *mut graft_batch,
    input: *const c_char,
    input_len: usize,
    output: *const c_char,
    output_len: usize,
    callback: graft_progress_callback,
    user_data: *mut c_void,
    report: *mut graft_batch_report,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let report = maybe_facts(report)?;
            let from = input::path(input, input_len, "input")?;
            let to = input::path(output, output_len, "output")?;
            let told = Progress::new(callback, user_data, None);
            let mut batch = handle::exclusive(batch)?;
            let done = batch.run(from, to, &mut |share| told.tell(share))?;
            if let Some(report) = report {
                report.put(graft_batch_report {
                    before: done.before,
                    answered: done.answered,
                    failed: done.failed,
                    ..Extensible::defaults()
                });
            }
            Ok(())
        })
    }
}
