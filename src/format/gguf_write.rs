//! Writes GGUF v3: a copy of a model with some tensors or keys replaced, or a file made from nothing.
//!
//! What the file is to hold is said first ([`GgufPlan`]), because the directory of tensors stands before their bytes; then
//! the bytes come in the order of the plan ([`GgufWriter`]), in pieces of any size, so that nothing is held in memory.
//!
//! ```no_run
//! # use graft::format::{Gguf, GgufPlan, LoadMode};
//! # use graft::quant::BlockFormat;
//! # fn requantized(name: &str) -> Option<Vec<u8>> { None }
//! # fn main() -> graft::Result<()> {
//! let source = Gguf::open("model.gguf".as_ref(), LoadMode::Map)?;
//! let mut plan = GgufPlan::copy_of(&source);
//! plan.set("general.name", "merged");
//! plan.put("output.weight", &[896, 151936], BlockFormat::Q8_0);
//! let mut writer = plan.create("merged.gguf".as_ref())?;
//! for tensor in plan.tensors() {
//!     match (requantized(&tensor.name), source.tensor(&tensor.name)) {
//!         (None, Some(old)) => writer.write(&tensor.name, source.data(old))?,
//!         (new, _) => writer.write(&tensor.name, &new.unwrap_or_default())?,
//!     }
//! }
//! writer.finish()
//! # }
//! ```

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use super::gguf::{DEFAULT_ALIGNMENT, MAX_DIMS, MAX_NAME_BYTES, MAX_TENSORS, SplitName, alignment, checked_dims};
use super::metadata::{MAX_ENTRIES, MAX_KEY_BYTES, ValueType};
use super::{AtomicFile, Gguf};
use crate::error::{Error, Result};
use crate::quant::BlockFormat;

/// What a part of a split model says about itself.
const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];
const ALIGNMENT_KEY: &str = "general.alignment";
/// The most that tensors may be aligned to. Files have 32, rarely a page; more would only write zeros.
const MAX_ALIGNMENT: usize = 1 << 20;

/// A metadata value to write.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// 32 bits, unsigned: what nearly all counts and ids in GGUF are.
    U32(u32),
    /// IEEE 754 single.
    F32(f32),
    /// A bool.
    Bool(bool),
    /// Text.
    Str(String),
    /// An array of 32-bit unsigned integers.
    U32s(Vec<u32>),
}

impl From<u32> for MetaValue {
    fn from(v: u32) -> Self {
        MetaValue::U32(v)
    }
}

impl From<f32> for MetaValue {
    fn from(v: f32) -> Self {
        MetaValue::F32(v)
    }
}

impl From<bool> for MetaValue {
    fn from(v: bool) -> Self {
        MetaValue::Bool(v)
    }
}

impl From<&str> for MetaValue {
    fn from(v: &str) -> Self {
        MetaValue::Str(v.to_owned())
    }
}

/// One tensor of a file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// Its name, unique in the file.
    pub name: String,
    /// Dimensions as in the file: the fastest-varying first, so a matrix is `[cols, rows]`.
    pub dims: Vec<usize>,
    /// Block format of its data.
    pub format: BlockFormat,
}

impl TensorPlan {
    /// Length of its data, once name and dims are checked: what is planned is what a reader accepts.
    fn bytes(&self) -> Result<usize> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            let e = Error::usage("a tensor's name has a wrong length");
            return Err(e
                .expected(format_args!("1 to {MAX_NAME_BYTES} bytes"))
                .found(self.name.len()));
        }
        let stored: Vec<u64> = self.dims.iter().map(|&dim| u64_of(dim)).collect();
        let rank = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        if !(1..=MAX_DIMS).contains(&rank) || checked_dims(&stored).is_none() {
            let e = Error::usage("impossible dimensions").expected("1 to 4, none zero, and a product below 2^63");
            return Err(e.found(format_args!("{stored:?}")));
        }
        let row = self.dims.first().copied().unwrap_or(0);
        let block = self.format.info().block_len;
        if !row.is_multiple_of(block) {
            let e = Error::usage("the rows of the tensor are no whole blocks");
            return Err(e
                .expected(format_args!(
                    "a multiple of {block}, the block of {}",
                    self.format.name()
                ))
                .found(format_args!("{row} columns")));
        }
        let mut rows = self.dims.iter().skip(1).copied();
        self.format
            .bytes_for(row)
            .and_then(|row| rows.try_fold(row, usize::checked_mul))
            .ok_or_else(too_large)
    }
}

