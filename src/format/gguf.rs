//! GGUF v2/v3, little-endian, one file or split.
//!
//! ```text
//! "GGUF"  version u32  tensor count u64  metadata count u64
//! metadata pairs: key, type, value
//! tensor infos: name, dims, type, offset
//! padding to general.alignment, then the data that the offsets point into
//! ```

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::cursor::{Cursor, Fault};
use super::{LoadMode, Mapping};
use crate::error::{Error, Result};
use crate::quant::{BlockFormat, ggml_type_name};

pub use super::metadata::Metadata;

/// Tensors in one file. The largest models have some ten thousand.
pub(super) const MAX_TENSORS: u64 = 1 << 20;
/// Bytes of a tensor's name. ggml allows 63; some converters write more.
pub(super) const MAX_NAME_BYTES: usize = 256;
/// Dimensions of a tensor.
pub(super) const MAX_DIMS: u32 = 4;
/// Where `general.alignment` is absent.
pub(super) const DEFAULT_ALIGNMENT: usize = 32;
/// Name length (8), a name of one byte, number of dims (4), one dim (8), type (4), offset (8).
const MIN_INFO_BYTES: u64 = 33;

/// Where one tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name in the file.
    pub name: String,
    /// Dimensions as in the file: the fastest-varying first, so a matrix is `[cols, rows]`. 1 to 4 of them, none zero.
    pub dims: Vec<usize>,
    /// Block format of the data.
    pub format: BlockFormat,
    /// Which of the split files holds it.
    pub part: usize,
    /// Byte range within that file, already checked against its length.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Number of elements: the product of the dims, which opening has checked for overflow.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// An opened model file: checked directory of tensors, metadata, and the bytes.
pub struct Gguf {
    /// One a file; the first has the metadata.
    parts: Vec<Mapping>,
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Indices of `tensors`, sorted by name.
    by_name: Vec<usize>,
}

impl Gguf {
    /// Opens `path`; for `NAME-00001-of-0000N.gguf` all N parts beside it, whichever of them `path` is.
    pub fn open(path: &Path, mode: LoadMode) -> Result<Self> {
        let Some(split) = SplitName::of(path) else {
            return Self::whole(Mapping::open(path, mode)?, |n| {
                Error::invalid("this is one part of a split model and was renamed")
                    .expected(format_args!("a name like NAME-00001-of-{n:05}.gguf"))
                    .found(path.file_name().unwrap_or_default().display())
            });
        };
        let open = |part| {
            Mapping::open(&split.part(part), mode)
                .map_err(|e| e.item(format!("part {part} of {} of a split model", split.count)))
        };
        Self::from_parts((1..=split.count).map(open).collect::<Result<_>>()?)
    }

    /// Opens what lies in `file` from byte `offset` on, `len` bytes or all: a file within a bundle of an app. Any
    /// offset will do.
    ///
    /// # Errors
    /// As [`Mapping::of_file`], a broken file, and a part of a split model.
    pub fn of_file(file: File, offset: u64, len: Option<u64>, mode: LoadMode) -> Result<Self> {
        Self::whole(Mapping::of_file(file, offset, len, mode)?, not_by_path)
    }

