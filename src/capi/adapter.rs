//! Adapters: what PEFT's `save_pretrained` wrote, put on a model. Any thread.

use std::ffi::{CString, c_char, c_void};
use std::ptr::null;

use super::error::{c_text, graft_error};
use super::facts::u32_of;
use super::handle::{self, Handle};
use super::input::{self, Extensible, Out, facts, out};
use super::model::graft_model;
use super::status::graft_status;
use super::{Outcome, call, log, quiet};
use crate::Adapter;
use crate::adapter::{AdapterFile, AdapterOptions};

/// An adapter on a model. Sessions keep what they need of it: it may be freed while they use it.
pub struct graft_adapter {
    _opaque: (),
}

/// An adapter and its texts, as C reads them.
pub(super) struct Attached {
    pub adapter: Adapter,
    method: CString,
}

impl Handle for graft_adapter {
    type Shared = Attached;
    type Own = ();
    const KIND: u8 = 5;
    const NAME: &'static str = "graft_adapter";
}

/// How to open an adapter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_adapter_options {
    /// `sizeof(graft_adapter_options)`.
    pub struct_size: usize,
    /// Which task's prompt to take from a folder that holds several (multitask prompt tuning); -1, the default, where there is one.
    pub task_id: i64,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_adapter_options {
    const NAME: &'static str = "graft_adapter_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_adapter_options {
            struct_size: size_of::<Self>(),
            task_id: -1,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_adapter_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_adapter_options_init(options: *mut graft_adapter_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

pub(super) unsafe fn adapter_options(options: *const graft_adapter_options) -> Outcome<AdapterOptions> {
    // SAFETY: as the caller promises.
    let options = unsafe { input::options(options) }?;
    let task_id = match options.task_id {
        -1 => None,
        id => Some(usize::try_from(id).map_err(|_| {
            let e = crate::Error::usage("no such task").item("task_id");
            e.expected("0 or more, or -1").found(id)
        })?),
    };
    Ok(AdapterOptions { task_id })
}

/// A handle of an adapter that came from `from`.
pub(super) fn give(adapter: Adapter, from: &dyn std::fmt::Display, to: Out<*mut graft_adapter>) {
    if log::reads(log::GRAFT_LOG_INFO) {
        let (method, sites) = (adapter.method(), adapter.sites());
        let bytes = adapter.bytes();
        let line = format!("put on {from}: {method}, {sites} modules, {bytes} bytes");
        log::write(log::GRAFT_LOG_INFO, &line);
    }
    let method = c_text(adapter.method());
    to.put(handle::create(Attached { adapter, method }, ()));
}

/// Opens the folder that PEFT's `save_pretrained` wrote (or a GGUF file of a LoRA) and puts it on `model`. Every tensor of it is applied,
/// or the call fails: `GRAFT_ERROR_UNSUPPORTED` for a method or option that Graft does not do, `GRAFT_ERROR_MISMATCH` for a module or shape
/// that the model does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_adapter_open(
    model: *const graft_model,
    path: *const c_char,
    path_len: usize,
    options: *const graft_adapter_options,
    adapter: *mut *mut graft_adapter,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let adapter = out(adapter, "adapter")?;
            let path = input::path(path, path_len, "path")?;
            let options = adapter_options(options)?;
            let loaded = handle::shared(model)?;
            give(
                loaded.model.load_adapter_with(&path, &options)?,
                &path.display(),
                adapter,
            );
            Ok(())
        })
    }
}

/// As `graft_adapter_open`, of files that lie in memory: the folder's `adapter_config.json` and `adapter_model.safetensors`. They are
/// copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_adapter_open_memory(
    model: *const graft_model,
    config: *const c_void,
    config_len: usize,
    tensors: *const c_void,
    tensors_len: usize,
    options: *const graft_adapter_options,
    adapter: *mut *mut graft_adapter,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let adapter = out(adapter, "adapter")?;
            let config = input::slice(config.cast::<u8>(), config_len, "config")?;
            let tensors = input::slice(tensors.cast::<u8>(), tensors_len, "tensors")?;
            let options = adapter_options(options)?;
            let loaded = handle::shared(model)?;
            let file = AdapterFile::from_bytes(config.to_vec(), tensors.to_vec(), &options)?;
            give(loaded.model.attach(&file)?, &"an adapter in memory", adapter);
            Ok(())
        })
    }
}

/// Frees an adapter; sessions that have it on go on with it. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_adapter_free(adapter: *mut graft_adapter) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(adapter) });
}

/// Facts about an adapter. Texts are valid until it is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_adapter_info {
    /// `sizeof(graft_adapter_info)`, set by the caller.
    pub struct_size: usize,
    /// Its `peft_type`, such as "LORA".
    pub method: *const c_char,
    /// Modules that it changes.
    pub sites: u64,
    /// Trained numbers.
    pub parameters: u64,
    /// Bytes of memory that it takes.
    pub bytes: u64,
    /// The smallest and the largest rank of its low-rank updates; 0 where there are none.
    pub min_rank: u32,
    /// See `min_rank`.
    pub max_rank: u32,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_adapter_info {
    const NAME: &'static str = "graft_adapter_info";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_adapter_info {
            struct_size: size_of::<Self>(),
            method: null(),
            sites: 0,
            parameters: 0,
            bytes: 0,
            min_rank: 0,
            max_rank: 0,
        }
    }
}

/// Writes the facts about an adapter to `*info`, whose `struct_size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_adapter_get_info(
    adapter: *const graft_adapter,
    info: *mut graft_adapter_info,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let info = facts(info)?;
            let attached = handle::shared(adapter)?;
            let a = &attached.adapter;
            let rank = |rank: Option<&usize>| rank.map_or(0, |r| u32_of(*r));
            info.put(graft_adapter_info {
                method: attached.method.as_ptr(),
                sites: a.sites() as u64,
                parameters: a.parameters() as u64,
                bytes: a.bytes() as u64,
                min_rank: rank(a.ranks().first()),
                max_rank: rank(a.ranks().last()),
                ..Extensible::defaults()
            });
            Ok(())
        })
    }
}

/// Adapters with their weights; `weights` NULL for 1 each.
pub(super) unsafe fn weighted(
    adapters: *const *const graft_adapter,
    weights: *const f32,
    n: usize,
) -> Outcome<Vec<(Adapter, f32)>> {
    // SAFETY: as the caller promises.
    unsafe {
        let adapters = input::slice(adapters, n, "adapters")?;
        let with = |(a, weight): (&*const graft_adapter, f32)| Ok((handle::shared(*a)?.adapter.clone(), weight));
        adapters.iter().zip(input::weights(weights, n)?).map(with).collect()
    }
}
