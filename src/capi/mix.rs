//! Merging adapters into a model, making one adapter of several, and writing adapters for other programs. These read files, compute for
//! seconds, and write files that are whole or not there.

use std::ffi::{c_char, c_void};
use std::ptr::null;

use super::adapter::{adapter_options, graft_adapter, graft_adapter_options, weighted};
use super::cancel::{flag, graft_cancel};
use super::error::graft_error;
use super::generate::graft_text;
use super::handle;
use super::input::{self, Extensible, out};
use super::model::{self, Progress, graft_model, graft_progress_callback};
use super::status::graft_status;
use super::{Outcome, call};
use crate::adapter::AdapterFile;
use crate::adapter::mix::{CombinationType, Combine, MajoritySign, combine};
use crate::adapter::to_lora::RankRule;
use crate::error::Error;
use crate::format::PeftFolder;
use crate::quant::{BlockFormat, FORMATS};
use crate::runtime::{MergeOptions, MergeType};

/// How to merge.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_merge_options {
    /// `sizeof(graft_merge_options)`.
    pub struct_size: usize,
    /// The block format of what is merged, such as "Q8_0"; NULL keeps each tensor's own.
    pub format: *const c_char,
    /// Its length.
    pub format_len: usize,
    /// Above 0, and without a `format`: larger formats where they are needed, until the merged model's predictions are within this mean
    /// divergence (in nats) of those of the adapters put on live.
    pub within: f64,
    /// A text like those that the model will read, on which packing is tuned; NULL for short texts of the library's own.
    pub text: *const c_char,
    /// Its length.
    pub text_len: usize,
    /// Not 0: pack without regard to what the model reads.
    pub plain: i32,
    /// 0.
    pub reserved: u32,
    /// Called while merging, or NULL.
    pub progress: graft_progress_callback,
    /// Handed to `progress`.
    pub progress_user_data: *mut c_void,
    /// Ends the work when it is set, or NULL.
    pub cancel: *const graft_cancel,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_merge_options {
    const NAME: &'static str = "graft_merge_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_merge_options {
            struct_size: size_of::<Self>(),
            format: null(),
            format_len: 0,
            within: 0.0,
            text: null(),
            text_len: 0,
            plain: 0,
            reserved: 0,
            progress: None,
            progress_user_data: std::ptr::null_mut(),
            cancel: null(),
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_merge_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_merge_options_init(options: *mut graft_merge_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

fn format(name: &str) -> Outcome<BlockFormat> {
    let known = || FORMATS.iter().filter(|f| f.quantize.is_some());
    let found = known().find(|f| f.name.eq_ignore_ascii_case(name));
    found.map(|f| f.format).ok_or_else(|| {
        let names: Vec<_> = known().map(|f| f.name).collect();
        let e = Error::usage("no such block format").item("format");
        e.expected(names.join(", ")).found(name).into()
    })
}

unsafe fn merge_options(o: &graft_merge_options) -> Outcome<MergeOptions> {
    // SAFETY: as the caller promises.
    let (name, text) = unsafe {
        (
            input::maybe_text(o.format, o.format_len, "format")?,
            input::maybe_text(o.text, o.text_len, "text")?,
        )
    };
    let to = match (name, o.within) {
        (Some(name), 0.0) => MergeType::To(format(name)?),
        (None, 0.0) => MergeType::Keep,
        (None, within) if within > 0.0 && within.is_finite() => MergeType::Within(within),
        (_, within) => {
            let e = Error::usage("no such divergence").item("within");
            return Err(e
                .expected("0, or a number above 0 without a format")
                .found(within)
                .into());
        }
    };
    Ok(MergeOptions {
        to,
        importance: o.plain == 0,
        text: text.map(str::to_owned),
    })
}

/// A model with `n` adapters, each with its weight (`weights` NULL: 1 each), merged into its weights: a model of its own, which shares the
/// tensors that did not change.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_merge(
    model: *const graft_model,
    adapters: *const *const graft_adapter,
    weights: *const f32,
    n: usize,
    options: *const graft_merge_options,
    merged: *mut *mut graft_model,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let merged = out(merged, "merged")?;
            let o = input::options(options)?;
            let options = merge_options(&o)?;
            let told = Progress::new(o.progress, o.progress_user_data, flag(o.cancel)?);
            let loaded = handle::shared(model)?;
            let adapters = weighted(adapters, weights, n)?;
            let made = loaded
                .model
                .merged(&adapters, &options, &mut |share| told.tell(share))?;
            merged.put(model::give(made.0));
            Ok(())
        })
    }
}

/// As `graft_merge`, to a GGUF file that other programs load too. The file appears when it is complete.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_merge_to(
    model: *const graft_model,
    adapters: *const *const graft_adapter,
    weights: *const f32,
    n: usize,
    options: *const graft_merge_options,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let o = input::options(options)?;
            let options = merge_options(&o)?;
            let told = Progress::new(o.progress, o.progress_user_data, flag(o.cancel)?);
            let path = input::path(path, path_len, "path")?;
            let loaded = handle::shared(model)?;
            let adapters = weighted(adapters, weights, n)?;
            loaded
                .model
                .merge_to(&adapters, &options, &path, &mut |share| told.tell(share))?;
            Ok(())
        })
    }
}

