//! Models: a file, mapped and shared. Any thread may use a model, several at a time.

use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{c_text, graft_error};
use super::handle::{self, Handle};
use super::input::{self, Extensible, Out, out};
use super::status::graft_status;
use super::team::{graft_release_callback, graft_team};
use super::{Outcome, call, log, quiet};
use crate::error::{Error, ErrorKind};
use crate::format::LoadMode;
use crate::runtime::Cancel;
use crate::{DeviceChoice, LoadOptions, Model};

/// A loaded model. Sessions and adapters keep what they need of it: it may be freed before them.
pub struct graft_model {
    _opaque: (),
}

/// A model and its texts, as C reads them.
pub(super) struct Loaded {
    pub model: Model,
    pub architecture: CString,
    pub name: Option<CString>,
    pub isa: CString,
    pub device: Option<CString>,
    pub keys: Vec<CString>,
    pub tensors: Vec<(CString, CString)>,
}

impl Handle for graft_model {
    type Shared = Loaded;
    type Own = ();
    const KIND: u8 = 4;
    const NAME: &'static str = "graft_model";
}

/// Is told the share of the work that is done, 0 to 1. Not 0 ends the work, at once or, where a step cannot be ended, behind it: the call
/// then fails with `GRAFT_ERROR_CANCELLED`. It is called by the thread that made the call.
pub type graft_progress_callback = Option<unsafe extern "C" fn(share: f32, user_data: *mut c_void) -> i32>;

/// How the bytes of a file come into memory.
pub type graft_load_mode = i32;
/// Mapped: nothing is copied, processes share the pages. The file must not be changed or shortened while it is in use.
pub const GRAFT_LOAD_MAP: graft_load_mode = 0;
/// Read: safe against a file that changes.
pub const GRAFT_LOAD_READ: graft_load_mode = 1;

/// What runs a model.
pub type graft_device = i32;
/// An NVIDIA GPU where there is one that this library can use, else the CPU: `graft_model_info` says which, and why.
pub const GRAFT_DEVICE_AUTO: graft_device = 0;
/// The CPU.
pub const GRAFT_DEVICE_CPU: graft_device = 1;
/// An NVIDIA GPU: `GRAFT_ERROR_UNSUPPORTED` where there is none, or where the library was built without (`scripts/install --features cuda`).
pub const GRAFT_DEVICE_CUDA: graft_device = 2;

/// How to open a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_model_options {
    /// `sizeof(graft_model_options)`.
    pub struct_size: usize,
    /// Threads of the model's own team, the calling one included; 0 for one a physical core. Not looked at where there is a team.
    pub threads: u32,
    /// `GRAFT_LOAD_MAP` or `GRAFT_LOAD_READ`.
    pub load_mode: graft_load_mode,
    /// Threads to use instead of an own team, or NULL.
    pub team: *const graft_team,
    /// The path of a `tokenizer.json` to use instead of the tokenizer in the model, read when the model is opened; or NULL.
    pub tokenizer: *const c_char,
    /// Its length.
    pub tokenizer_len: usize,
    /// Called while loading, or NULL.
    pub progress: graft_progress_callback,
    /// Handed to `progress`.
    pub progress_user_data: *mut c_void,
    /// `GRAFT_DEVICE_AUTO`, `GRAFT_DEVICE_CPU` or `GRAFT_DEVICE_CUDA`.
    pub device: graft_device,
    /// With `GRAFT_DEVICE_CUDA`: which GPU; -1, the default, for that which has most memory free. Else not looked at.
    pub device_index: i32,
    /// Layers on the GPU: the last ones, and with them the head; more than there are: all; 0: none, all is on the CPU; -1, the default: as many
    /// as fit into its free memory.
    pub gpu_layers: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_model_options {
    const NAME: &'static str = "graft_model_options";
    const FIRST: usize = std::mem::offset_of!(Self, device);

    fn defaults() -> Self {
        graft_model_options {
            struct_size: size_of::<Self>(),
            threads: 0,
            load_mode: GRAFT_LOAD_MAP,
            team: std::ptr::null(),
            tokenizer: std::ptr::null(),
            tokenizer_len: 0,
            progress: None,
            progress_user_data: std::ptr::null_mut(),
            device: GRAFT_DEVICE_AUTO,
            device_index: -1,
            gpu_layers: -1,
            reserved: 0,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_model_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_options_init(options: *mut graft_model_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

/// A callback as closures want it.
pub(super) struct Progress {
    callback: graft_progress_callback,
    user_data: *mut c_void,
    cancel: Option<Cancel>,
    stopped: AtomicBool,
}

impl Progress {
    pub fn new(callback: graft_progress_callback, user_data: *mut c_void, cancel: Option<Cancel>) -> Self {
        let stopped = AtomicBool::new(false);
        Progress {
            callback,
            user_data,
            cancel,
            stopped,
        }
    }

    /// Tells it; whether to go on. Once told to stop it is not called again.
    pub fn tell(&self, share: f32) -> bool {
        if let (Some(callback), false) = (self.callback, self.stopped.load(Ordering::Relaxed)) {
            // SAFETY: the caller of the function promises that it may be called so, in this thread.
            let stop = unsafe { callback(share, self.user_data) } != 0;
            self.stopped.store(stop, Ordering::Relaxed);
        }
        !self.stopped.load(Ordering::Relaxed) && !self.cancel.as_ref().is_some_and(Cancel::is_set)
    }

    /// An error, if it was told to stop.
    pub fn check(&self) -> Outcome<()> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Cancelled, "cancelled").into()),
            false => Ok(()),
        }
    }
}