fn too_large() -> Error {
    Error::usage("the tensors are larger than the address space")
}

/// What a file is to hold. Nothing is checked before [`create`](Self::create).
#[derive(Clone, Default)]
pub struct GgufPlan<'a> {
    source: Option<&'a Gguf>,
    /// In the order of first mention.
    set: Vec<(String, MetaValue)>,
    tensors: Vec<TensorPlan>,
}

impl<'a> GgufPlan<'a> {
    /// A file without keys and tensors. Readers expect at least `general.architecture`.
    pub fn new() -> Self {
        Self::default()
    }

    /// All keys and tensors of `source`, in its order; a split model becomes one file, without the `split.*` keys.
    /// Values are copied byte for byte, whatever their type.
    pub fn copy_of(source: &'a Gguf) -> Self {
        let plan = |t: &super::TensorInfo| TensorPlan {
            name: t.name.clone(),
            dims: t.dims.clone(),
            format: t.format,
        };
        GgufPlan {
            source: Some(source),
            set: Vec::new(),
            tensors: source.tensors().iter().map(plan).collect(),
        }
    }

    /// Gives `key` a value, instead of the one it has or behind the keys that are there. A quantized file should carry
    /// `general.quantization_version` = 2 and a `general.file_type`; the alignment of its tensors is
    /// `general.alignment` (a u32).
    pub fn set(&mut self, key: &str, value: impl Into<MetaValue>) -> &mut Self {
        let value = value.into();
        match self.set.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.set.push((key.to_owned(), value)),
        }
        self
    }

    /// Plans the tensor `name`: in the place of the one of this name, or behind the others.
    pub fn put(&mut self, name: &str, dims: &[usize], format: BlockFormat) -> &mut Self {
        let new = TensorPlan {
            name: name.to_owned(),
            dims: dims.to_vec(),
            format,
        };
        match self.tensors.iter_mut().find(|t| t.name == name) {
            Some(old) => *old = new,
            None => self.tensors.push(new),
        }
        self
    }

    /// The tensors in the order in which their bytes are to be written.
    pub fn tensors(&self) -> &[TensorPlan] {
        &self.tensors
    }

    /// Starts the file that is to be `path`, up to the bytes of the first tensor. An existing file stays as it is until
    /// [`GgufWriter::finish`]; a file of the source itself, by whatever name, is refused.
    pub fn create(&self, path: &Path) -> Result<GgufWriter> {
        self.check_path(path)?;
        let alignment = self.alignment(path)?;
        let directory = self.directory(path, alignment)?;
        let head = self.head(path, &directory)?;
        let mut writer = GgufWriter {
            file: AtomicFile::create(path)?,
            tensors: directory,
            next: 0,
            written: 0,
            at: 0,
            alignment,
        };
        writer.append(&head)?;
        if !writer.tensors.is_empty() {
            writer.pad()?;
        }
        Ok(writer)
    }

    fn check_path(&self, path: &Path) -> Result<()> {
        if SplitName::of(path).is_some() {
            let e = Error::usage("the name is that of a part of a split model, and this file is whole").file(path);
            return Err(e.expected("a name without NUMBER-of-NUMBER"));
        }
        let parts = self.source.map_or(&[][..], Gguf::parts);
        match parts.iter().find(|part| same_file(part.path(), path)) {
            None => Ok(()),
            Some(part) => Err(
                Error::usage("the file to write is the file that is read; choose another name")
                    .file(path)
                    .expected("a file of its own")
                    .found(part.path().display()),
            ),
        }
    }

    fn alignment(&self, path: &Path) -> Result<usize> {
        let bad = |e: Error| Err(e.file(path).item(ALIGNMENT_KEY));
        let n = match self.set.iter().find(|(key, _)| key == ALIGNMENT_KEY) {
            Some((_, MetaValue::U32(n))) => usize::try_from(*n).unwrap_or(0),
            Some((_, other)) => {
                return bad(Error::usage("wrong alignment")
                    .expected("a u32")
                    .found(format_args!("{other:?}")));
            }
            None => self.source.map_or(Ok(DEFAULT_ALIGNMENT), |s| alignment(s.metadata()))?,
        };
        if !n.is_power_of_two() {
            return bad(Error::usage("wrong alignment").expected("a power of two").found(n));
        }
        if n > MAX_ALIGNMENT {
            let e = Error::limit("the alignment is too large to write");
            return bad(e.expected(format_args!("at most {MAX_ALIGNMENT}")).found(n));
        }
        Ok(n)
    }

    /// The tensors with their lengths and offsets.
    fn directory(&self, path: &Path, alignment: usize) -> Result<Vec<Placed>> {
        if u64_of(self.tensors.len()) > MAX_TENSORS {
            let e = Error::limit("too many tensors")
                .file(path)
                .expected(format_args!("at most {MAX_TENSORS}"));
            return Err(e.found(self.tensors.len()));
        }
        let mut names = HashSet::new();
        let mut offset = 0usize;
        let mut placed = Vec::with_capacity(self.tensors.len());
        for t in &self.tensors {
            let bad = |e: Error| e.file(path).item(&t.name);
            if !names.insert(t.name.as_str()) {
                return Err(bad(Error::usage("the tensor stands twice in the plan")));
            }
            let bytes = t.bytes().map_err(bad)?;
            placed.push(Placed {
                plan: t.clone(),
                offset,
                bytes,
            });
            offset = offset
                .checked_add(bytes)
                .and_then(|end| end.checked_next_multiple_of(alignment))
                .ok_or_else(|| bad(too_large()))?;
        }
        Ok(placed)
    }

    /// Everything before the tensors' bytes, without the padding.
    fn head(&self, path: &Path, directory: &[Placed]) -> Result<Vec<u8>> {
        let pairs = self.pairs(path)?;
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend(u64_of(directory.len()).to_le_bytes());
        head.extend(u64_of(pairs.len()).to_le_bytes());
        pairs.iter().for_each(|pair| head.extend(pair.as_ref()));
        for t in directory {
            put_str(&mut head, &t.plan.name);
            head.extend(u32::try_from(t.plan.dims.len()).unwrap_or(u32::MAX).to_le_bytes());
            t.plan
                .dims
                .iter()
                .for_each(|&dim| head.extend(u64_of(dim).to_le_bytes()));
            head.extend(t.plan.format.id().to_le_bytes());
            head.extend(u64_of(t.offset).to_le_bytes());
        }
        Ok(head)
    }

    /// The metadata, each pair as its bytes: the source's in their order, then what is new.
    fn pairs(&self, path: &Path) -> Result<Vec<Cow<'a, [u8]>>> {
        let mut pairs = Vec::new();
        if let Some(source) = self.source {
            for (key, raw) in source.metadata().raw() {
                match self.set.iter().find(|(set, _)| set.as_bytes() == key) {
                    _ if SPLIT_KEYS.iter().any(|split| split.as_bytes() == key) => {}
                    Some((key, value)) => pairs.push(pair(key, value).into()),
                    None => pairs.push(raw.into()),
                }
            }
        }
        for (key, value) in &self.set {
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                let e = Error::usage("a metadata key has a wrong length").file(path).item(key);
                return Err(e.expected(format_args!("1 to {MAX_KEY_BYTES} bytes")).found(key.len()));
            }
            if !self.source.is_some_and(|source| source.metadata().contains(key)) {
                pairs.push(pair(key, value).into());
            }
        }
        if u64_of(pairs.len()) > MAX_ENTRIES {
            let e = Error::limit("too many metadata keys").file(path);
            return Err(e.expected(format_args!("at most {MAX_ENTRIES}")).found(pairs.len()));
        }
        Ok(pairs)
    }
}