/// How to make one adapter of several.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_combine_options {
    /// `sizeof(graft_combine_options)`.
    pub struct_size: usize,
    /// PEFT's `combination_type`: "linear" (the default), "svd", "cat", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd",
    /// "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd".
    pub kind: *const c_char,
    /// Its length.
    pub kind_len: usize,
    /// The share of entries that pruning keeps; types that prune need it. 0 where the type has no use for it.
    pub density: f64,
    /// Limits the result's entries to this quantile, for types with svd; 0 does not.
    pub svd_clamp: f64,
    /// The rank of the result, for types with svd; 0 for the largest of the adapters'.
    pub svd_rank: u32,
    /// For types that elect a sign: 0 by the sum, 1 by the number of adapters.
    pub majority_by_count: i32,
    /// Of the random numbers, for the dare types.
    pub seed: u64,
    /// Called while combining, or NULL.
    pub progress: graft_progress_callback,
    /// Handed to `progress`.
    pub progress_user_data: *mut c_void,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_combine_options {
    const NAME: &'static str = "graft_combine_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_combine_options {
            struct_size: size_of::<Self>(),
            kind: null(),
            kind_len: 0,
            density: 0.0,
            svd_clamp: 0.0,
            svd_rank: 0,
            majority_by_count: 0,
            seed: 0,
            progress: None,
            progress_user_data: std::ptr::null_mut(),
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_combine_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_combine_options_init(options: *mut graft_combine_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

unsafe fn combination(o: &graft_combine_options) -> Outcome<Combine> {
    // SAFETY: as the caller promises.
    let name = unsafe { input::maybe_text(o.kind, o.kind_len, "kind") }?.unwrap_or("linear");
    let Some((_, kind)) = CombinationType::ALL.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = CombinationType::ALL.iter().map(|t| t.0).collect();
        let e = Error::usage("no such combination type").item("kind");
        return Err(e.expected(known.join(", ")).found(name).into());
    };
    let set = |v: f64| (v != 0.0).then_some(v);
    Ok(Combine {
        density: set(o.density),
        majority_sign: (o.majority_by_count != 0).then_some(MajoritySign::Frequency),
        svd_rank: (o.svd_rank != 0).then_some(o.svd_rank as usize),
        svd_clamp: set(o.svd_clamp),
        seed: (o.seed != 0).then_some(o.seed),
        ..Combine::new(*kind)
    })
}

/// Makes one adapter of the `n` that lie in `folders`, each with its weight (`weights` NULL: 1 each), as PEFT's `add_weighted_adapter`, and
/// writes it to the folder `path`, which PEFT loads too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_combine(
    folders: *const graft_text,
    weights: *const f32,
    n: usize,
    options: *const graft_combine_options,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let o = input::options(options)?;
            let kind = combination(&o)?;
            let path = input::path(path, path_len, "path")?;
            let open = |t: &graft_text| Ok(PeftFolder::open(&input::path(t.data, t.len, "folders")?)?);
            let folders = input::slice(folders, n, "folders")?;
            let folders = folders.iter().map(open).collect::<Outcome<Vec<_>>>()?;
            let adapters: Vec<_> = folders.iter().zip(input::weights(weights, n)?).collect();
            let told = Progress::new(o.progress, o.progress_user_data, None);
            let made = combine(&adapters, &kind, &mut |share| {
                told.tell(share);
            })?;
            told.check()?;
            Ok(made.write(&path)?)
        })
    }
}

/// Writes the LoRA at `adapter`, a folder of PEFT's for this model, as the GGUF file `path` that llama.cpp loads, its factors in `format`:
/// "F32", "F16" or "BF16".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_export_lora(
    model: *const graft_model,
    adapter: *const c_char,
    adapter_len: usize,
    format: *const c_char,
    format_len: usize,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let adapter = input::path(adapter, adapter_len, "adapter")?;
            let format = self::format(input::text(format, format_len, "format")?)?;
            let path = input::path(path, path_len, "path")?;
            let loaded = handle::shared(model)?;
            loaded.model.export_lora(&AdapterFile::open(&adapter)?, path, format)?;
            Ok(())
        })
    }
}

/// Writes what the adapter at `adapter` adds to this model's weights as a plain LoRA, to the folder `path` that PEFT loads. `rank` above 0:
/// that rank; 0: the smallest that keeps the share `energy` of each module's squared singular values, above 0 to 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_to_lora(
    model: *const graft_model,
    adapter: *const c_char,
    adapter_len: usize,
    options: *const graft_adapter_options,
    rank: u32,
    energy: f64,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let adapter = input::path(adapter, adapter_len, "adapter")?;
            let options = adapter_options(options)?;
            let path = input::path(path, path_len, "path")?;
            let loaded = handle::shared(model)?;
            let rule = match rank {
                0 => RankRule::Energy(energy),
                rank => RankRule::Fixed(rank as usize),
            };
            let file = AdapterFile::open_with(&adapter, &options)?;
            loaded.model.to_lora(&file, path, rule, &|_| ())?;
            Ok(())
        })
    }
}
