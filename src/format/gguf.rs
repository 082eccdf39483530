//! GGUF v2/v3, little-endian, one file or split.

use std::ops::Range;
use std::path::Path;

use super::{LoadMode, Mapping};
use crate::error::Result;
use crate::quant::BlockFormat;

/// Where one tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name in the file.
    pub name: String,
    /// Dimensions as in the file: the fastest-varying first, so a matrix is `[cols, rows]`. 1 to 4 of them.
    pub dims: Vec<usize>,
    /// Block format of the data.
    pub format: BlockFormat,
    /// Which of the split files holds it.
    pub part: usize,
    /// Byte range within that file, already checked against its length.
    pub range: Range<usize>,
}

/// An opened model file: checked directory of tensors, metadata, and the bytes.
pub struct Gguf {
    _private: (),
}

impl Gguf {
    /// Opens `path`; for `NAME-00001-of-0000N.gguf` all N parts beside it.
    pub fn open(path: &Path, mode: LoadMode) -> Result<Self> {
        todo!("{path:?} {mode:?}")
    }
    /// The path that was opened (of the first part).
    pub fn path(&self) -> &Path {
        todo!()
    }
    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        todo!()
    }
    /// All tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        todo!()
    }
    /// The tensor called `name`.
    pub fn tensor(&self, _name: &str) -> Option<&TensorInfo> {
        todo!()
    }
    /// The mapping that holds a tensor (cheap to clone; keep it to keep the bytes alive).
    pub fn mapping(&self, _t: &TensorInfo) -> &Mapping {
        todo!()
    }
    /// A tensor's bytes.
    pub fn data(&self, _t: &TensorInfo) -> &[u8] {
        todo!()
    }
}

/// Metadata key/values. Arrays stay in the file and are read on demand.
///
/// Getters that return `Option` give `None` where the key is absent and an error (file, key, expected, found)
/// where it has another type; the `need_*` forms make absence an error too.
pub struct Metadata {
    _private: (),
}

impl Metadata {
    /// Any unsigned or non-negative signed integer type, as `usize`.
    pub fn usize(&self, _key: &str) -> Result<Option<usize>> {
        todo!()
    }
    /// As [`Metadata::usize`], required.
    pub fn need_usize(&self, _key: &str) -> Result<usize> {
        todo!()
    }
    /// f32 or f64 (finite), as `f32`.
    pub fn f32(&self, _key: &str) -> Result<Option<f32>> {
        todo!()
    }
    /// As [`Metadata::f32`], required.
    pub fn need_f32(&self, _key: &str) -> Result<f32> {
        todo!()
    }
    /// A bool.
    pub fn bool(&self, _key: &str) -> Result<Option<bool>> {
        todo!()
    }
    /// A UTF-8 string.
    pub fn str(&self, _key: &str) -> Result<Option<&str>> {
        todo!()
    }
    /// As [`Metadata::str`], required.
    pub fn need_str(&self, _key: &str) -> Result<&str> {
        todo!()
    }
    /// An array of UTF-8 strings, borrowed from the file.
    pub fn strs(&self, _key: &str) -> Result<Option<Vec<&str>>> {
        todo!()
    }
    /// An array of any integer type, as `i64`.
    pub fn ints(&self, _key: &str) -> Result<Option<Vec<i64>>> {
        todo!()
    }
    /// An array of f32/f64.
    pub fn f32s(&self, _key: &str) -> Result<Option<Vec<f32>>> {
        todo!()
    }
    /// An array of bools, or a scalar bool/int repeated (`n` entries expected): per-layer facts come in both forms.
    pub fn bools(&self, _key: &str) -> Result<Option<Vec<bool>>> {
        todo!()
    }
    /// An integer or an array of integers.
    pub fn is_array(&self, _key: &str) -> bool {
        todo!()
    }
}
