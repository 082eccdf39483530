//! Facts about models: sizes, metadata, tensors. Any thread.

use std::ffi::{CStr, c_char};

use super::error::graft_error;
use super::handle;
use super::input::{self, Extensible, facts, maybe_out, out};
use super::memory::give_text;
use super::model::graft_model;
use super::session::{graft_session_options, session_options};
use super::status::graft_status;
use super::{Outcome, call};
use crate::error::Error;
use crate::format::{Gguf, LoadMode};
use crate::runtime::MemoryPlan;

/// Facts about a model. Texts are valid until it is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_model_info {
    /// `sizeof(graft_model_info)`, set by the caller.
    pub struct_size: usize,
    /// Such as "llama".
    pub architecture: *const c_char,
    /// What the file calls it, or NULL.
    pub name: *const c_char,
    /// The instruction set level that runs it, such as "avx2" or "neon-i8mm".
    pub isa: *const c_char,
    /// Numbers in the file.
    pub parameters: u64,
    /// Bytes of them.
    pub weight_bytes: u64,
    /// Entries of the vocabulary.
    pub vocab_size: u32,
    /// The most tokens that a session can hold.
    pub context_length: u32,
    /// Layers.
    pub n_layers: u32,
    /// Numbers in a hidden state.
    pub hidden_size: u32,
    /// Heads of attention.
    pub n_heads: u32,
    /// Heads of keys and values.
    pub n_kv_heads: u32,
    /// Numbers in a head.
    pub head_dim: u32,
    /// Width of the MLP.
    pub ffn_size: u32,
    /// Threads that work for it, the calling one included.
    pub threads: u32,
    /// Whether it has a chat template: 1 or 0.
    pub has_chat_template: i32,
    /// The token that begins a text, or -1.
    pub bos: i64,
    /// The token that ends a text, or -1.
    pub eos: i64,
    /// Where it runs, such as "24 of 24 layers on GPU 0, NVIDIA L4", or why `GRAFT_DEVICE_AUTO` took no GPU, such as "on the CPU: no NVIDIA driver
    /// on this machine"; NULL on the CPU alone, because it was asked for or the library knows no other.
    pub device: *const c_char,
    /// Layers on the GPU; 0: none, all is on the CPU.
    pub gpu_layers: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_model_info {
    const NAME: &'static str = "graft_model_info";
    const FIRST: usize = std::mem::offset_of!(Self, device);

    fn defaults() -> Self {
        graft_model_info {
            struct_size: size_of::<Self>(),
            architecture: std::ptr::null(),
            name: std::ptr::null(),
            isa: std::ptr::null(),
            parameters: 0,
            weight_bytes: 0,
            vocab_size: 0,
            context_length: 0,
            n_layers: 0,
            hidden_size: 0,
            n_heads: 0,
            n_kv_heads: 0,
            head_dim: 0,
            ffn_size: 0,
            threads: 0,
            has_chat_template: 0,
            bos: -1,
            eos: -1,
            device: std::ptr::null(),
            gpu_layers: 0,
            reserved: 0,
        }
    }
}