    /// Opens bytes in memory: they are kept, not copied, and dropped when nothing that was made of them is left;
    /// `as_ref` must give the same ones at each call. Errors call them "memory".
    ///
    /// # Errors
    /// No bytes, a broken file, and a part of a split model.
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        Self::whole(Mapping::from_bytes(Path::new("memory"), bytes)?, not_by_path)
    }

    /// A model in one file; `part` makes the error for one that says to be one of this many.
    fn whole(file: Mapping, part: impl FnOnce(usize) -> Error) -> Result<Self> {
        let gguf = Self::from_parts(vec![file])?;
        match gguf.metadata.usize("split.count")? {
            None | Some(0 | 1) => Ok(gguf),
            Some(n) => Err(part(n).file(gguf.path()).item("split.count")),
        }
    }

    /// Whether a file is at `path` that begins as GGUF does.
    pub fn is_at(path: &Path) -> bool {
        // Not a pipe, which would wait for somebody to write.
        let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let mut magic = [0; 4];
        is_file
            && std::fs::File::open(path).is_ok_and(|mut file| std::io::Read::read_exact(&mut file, &mut magic).is_ok())
            && &magic == b"GGUF"
    }

    fn from_parts(parts: Vec<Mapping>) -> Result<Self> {
        let mut tensors = Vec::new();
        let mut first = None;
        for (n, file) in parts.iter().enumerate() {
            let (version, metadata) = parse_part(file, n, &mut tensors)?;
            if parts.len() > 1 {
                check_split_keys(&metadata, n, parts.len())?;
            }
            first.get_or_insert((version, metadata));
        }
        let Some((version, metadata)) = first else {
            return Err(Error::internal("a GGUF file of no parts"));
        };
        if parts.len() > 1 {
            let total = metadata.need_usize("split.tensors.count")?;
            if total != tensors.len() {
                let e = Error::invalid("the parts do not hold all tensors of the model");
                return Err(metadata.error(e.expected(total).found(tensors.len()), "split.tensors.count"));
            }
        }
        let by_name = sorted_names(&parts, &tensors)?;
        Ok(Gguf {
            parts,
            version,
            metadata,
            tensors,
            by_name,
        })
    }

    /// The path that was opened (of the first part); for what has no path a name such as "memory".
    pub fn path(&self) -> &Path {
        self.parts.first().map_or(Path::new(""), Mapping::path)
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The files it consists of, usually one.
    pub fn parts(&self) -> &[Mapping] {
        &self.parts
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let name_of = |&i: &usize| self.tensors.get(i).map_or("", |t| t.name.as_str());
        let at = self.by_name.binary_search_by(|i| name_of(i).cmp(name)).ok()?;
        self.by_name.get(at).and_then(|&i| self.tensors.get(i))
    }

    /// The mapping that holds a tensor (cheap to clone; keep it to keep the bytes alive).
    ///
    /// Panics if `t` comes from a model of more parts than this one has.
    pub fn mapping(&self, t: &TensorInfo) -> &Mapping {
        &self.parts[t.part]
    }

    /// A tensor's bytes, at any alignment. Panics if `t` comes from a larger model than this one.
    pub fn data(&self, t: &TensorInfo) -> &[u8] {
        &self.mapping(t).bytes()[t.range.clone()]
    }
}

/// The error for a part of a model in `count` files that was not opened by its path.
fn not_by_path(count: usize) -> Error {
    Error::unsupported("a part of a split model that is not opened by its path, beside the others")
        .expected("a model in one file")
        .found(format_args!("one of {count} files"))
}

/// Checks file number `part` from its first byte to the end of its tensor directory, and appends its tensors.
fn parse_part(file: &Mapping, part: usize, tensors: &mut Vec<TensorInfo>) -> Result<(u32, Metadata)> {
    let path = file.path();
    let mut cursor = Cursor::new(file.bytes(), 0);
    let fault = |item: &'static str| move |e: Fault| e.error(path, item);
    let version = check_start(&mut cursor, path)?;
    let count = cursor.u64().map_err(fault("tensor count"))?;
    let pairs = cursor.u64().map_err(fault("metadata count"))?;
    let metadata = Metadata::parse(file, &mut cursor, pairs)?;
    let alignment = alignment(&metadata)?;
    if count > MAX_TENSORS {
        let e = Error::limit("too many tensors")
            .expected(format_args!("at most {MAX_TENSORS}"))
            .found(count);
        return Err(e.file(path).item("tensor count"));
    }
    cursor
        .could_hold(count, MIN_INFO_BYTES)
        .map_err(fault("tensor count"))?;

    let before = tensors.len();
    tensors.reserve_exact(usize::try_from(count).unwrap_or(0));
    for n in 0..count {
        tensors.push(parse_info(path, &mut cursor, part, n)?);
    }
    // An alignment so large that the data would start behind the address space leaves room for no tensor.
    let start = cursor.at().checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    let new = tensors.get_mut(before..).unwrap_or_default();
    for t in new.iter_mut() {
        place(t, start, alignment, file)?;
    }
    check_overlap(path, new)?;
    Ok((version, metadata))
}