/// A tensor of the plan and its place in the data.
struct Placed {
    plan: TensorPlan,
    /// From the start of the data, aligned.
    offset: usize,
    bytes: usize,
}

/// A file that waits for the bytes of its tensors. Dropped before [`finish`](Self::finish) it leaves nothing behind.
pub struct GgufWriter {
    file: AtomicFile,
    tensors: Vec<Placed>,
    /// The tensor whose bytes come next.
    next: usize,
    /// Bytes of it that are written.
    written: usize,
    /// Bytes of the file that are written.
    at: usize,
    alignment: usize,
}

impl GgufWriter {
    /// The tensor whose bytes come next; `None` when all are written.
    pub fn next_tensor(&self) -> Option<&TensorPlan> {
        self.tensors.get(self.next).map(|t| &t.plan)
    }

    /// Writes bytes of the tensor `name`: all of it, or the next piece. Another tensor than the one that comes next in the
    /// plan, one before the last is whole, and more bytes than it has are errors.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let bad = |e: Error| Err(e.file(self.file.target()).item(name));
        let Some(t) = self.tensors.get(self.next).filter(|t| t.plan.name == name) else {
            let e = Error::usage("the bytes of the tensor come out of order");
            return bad(match self.tensors.get(self.next) {
                Some(t) if self.written > 0 => {
                    let left = t.bytes.saturating_sub(self.written);
                    e.expected(format_args!("{left} more bytes of {}", t.plan.name))
                }
                Some(t) => e.expected(&t.plan.name),
                None => e.expected("no more tensors"),
            });
        };
        let left = t.bytes.saturating_sub(self.written);
        if bytes.len() > left {
            let e = Error::usage("too many bytes for the tensor");
            return bad(e
                .expected(format_args!("{} bytes", t.bytes))
                .found(self.written.saturating_add(bytes.len())));
        }
        self.append(bytes)?;
        self.written += bytes.len();
        if bytes.len() == left {
            (self.next, self.written) = (self.next + 1, 0);
            self.pad()?;
        }
        Ok(())
    }

    /// Brings the file to the disk and gives it its name. A tensor without all of its bytes is an error.
    pub fn finish(self) -> Result<()> {
        if let Some(t) = self.tensors.get(self.next) {
            let e = Error::usage("the tensor was not written to its end").file(self.file.target());
            let e = e.item(&t.plan.name).expected(format_args!("{} bytes", t.bytes));
            return Err(e.found(self.written));
        }
        self.file.commit()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.file.error(&e))?;
        self.at = self.at.saturating_add(bytes.len());
        Ok(())
    }

    /// Zeros up to the next aligned byte. The last tensor gets them too: ggml reads whole aligned tensors.
    fn pad(&mut self) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let end = self.at.checked_next_multiple_of(self.alignment).unwrap_or(self.at);
        while self.at < end {
            let piece = ZEROS.get(..end - self.at).unwrap_or(&ZEROS);
            self.append(piece)?;
        }
        Ok(())
    }
}