/// Numbers of the model are far below this; what is not is cut.
pub(super) fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Writes the facts about a model to `*info`, whose `struct_size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_get_info(
    model: *const graft_model,
    info: *mut graft_model_info,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let info = facts(info)?;
            let loaded = handle::shared(model)?;
            let (spec, gguf) = (loaded.model.spec(), loaded.model.gguf());
            let tokenizer = loaded.model.tokenizer().ok();
            let id = |id: Option<u32>| id.map_or(-1, i64::from);
            info.put(graft_model_info {
                architecture: loaded.architecture.as_ptr(),
                name: loaded.name.as_deref().map_or(std::ptr::null(), CStr::as_ptr),
                isa: loaded.isa.as_ptr(),
                parameters: gguf.tensors().iter().map(|t| t.elements() as u64).sum(),
                weight_bytes: gguf.tensors().iter().map(|t| t.range.len() as u64).sum(),
                vocab_size: u32_of(spec.vocab_size),
                context_length: u32_of(spec.context_length),
                n_layers: u32_of(spec.n_layers),
                hidden_size: u32_of(spec.hidden_size),
                n_heads: u32_of(spec.n_heads),
                n_kv_heads: u32_of(spec.n_kv_heads),
                head_dim: u32_of(spec.head_dim),
                ffn_size: u32_of(spec.ffn_size),
                threads: u32_of(loaded.model.cpu().threads()),
                has_chat_template: loaded.model.chat_template().is_ok_and(|t| t.is_some()).into(),
                bos: id(tokenizer.and_then(crate::tokenizer::Tokenizer::bos)),
                eos: id(tokenizer.and_then(crate::tokenizer::Tokenizer::eos)),
                device: loaded.device.as_deref().map_or(std::ptr::null(), CStr::as_ptr),
                gpu_layers: u32_of(loaded.model.gpu_layers()),
                ..Extensible::defaults()
            });
            Ok(())
        })
    }
}

/// `items[at]`, or an error that names `item`.
fn nth<'a, T>(items: &'a [T], at: usize, item: &str) -> Outcome<&'a T> {
    items.get(at).ok_or_else(|| {
        let e = Error::usage("there is no such one").item(item);
        e.expected(format_args!("below {}", items.len())).found(at).into()
    })
}

/// How many metadata keys the model's file has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_metadata_count(
    model: *const graft_model,
    count: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let count = out(count, "count")?;
            count.put(handle::shared(model)?.keys.len());
            Ok(())
        })
    }
}

/// The key number `index`, in the file's order. `*key` is valid until the model is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_metadata_key(
    model: *const graft_model,
    index: usize,
    key: *mut *const c_char,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let key = out(key, "key")?;
            let loaded = handle::shared(model)?;
            key.put(nth(&loaded.keys, index, "index")?.as_ptr());
            Ok(())
        })
    }
}

/// A key's value as JSON: a number, a text, `true`, a list. `*json` is NUL-terminated and to be freed with `graft_free`; `json_len` may be
/// NULL. `GRAFT_ERROR_USAGE` where there is no such key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_metadata(
    model: *const graft_model,
    key: *const c_char,
    key_len: usize,
    json: *mut *mut c_char,
    json_len: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (json, json_len) = (out(json, "json")?, maybe_out(json_len, "json_len")?);
            let key = input::text(key, key_len, "key")?;
            let loaded = handle::shared(model)?;
            let Some(value) = loaded.model.gguf().metadata().json(key)? else {
                return Err(Error::usage("the model has no such key").item(key).into());
            };
            give_text(value.to_string(), json, json_len)
        })
    }
}

/// A tensor of the file. Texts are valid until the model is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_tensor_info {
    /// `sizeof(graft_tensor_info)`, set by the caller.
    pub struct_size: usize,
    /// Its name in GGUF.
    pub name: *const c_char,
    /// Its block format, such as "Q4_K".
    pub format: *const c_char,
    /// Its dimensions, the fastest first; those that it has not are 1.
    pub dims: [u64; 4],
    /// Its bytes.
    pub bytes: u64,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_tensor_info {
    const NAME: &'static str = "graft_tensor_info";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_tensor_info {
            struct_size: size_of::<Self>(),
            name: std::ptr::null(),
            format: std::ptr::null(),
            dims: [1; 4],
            bytes: 0,
        }
    }
}

/// How many tensors the model's file has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_tensor_count(
    model: *const graft_model,
    count: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let count = out(count, "count")?;
            count.put(handle::shared(model)?.tensors.len());
            Ok(())
        })
    }
}

/// Writes the facts about the tensor number `index`, in the file's order, to `*info`, whose `struct_size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_model_tensor(
    model: *const graft_model,
    index: usize,
    info: *mut graft_tensor_info,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let info = facts(info)?;
            let loaded = handle::shared(model)?;
            let (name, format) = nth(&loaded.tensors, index, "index")?;
            let t = nth(loaded.model.gguf().tensors(), index, "index")?;
            let mut dims = [1; 4];
            dims.iter_mut().zip(&t.dims).for_each(|(to, dim)| *to = *dim as u64);
            info.put(graft_tensor_info {
                name: name.as_ptr(),
                format: format.as_ptr(),
                dims,
                bytes: t.range.len() as u64,
                ..Extensible::defaults()
            });
            Ok(())
        })
    }
}

/// Bytes that a model and a session will take. Adapters and the tokenizer come on top.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_memory_plan {
    /// `sizeof(graft_memory_plan)`, set by the caller.
    pub struct_size: usize,
    /// The tensors in the file: mapped, they are shared by processes, and the system may drop and read them again.
    pub weights: u64,
    /// Norms and biases, of which the model has a copy.
    pub vectors: u64,
    /// The cache of the session, when its context is full.
    pub kv: u64,
    /// What the session needs for its largest chunk of a prompt.
    pub activations: u64,
    /// What each thread of the model needs.
    pub per_thread: u64,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_memory_plan {
    const NAME: &'static str = "graft_memory_plan";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_memory_plan {
            struct_size: size_of::<Self>(),
            weights: 0,
            vectors: 0,
            kv: 0,
            activations: 0,
            per_thread: 0,
        }
    }
}

/// Writes to `*plan`, whose `struct_size` is set, what the model in the GGUF file at a path and a session with these options would take.
/// Only the file's directory is read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_plan_memory(
    path: *const c_char,
    path_len: usize,
    session: *const graft_session_options,
    plan: *mut graft_memory_plan,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let to = facts(plan)?;
            let path = input::path(path, path_len, "path")?;
            let options = session_options(session)?;
            let plan = MemoryPlan::of(&Gguf::open(&path, LoadMode::Map)?, &options)?;
            to.put(graft_memory_plan {
                weights: plan.weights as u64,
                vectors: plan.vectors as u64,
                kv: plan.kv as u64,
                activations: plan.activations as u64,
                per_thread: plan.per_thread as u64,
                ..Extensible::defaults()
            });
            Ok(())
        })
    }
}