/// Checks magic and version.
fn check_start(cursor: &mut Cursor<'_>, path: &Path) -> Result<u32> {
    let fault = |item: &'static str| move |e: Fault| e.error(path, item);
    let magic = cursor.array().map_err(fault("magic"))?;
    let not_gguf = |what: &str| {
        Error::invalid("not a GGUF file")
            .file(path)
            .expected("it to start with GGUF")
            .found(what)
    };
    match &magic {
        b"GGUF" => {}
        b"FUGG" => return Err(big_endian(path)),
        b"lmgg" | b"fmgg" | b"tjgg" | b"algg" => {
            return Err(
                Error::unsupported("a ggml file from before GGUF; convert it, or fetch the model as GGUF").file(path),
            );
        }
        b"PK\x03\x04" => return Err(not_gguf("a zip archive (a PyTorch checkpoint?)")),
        other => return Err(not_gguf(&format!("\"{}\"", other.escape_ascii()))),
    }
    match cursor.u32().map_err(fault("version"))? {
        version @ (2 | 3) => Ok(version),
        1 => Err(
            Error::unsupported("GGUF version 1, which nothing has written since 2023; convert the model again")
                .file(path)
                .item("version")
                .expected("2 or 3")
                .found(1),
        ),
        other if matches!(other.swap_bytes(), 1..=3) => Err(big_endian(path)),
        other => Err(Error::unsupported("this version of GGUF")
            .file(path)
            .item("version")
            .expected("2 or 3")
            .found(other)),
    }
}

fn big_endian(path: &Path) -> Error {
    Error::unsupported("a big-endian GGUF file; convert it to little-endian")
        .file(path)
        .item("version")
}

/// What the offsets of tensors are multiples of.
pub(super) fn alignment(metadata: &Metadata) -> Result<usize> {
    const KEY: &str = "general.alignment";
    match metadata.usize(KEY)? {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(n) if n.is_power_of_two() => Ok(n),
        Some(n) => Err(metadata.error(
            Error::invalid("wrong alignment").expected("a power of two").found(n),
            KEY,
        )),
    }
}

/// Reads the directory entry of tensor `n`. Its `range` is for [`place`] to finish: it starts at the stored offset.
fn parse_info(path: &Path, cursor: &mut Cursor<'_>, part: usize, n: u64) -> Result<TensorInfo> {
    let number = || format!("tensor {n}");
    let name = cursor.str().map_err(|e| e.error(path, number()))?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(Error::invalid("a tensor's name has a wrong length")
            .file(path)
            .item(number())
            .expected(format_args!("1 to {MAX_NAME_BYTES} bytes"))
            .found(name.len()));
    }
    let cut = |e: Fault| e.error(path, name);
    let bad = |e: Error| e.file(path).item(name);

    let rank = cursor.u32().map_err(cut)?;
    if !(1..=MAX_DIMS).contains(&rank) {
        return Err(bad(Error::invalid("wrong number of dimensions")
            .expected("1 to 4")
            .found(rank)));
    }
    let mut stored = Vec::with_capacity(4);
    for _ in 0..rank {
        stored.push(cursor.u64().map_err(cut)?);
    }
    let id = cursor.u32().map_err(cut)?;
    let offset = cursor.u64().map_err(cut)?;

    let dims = checked_dims(&stored).ok_or_else(|| {
        bad(Error::invalid("impossible dimensions")
            .expected("none zero, and a product below 2^63")
            .found(Shape(&stored)))
    })?;
    let format = BlockFormat::from_id(id).ok_or_else(|| {
        let name = ggml_type_name(id).unwrap_or("an unknown type");
        bad(Error::unsupported("the type of the tensor is not supported")
            .found(format_args!("{name} (ggml type {id})")))
    })?;
    // Blocks do not cross rows, so that the row length decides.
    let (row, block) = (dims.first().copied().unwrap_or(0), format.info().block_len);
    if !row.is_multiple_of(block) {
        return Err(bad(Error::invalid("the rows of the tensor are no whole blocks")
            .expected(format_args!("a multiple of {block}, the block of {}", format.name()))
            .found(format_args!("{row} columns"))));
    }
    let range = (|| {
        let bytes = dims
            .iter()
            .skip(1)
            .try_fold(format.bytes_for(row)?, |bytes, &dim| bytes.checked_mul(dim))?;
        let start = usize::try_from(offset).ok()?;
        Some(start..start.checked_add(bytes)?)
    })();
    let range = range.ok_or_else(|| {
        let e = Error::invalid("the tensor is larger than the address space");
        bad(e.found(format_args!("{} at offset {offset}", Shape(&stored))))
    })?;
    Ok(TensorInfo {
        name: name.to_owned(),
        dims,
        format,
        part,
        range,
    })
}

