//! Files of the `safetensors` format: a length, a JSON header, then the tensors' bytes without holes.
//!
//! The types come from the `safetensors` crate; the header is checked here, because an error has to say which tensor
//! is at fault, a name that stands twice must not hide one of the two, and the crate (0.7) adds offsets unchecked.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
pub use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{LoadMode, Mapping};
use crate::error::{Error, Result};

/// Bytes of the header. The header of an adapter for a large model has a few hundred thousand.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Tensors in one file.
const MAX_TENSORS: usize = 1 << 17;
/// Dimensions of a tensor; a convolution has five.
const MAX_DIMS: usize = 8;
/// Entries of the free-form `__metadata__`.
const MAX_METADATA: usize = 1024;
/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// An opened file: its checked directory, and the bytes.
pub struct SafeTensors {
    file: Mapping,
    /// In the order of their data.
    tensors: Vec<Entry>,
    /// Indices of `tensors`, sorted by name.
    by_name: Vec<usize>,
    metadata: Vec<(String, String)>,
}

struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// In the header: within the data. After opening: within the file.
    range: Range<usize>,
}

/// One tensor, borrowed from the file.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Outermost dimension first, so a matrix is `[rows, cols]`. May be empty (a scalar) and may have zeros.
    pub shape: &'a [usize],
    /// Its elements in row-major order, little-endian, at any alignment.
    pub data: &'a [u8],
    file: &'a Path,
}

impl TensorView<'_> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements of an F32, F16 or BF16 tensor (all of which f32 holds exactly); other types are not supported.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(match self.dtype {
            Dtype::F32 => self.data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F16 => self
                .data
                .as_chunks()
                .0
                .iter()
                .map(|&b| f16::from_le_bytes(b).to_f32())
                .collect(),
            Dtype::BF16 => self
                .data
                .as_chunks()
                .0
                .iter()
                .map(|&b| bf16::from_le_bytes(b).to_f32())
                .collect(),
            other => {
                let e = Error::unsupported("the type of the tensor is not supported");
                return Err(self.error(e.expected("F32, F16 or BF16").found(other)));
            }
        })
    }

    /// An error about this tensor.
    pub fn error(&self, e: Error) -> Error {
        e.file(self.file).item(self.name)
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.name, self.dtype, self.shape)
    }
}

impl SafeTensors {
    /// Opens `path` and checks all of its directory against the length of the file.
    pub fn open(path: &Path, mode: LoadMode) -> Result<Self> {
        Self::from_mapping(Mapping::open(path, mode)?)
    }