/// A number of 0 or more; -1 is none.
fn maybe(value: i32, item: &str) -> Outcome<Option<usize>> {
    match value {
        -1 => Ok(None),
        _ => usize::try_from(value).map(Some).map_err(|_| {
            let e = Error::usage("below 0").item(item);
            e.expected("0 or more, or -1").found(value).into()
        }),
    }
}

/// What is to run a model.
fn device_of(o: &graft_model_options) -> Outcome<DeviceChoice> {
    let devices = [
        (GRAFT_DEVICE_AUTO, DeviceChoice::Auto),
        (GRAFT_DEVICE_CPU, DeviceChoice::Cpu),
        (GRAFT_DEVICE_CUDA, DeviceChoice::Cuda(None)),
    ];
    Ok(match input::one_of(o.device, "device", &devices)? {
        DeviceChoice::Cuda(_) => DeviceChoice::Cuda(maybe(o.device_index, "device_index")?),
        device => device,
    })
}

/// Opens a model by `open` and gives it out.
unsafe fn load(
    options: *const graft_model_options,
    model: Out<*mut graft_model>,
    open: impl FnOnce(&LoadOptions) -> crate::Result<Model>,
) -> Outcome<()> {
    // SAFETY: as the caller promises.
    let (o, tokenizer, executor) = unsafe {
        let o = input::options(options)?;
        let tokenizer = match o.tokenizer.is_null() {
            true => None,
            false => Some(input::path(o.tokenizer, o.tokenizer_len, "tokenizer")?),
        };
        let executor = match o.team.is_null() {
            true => None,
            false => Some(handle::shared(o.team)?.clone()),
        };
        (o, tokenizer, executor)
    };
    let modes = [(GRAFT_LOAD_MAP, LoadMode::Map), (GRAFT_LOAD_READ, LoadMode::Read)];
    let progress = std::rc::Rc::new(Progress::new(o.progress, o.progress_user_data, None));
    let told = progress.clone();
    let options = LoadOptions {
        mode: input::one_of(o.load_mode, "load_mode", &modes)?,
        threads: (o.threads > 0).then_some(o.threads as usize),
        executor,
        device: device_of(&o)?,
        gpu_layers: maybe(o.gpu_layers, "gpu_layers")?,
        training: None,
        tokenizer,
        progress: Some(Box::new(move |share| {
            told.tell(share);
        })),
    };
    let loaded = open(&options)?;
    progress.check()?;
    if options.tokenizer.is_some() {
        loaded.tokenizer()?; // Who names a file hears of its faults here, not at the first text.
    }
    if log::reads(log::GRAFT_LOG_INFO) {
        let (s, b) = (loaded.spec(), loaded.cpu());
        log::write(
            log::GRAFT_LOG_INFO,
            &format!(
                "opened {}: {}, {} layers of {}; {}, {} threads{}{}",
                loaded.gguf().path().display(),
                s.arch,
                s.n_layers,
                s.hidden_size,
                b.isa(),
                b.threads(),
                loaded.device().map_or("", |_| "; "),
                loaded.device().unwrap_or_default()
            ),
        );
    }
    model.put(give(loaded));
    Ok(())
}