/// The dims as `usize`, if none is zero and their product stays below 2^63 (as in ggml) and the address space.
pub(super) fn checked_dims(stored: &[u64]) -> Option<Vec<usize>> {
    stored
        .iter()
        .try_fold(1i64, |product, &dim| product.checked_mul(i64::try_from(dim).ok()?))
        .filter(|&n| n > 0)?;
    let dims = stored
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect::<Option<Vec<_>>>()?;
    dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    Some(dims)
}

/// Moves the range of `t` from the data section to the file, and checks that it lies there.
fn place(t: &mut TensorInfo, start: usize, alignment: usize, file: &Mapping) -> Result<()> {
    if !t.range.start.is_multiple_of(alignment) {
        return Err(Error::invalid("the tensor is misaligned")
            .file(file.path())
            .item(&t.name)
            .expected(format_args!("an offset that is a multiple of {alignment}"))
            .found(t.range.start));
    }
    let len = file.bytes().len();
    match (start.checked_add(t.range.start), start.checked_add(t.range.end)) {
        (Some(from), Some(to)) if to <= len => {
            t.range = from..to;
            Ok(())
        }
        (_, to) => Err(
            Error::invalid("the tensor lies past the end of the file (a cut download, or a wrong offset)")
                .file(file.path())
                .item(&t.name)
                .expected(to.map_or("a length within the address space".to_owned(), |to| {
                    format!("{to} bytes in the file")
                }))
                .found(len),
        ),
    }
}

/// No two tensors of a file may share a byte.
fn check_overlap(path: &Path, tensors: &[TensorInfo]) -> Result<()> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_unstable_by_key(|t| t.range.start);
    for pair in order.windows(2) {
        if let [a, b] = pair
            && b.range.start < a.range.end
        {
            return Err(Error::invalid(format!("the tensor overlaps {}", a.name))
                .file(path)
                .item(&b.name)
                .expected(format_args!("its data from byte {}", a.range.end))
                .found(b.range.start));
        }
    }
    Ok(())
}

/// Indices of `tensors` by name; a name that stands twice is an error.
fn sorted_names(parts: &[Mapping], tensors: &[TensorInfo]) -> Result<Vec<usize>> {
    let name = |i: &usize| tensors.get(*i).map_or("", |t| t.name.as_str());
    let mut by_name: Vec<usize> = (0..tensors.len()).collect();
    by_name.sort_unstable_by_key(|i| name(i));
    match by_name
        .windows(2)
        .find(|w| matches!(w, [a, b] if name(a) == name(b)))
        .and_then(|w| tensors.get(*w.last()?))
    {
        None => Ok(by_name),
        Some(t) => {
            let e = Error::invalid("the tensor stands twice in the model").item(&t.name);
            Err(parts
                .get(t.part)
                .map_or(Error::internal("no such part"), |p| e.file(p.path())))
        }
    }
}

/// Checks what part number `n` (from zero) of `count` says about itself.
fn check_split_keys(metadata: &Metadata, n: usize, count: usize) -> Result<()> {
    for (key, expected) in [("split.count", count), ("split.no", n)] {
        let found = metadata.need_usize(key)?;
        if found != expected {
            let e = Error::invalid("the file is not the part of a split model that its name says");
            return Err(metadata.error(e.expected(expected).found(found), key));
        }
    }
    Ok(())
}

/// The name of a file of a split model, `NAME-00001-of-00003.gguf`.
pub(super) struct SplitName {
    /// Everything before the number, with the folder.
    prefix: PathBuf,
    count: u32,
}

impl SplitName {
    /// Takes the name apart; `None` for a model in one file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, no) = rest.rsplit_once('-')?;
        let number = |s: &str| {
            if s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit()) {
                s.parse().ok()
            } else {
                None
            }
        };
        let (no, count): (u32, u32) = (number(no)?, number(count)?);
        (count > 1 && (1..=count).contains(&no)).then(|| SplitName {
            prefix: path.with_file_name(prefix),
            count,
        })
    }

    /// The path of part `no`, from one.
    fn part(&self, no: u32) -> PathBuf {
        let mut path = self.prefix.clone().into_os_string();
        path.push(format!("-{no:05}-of-{:05}.gguf", self.count));
        path.into()
    }
}

/// Dimensions for error messages: `[64, 3]`.
struct Shape<'a>(&'a [u64]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