/// The bytes of a metadata pair.
fn pair(key: &str, value: &MetaValue) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_str(&mut bytes, key);
    let id = match value {
        MetaValue::U32(_) => ValueType::U32,
        MetaValue::F32(_) => ValueType::F32,
        MetaValue::Bool(_) => ValueType::Bool,
        MetaValue::Str(_) => ValueType::Str,
        MetaValue::U32s(_) => ValueType::Array,
    };
    bytes.extend(id.id().to_le_bytes());
    match value {
        MetaValue::U32(v) => bytes.extend(v.to_le_bytes()),
        MetaValue::F32(v) => bytes.extend(v.to_le_bytes()),
        MetaValue::Bool(v) => bytes.push(u8::from(*v)),
        MetaValue::Str(v) => put_str(&mut bytes, v),
        MetaValue::U32s(v) => {
            bytes.extend(ValueType::U32.id().to_le_bytes());
            bytes.extend(u64_of(v.len()).to_le_bytes());
            v.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
        }
    }
    bytes
}

fn put_str(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u64_of(text.len()).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// No supported system has lengths of more than 64 bits.
fn u64_of(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Whether both names lead to one file that is there, through symbolic or hard links too.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        identity(a).is_some_and(|a| identity(b) == Some(a))
    }
    #[cfg(not(unix))]
    {
        // WASI has no canonical names: the names themselves are compared there.
        let path = |path: &Path| match fs::canonicalize(path) {
            Err(e) if e.kind() == std::io::ErrorKind::Unsupported => Some(path.to_owned()),
            found => found.ok(),
        };
        path(a).is_some_and(|a| path(b) == Some(a))
    }
}