/// A handle of a model.
pub(super) fn give(model: Model) -> *mut graft_model {
    let gguf = model.gguf();
    let name = gguf.metadata().str("general.name").ok().flatten().map(c_text);
    let loaded = Loaded {
        architecture: c_text(model.spec().arch),
        name,
        isa: c_text(model.cpu().isa()),
        device: model.device().map(c_text),
        keys: gguf.metadata().iter().map(|(key, _)| c_text(key)).collect(),
        tensors: gguf
            .tensors()
            .iter()
            .map(|t| (c_text(&t.name), c_text(t.format.name())))
            .collect(),
        model,
    };
    handle::create(loaded, ())
}

/// Opens the GGUF file at a path (any part of a split one).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_open(
    path: *const c_char,
    path_len: usize,
    options: *const graft_model_options,
    model: *mut *mut graft_model,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let model = out(model, "model")?;
            let path = input::path(path, path_len, "path")?;
            load(options, model, |options| Model::open_with(path, options))
        })
    }
}

/// Opens the GGUF file that is the `len` bytes of an opened file from `offset` on (`len` 0: all up to its end): apps have models in their
/// bundles. `fd` stays the caller's, its position too, and may be closed when the call has returned. `GRAFT_ERROR_INVALID` for a range that does
/// not lie in the file, `GRAFT_ERROR_UNSUPPORTED` on Windows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_open_fd(
    fd: i32,
    offset: u64,
    len: u64,
    options: *const graft_model_options,
    model: *mut *mut graft_model,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let model = out(model, "model")?;
            let file = opened(fd)?;
            load(options, model, |options| {
                Model::open_file(file, offset, (len > 0).then_some(len), options)
            })
        })
    }
}

/// A file of our own on what `fd` is open on.
#[cfg(unix)]
unsafe fn opened(fd: i32) -> Outcome<std::fs::File> {
    let bad = |found: String| {
        Error::usage("not an open file")
            .item("fd")
            .expected("a file descriptor")
            .found(found)
    };
    if fd < 0 {
        return Err(bad(fd.to_string()).into());
    }
    // SAFETY: not -1; the caller promises that it stays open during the call, and where it is not open, cloning fails.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let own = borrowed.try_clone_to_owned().map_err(|e| bad(e.to_string()))?;
    Ok(own.into())
}

#[cfg(not(unix))]
unsafe fn opened(_: i32) -> Outcome<std::fs::File> {
    Err(Error::unsupported("file descriptors are of Unix only")
        .item("fd")
        .into())
}

/// The caller's memory, given back when it is dropped.
struct Lent {
    data: *const u8,
    len: usize,
    release: graft_release_callback,
    user_data: *mut c_void,
}

// SAFETY: read-only memory, and a callback that any thread may call, as the header asks.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: checked before it is handed on; the caller promises that the memory is there until it is released.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the caller promises that it may be called so, once, by any thread.
            unsafe { release(self.user_data) };
        }
    }
}

/// Opens the GGUF file that lies in memory, `len` bytes at `data`, which are not copied: they must stay and not change until `release` is
/// called (by any thread, once, also where this call fails), when the model and all that came of it are freed. `release` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_open_memory(
    data: *const c_void,
    len: usize,
    release: graft_release_callback,
    release_user_data: *mut c_void,
    options: *const graft_model_options,
    model: *mut *mut graft_model,
    error: *mut *mut graft_error,
) -> graft_status {
    let lent = Lent {
        data: data.cast(),
        len,
        release,
        user_data: release_user_data,
    };
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let model = out(model, "model")?;
            input::slice(lent.data, len.max(1), "data")?;
            load(options, model, |options| Model::open_memory(lent, options))
        })
    }
}

/// Frees a model. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_free(model: *mut graft_model) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(model) });
}