    /// As [`SafeTensors::open`], over a file that is open already.
    pub fn from_mapping(file: Mapping) -> Result<Self> {
        let Header { tensors, metadata } = parse(file.bytes()).map_err(|e| e.file(file.path()))?;
        let mut by_name: Vec<usize> = (0..tensors.len()).collect();
        let name = |i: &usize| tensors.get(*i).map_or("", |t| t.name.as_str());
        by_name.sort_unstable_by_key(|i| name(i));
        if let Some([twice, _]) = by_name.windows(2).find(|w| matches!(w, [a, b] if name(a) == name(b))) {
            return Err(Error::invalid("the tensor stands twice in the file")
                .file(file.path())
                .item(name(twice)));
        }
        Ok(SafeTensors {
            file,
            tensors,
            by_name,
            metadata,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// All tensors, in the order of their data in the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|t| self.view(t))
    }

    /// The tensors' names, in the order of their data in the file.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|t| t.name.as_str())
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let name_of = |i: &usize| self.tensors.get(*i).map_or("", |t| t.name.as_str());
        let at = self.by_name.binary_search_by(|i| name_of(i).cmp(name)).ok()?;
        self.by_name
            .get(at)
            .and_then(|&i| self.tensors.get(i))
            .map(|t| self.view(t))
    }

    /// The free-form key/values that some writers add (PEFT writes `format` = `pt`).
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    fn view<'a>(&'a self, t: &'a Entry) -> TensorView<'a> {
        // `parse` has checked the range against these same bytes.
        let data = self.file.bytes().get(t.range.clone()).unwrap_or_default();
        TensorView {
            name: &t.name,
            dtype: t.dtype,
            shape: &t.shape,
            data,
            file: self.path(),
        }
    }
}

/// Checks header and directory; the ranges that come back lie within `bytes`.
fn parse(bytes: &[u8]) -> Result<Header> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        let e = Error::invalid("not a safetensors file: too short for the header's length");
        return Err(e.expected("8 bytes").found(bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    let header_len = usize::try_from(length)
        .ok()
        .filter(|&n| n <= rest.len())
        .ok_or_else(|| {
            Error::invalid("the header is longer than the file (not a safetensors file, or a cut download)")
                .item("header length")
                .expected(format_args!("at most {}", rest.len()))
                .found(length)
        })?;
    if header_len > MAX_HEADER_BYTES {
        let e = Error::limit("the header is too long").item("header length");
        return Err(e.expected(format_args!("at most {MAX_HEADER_BYTES}")).found(header_len));
    }
    let (json, data) = rest.split_at_checked(header_len).unwrap_or_default();
    let mut header: Header = serde_json::from_slice(json)
        .map_err(|e| Error::invalid(format!("the JSON header is wrong: {e}")).item("header"))?;

    header.tensors.sort_by_key(|t| (t.range.start, t.range.end));
    let mut end = 0;
    for t in &mut header.tensors {
        check_entry(t, end, data.len())?;
        end = t.range.end;
        let base = LENGTH_BYTES + header_len;
        t.range = base + t.range.start..base + t.range.end;
    }
    if end != data.len() {
        let e = Error::invalid("the tensors do not fill the file to its end").item("data");
        return Err(e.expected(format_args!("{end} bytes")).found(data.len()));
    }
    Ok(header)
}

/// Checks that `t` begins where the last tensor ended, lies in the data, and is as long as its type and shape say.
fn check_entry(t: &Entry, begin: usize, data_len: usize) -> Result<()> {
    let Range { start, end } = t.range;
    let bad = |e: Error| Err(e.item(&t.name));
    if start != begin {
        let e = Error::invalid("the tensors overlap, or leave a hole");
        return bad(e.expected(format_args!("data from offset {begin}")).found(start));
    }
    if end < start || end > data_len {
        let e = Error::invalid("the tensor lies past the end of the file, or is reversed (a cut download?)");
        return bad(e.expected(format_args!("an end from {start} to {data_len}")).found(end));
    }
    // In 64 bits: a tensor of half a gigabyte has more bits than a 32-bit machine has addresses.
    let wide = |n: usize| u64::try_from(n).ok();
    let product = |n: u64, dim: &usize| n.checked_mul(wide(*dim)?);
    let bits = wide(t.dtype.bitsize()).and_then(|bits| t.shape.iter().try_fold(bits, product));
    if bits.is_none() || bits != wide(end - start).and_then(|n| n.checked_mul(8)) {
        let e = Error::invalid("shape and type do not match the length of the data");
        let expected = match bits {
            Some(bits) if bits % 8 == 0 => format!("{} bytes", bits / 8),
            Some(bits) => format!("a multiple of 8 bits, not {bits},"),
            None => "less than the address space".to_owned(),
        };
        return bad(e
            .expected(format_args!("{expected} for {} {:?}", t.dtype, t.shape))
            .found(format_args!("{} bytes", end - start)));
    }
    Ok(())
}

/// The JSON header, in its own order and with repeated names kept apart.
#[derive(Default)]
struct Header {
    tensors: Vec<Entry>,
    metadata: Vec<(String, String)>,
}

/// What the header says of one tensor.
#[derive(serde::Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Pairs>()?.0;
                        continue;
                    }
                    if header.tensors.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
                    }
                    let info: Info = map
                        .next_value()
                        .map_err(|e| A::Error::custom(format_args!("{name}: {e}")))?;
                    let (start, end) = info.data_offsets;
                    header.tensors.push(Entry {
                        name,
                        dtype: info.dtype,
                        shape: info.shape.0,
                        range: start..end,
                    });
                }
                Ok(header)
            }
        }
        d.deserialize_map(V)
    }
}

/// A shape of a bounded number of dimensions: what follows the last allowed one is not stored.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == MAX_DIMS {
                        return Err(A::Error::custom(format_args!("more than {MAX_DIMS} dimensions")));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }
        d.deserialize_seq(V)
    }
}

/// An object of strings. Entries over the cap are dropped: nothing depends on them.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while pairs.len() < MAX_METADATA {
                    match map.next_entry()? {
                        Some(pair) => pairs.push(pair),
                        None => return Ok(Pairs(pairs)),
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Pairs(pairs))
            }
        }
        d.deserialize_map(V)
    }
}
