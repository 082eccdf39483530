//! GGUF metadata: typed key/values that stay in the file and are read where they are asked for.
//!
//! Opening walks over every value once to check it against the length of the file and to note where it starts. The
//! vocabulary of a model (262,144 strings are common) is therefore never copied, and anonymous memory stays small.

use std::fmt;

use super::Mapping;
use super::cursor::{Cursor, Fault};
use crate::error::{Error, Result};

/// Key/value pairs in one file. Real files have fewer than a hundred.
pub(super) const MAX_ENTRIES: u64 = 1 << 16;
/// The longest key, from the format's specification.
pub(super) const MAX_KEY_BYTES: usize = 65535;
/// Bytes of a key's length.
const KEY_LENGTH_BYTES: usize = 8;
/// Arrays of arrays: nothing in use has more than one level.
const MAX_NESTING: usize = 4;
/// Key length (8), a key of one byte, type (4), the smallest value (1).
const MIN_ENTRY_BYTES: u64 = 14;

/// The type of a metadata value. The discriminant is its id in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueType {
    /// 8 bits, unsigned.
    U8 = 0,
    /// 8 bits, signed.
    I8 = 1,
    /// 16 bits, unsigned.
    U16 = 2,
    /// 16 bits, signed.
    I16 = 3,
    /// 32 bits, unsigned.
    U32 = 4,
    /// 32 bits, signed.
    I32 = 5,
    /// IEEE 754 single.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// Length and UTF-8 bytes.
    Str = 8,
    /// Element type, count, elements.
    Array = 9,
    /// 64 bits, unsigned.
    U64 = 10,
    /// 64 bits, signed.
    I64 = 11,
    /// IEEE 754 double.
    F64 = 12,
}

use ValueType as T;

impl ValueType {
    /// The type with this id in a file.
    fn from_id(id: u32) -> Result<Self, Fault> {
        const ALL: [T; 13] = [
            T::U8,
            T::I8,
            T::U16,
            T::I16,
            T::U32,
            T::I32,
            T::F32,
            T::Bool,
            T::Str,
            T::Array,
            T::U64,
            T::I64,
            T::F64,
        ];
        usize::try_from(id)
            .ok()
            .and_then(|i| ALL.get(i))
            .copied()
            .ok_or(Fault::ValueType(id))
    }

    /// Its id in a file.
    #[expect(
        clippy::as_conversions,
        reason = "the discriminant of a fieldless enum has no other way out"
    )]
    pub(super) fn id(self) -> u32 {
        u32::from(self as u8)
    }

    /// Bytes of one value, where that is fixed.
    fn size(self) -> Option<u64> {
        match self {
            T::U8 | T::I8 | T::Bool => Some(1),
            T::U16 | T::I16 => Some(2),
            T::U32 | T::I32 | T::F32 => Some(4),
            T::U64 | T::I64 | T::F64 => Some(8),
            T::Str | T::Array => None,
        }
    }

    /// Whether it is one of the eight integer types.
    fn is_int(self) -> bool {
        !matches!(self, T::F32 | T::F64 | T::Bool | T::Str | T::Array)
    }

    /// Its name, as Rust spells it (`u32`, `str`, …).
    pub fn name(self) -> &'static str {
        match self {
            T::U8 => "u8",
            T::I8 => "i8",
            T::U16 => "u16",
            T::I16 => "i16",
            T::U32 => "u32",
            T::I32 => "i32",
            T::F32 => "f32",
            T::Bool => "bool",
            T::Str => "str",
            T::Array => "array",
            T::U64 => "u64",
            T::I64 => "i64",
            T::F64 => "f64",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value. It prints in a short form: numbers in full, text on one line and cut, arrays as `[n × type]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// Any unsigned integer.
    Uint(u64),
    /// Any signed integer.
    Int(i64),
    /// An f32.
    F32(f32),
    /// An f64.
    F64(f64),
    /// A bool.
    Bool(bool),
    /// Text, borrowed from the file.
    Str(&'a str),
    /// An array, which stays in the file; [`Metadata::strs`] and its like read it.
    Array {
        /// The type of its elements.
        element: ValueType,
        /// How many.
        len: usize,
    },
}

impl ValueRef<'_> {
    /// The value as JSON; of an array, which stays in the file, `{"array_of": type, "length": n}`. What JSON has no number for (NaN,
    /// infinities) is null.
    pub fn json(self) -> serde_json::Value {
        match self {
            ValueRef::Uint(v) => v.into(),
            ValueRef::Int(v) => v.into(),
            ValueRef::F32(v) => v.into(),
            ValueRef::F64(v) => v.into(),
            ValueRef::Bool(v) => v.into(),
            ValueRef::Str(v) => v.into(),
            ValueRef::Array { element, len } => serde_json::json!({"array_of": element.name(), "length": len}),
        }
    }
}

impl fmt::Display for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST_TEXT: usize = 120;
        match self {
            ValueRef::Uint(v) => v.fmt(f),
            ValueRef::Int(v) => v.fmt(f),
            ValueRef::F32(v) => v.fmt(f),
            ValueRef::F64(v) => v.fmt(f),
            ValueRef::Bool(v) => v.fmt(f),
            ValueRef::Array { element, len } => write!(f, "[{len} × {element}]"),
            ValueRef::Str(text) => {
                for (n, c) in text.chars().enumerate() {
                    match c {
                        _ if n == LONGEST_TEXT => return f.write_str("…"),
                        c if c.is_control() => write!(f, "{}", c.escape_default())?,
                        c => fmt::Write::write_char(f, c)?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// Where a pair lies in the file. Kept small and without heap memory: a hostile file can hold many.
struct Entry {
    key_at: usize,
    key_len: usize,
    /// Of the value; for an array, of its first element.
    at: usize,
    /// Elements of an array.
    len: usize,
    kind: ValueType,
    /// Type of an array's elements.
    element: ValueType,
}

/// Metadata key/values. Arrays stay in the file and are read on demand.
///
/// Getters that return `Option` give `None` where the key is absent and an error (file, key, expected, found)
/// where it has another type; the `need_*` forms make absence an error too.
pub struct Metadata {
    file: Mapping,
    /// In file order.
    entries: Vec<Entry>,
    /// Indices of `entries`, sorted by key.
    by_key: Vec<u32>,
    /// Where the last pair ends.
    end: usize,
}

impl Metadata {
    /// Checks `count` pairs at `cursor` and moves it behind them.
    pub(super) fn parse(file: &Mapping, cursor: &mut Cursor<'_>, count: u64) -> Result<Self> {
        let path = file.path();
        if count > MAX_ENTRIES {
            return Err(Error::limit("too many metadata keys")
                .file(path)
                .item("metadata count")
                .expected(format_args!("at most {MAX_ENTRIES}"))
                .found(count));
        }
        cursor
            .could_hold(count, MIN_ENTRY_BYTES)
            .map_err(|e| e.error(path, "metadata count"))?;
        let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for n in 0..count {
            entries.push(parse_entry(file, cursor, n)?);
        }
        let mut meta = Metadata {
            file: file.clone(),
            entries,
            by_key: Vec::new(),
            end: cursor.at(),
        };
        let mut by_key: Vec<u32> = (0..).take(meta.entries.len()).collect();
        by_key.sort_unstable_by_key(|&i| meta.key(i));
        if let Some(&[_, twice]) = by_key
            .windows(2)
            .find(|w| matches!(w, &&[a, b] if meta.key(a) == meta.key(b)))
        {
            return Err(Error::invalid("the metadata key stands twice in the file")
                .file(path)
                .item(String::from_utf8_lossy(meta.key(twice))));
        }
        meta.by_key = by_key;
        Ok(meta)
    }

    /// The bytes of the key of entry `index`.
    fn key(&self, index: u32) -> &[u8] {
        let entry = usize::try_from(index).ok().and_then(|i| self.entries.get(i));
        entry.map_or(&[], |e| self.key_of(e))
    }

    fn key_of(&self, e: &Entry) -> &[u8] {
        self.file
            .bytes()
            .get(e.key_at..)
            .and_then(|rest| rest.get(..e.key_len))
            .unwrap_or_default()
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        let at = self
            .by_key
            .binary_search_by(|&i| self.key(i).cmp(key.as_bytes()))
            .ok()?;
        self.entries.get(usize::try_from(*self.by_key.get(at)?).ok()?)
    }

    /// An error about `key`, for those who find its value unfit.
    pub fn error(&self, e: Error, key: &str) -> Error {
        e.file(self.file.path()).item(key)
    }

    fn missing(&self, key: &str, expected: &str) -> Error {
        self.error(Error::invalid("the metadata key is missing").expected(expected), key)
    }

    fn fault(&self, fault: Fault, key: &str) -> Error {
        fault.error(self.file.path(), key)
    }

    fn wrong(&self, key: &str, expected: &str, found: ValueRef<'_>) -> Error {
        let e = Error::invalid("the metadata value has the wrong type or range").expected(expected);
        let e = match found {
            ValueRef::Str(_) => e.found(format_args!("\"{found}\"")),
            ValueRef::F32(_) | ValueRef::F64(_) => e.found(format_args!("the float {found}")),
            _ => e.found(found),
        };
        self.error(e, key)
    }

    fn value(&self, e: &Entry) -> Result<ValueRef<'_>, Fault> {
        match e.kind {
            T::Array => Ok(ValueRef::Array {
                element: e.element,
                len: e.len,
            }),
            kind => scalar(&mut Cursor::new(self.file.bytes(), e.at), kind),
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `key` is there, with whatever type.
    pub fn contains(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The value of `key`, with whatever type.
    pub fn get(&self, key: &str) -> Result<Option<ValueRef<'_>>> {
        self.find(key)
            .map(|e| self.value(e))
            .transpose()
            .map_err(|f| self.fault(f, key))
    }

    /// All pairs in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ValueRef<'_>)> {
        // Both were checked at opening; they fail only if the file was changed under its map.
        self.entries
            .iter()
            .filter_map(|e| Some((std::str::from_utf8(self.key_of(e)).ok()?, self.value(e).ok()?)))
    }

    /// All pairs as they lie in the file, in file order: the key, and the bytes of the pair (key, type and value with their
    /// lengths), which mean the same in another file.
    pub(super) fn raw(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // Pairs lie without holes, so that each ends where the length of the next one's key starts.
        let starts = self.entries.iter().map(|e| e.key_at.saturating_sub(KEY_LENGTH_BYTES));
        let ends = starts.clone().skip(1).chain([self.end]);
        let pairs = starts
            .zip(ends)
            .map(|(from, to)| self.file.bytes().get(from..to).unwrap_or_default());
        self.entries.iter().map(|e| self.key_of(e)).zip(pairs)
    }

    /// `get`, where `pick` chooses what is wanted and otherwise the error says what was expected.
    fn pick<'a, R>(
        &'a self,
        key: &str,
        expected: &str,
        pick: impl FnOnce(ValueRef<'a>) -> Option<R>,
    ) -> Result<Option<R>> {
        match self.get(key)? {
            None => Ok(None),
            Some(value) => pick(value).map(Some).ok_or_else(|| self.wrong(key, expected, value)),
        }
    }

    /// Reads the array `key`, whose element type `fits`, through `pick`; `expected` words both for the error.
    fn pick_all<'a, R>(
        &'a self,
        key: &str,
        expected: &str,
        fits: impl FnOnce(ValueType) -> bool,
        pick: impl Fn(ValueRef<'a>) -> Option<R>,
    ) -> Result<Option<Vec<R>>> {
        let Some(e) = self.find(key) else { return Ok(None) };
        if e.kind != T::Array || !fits(e.element) {
            let found = self.value(e).map_err(|f| self.fault(f, key))?;
            return Err(self.wrong(key, expected, found));
        }
        let mut cursor = Cursor::new(self.file.bytes(), e.at);
        let mut all = Vec::with_capacity(e.len);
        for n in 0..e.len {
            let item = || format!("{key}[{n}]");
            let value = scalar(&mut cursor, e.element).map_err(|f| self.fault(f, &item()))?;
            all.push(pick(value).ok_or_else(|| self.wrong(&item(), expected, value))?);
        }
        Ok(Some(all))
    }

    /// Any unsigned or non-negative signed integer type, as `usize`.
    pub fn usize(&self, key: &str) -> Result<Option<usize>> {
        self.pick(key, "a non-negative integer", |v| match v {
            ValueRef::Uint(v) => usize::try_from(v).ok(),
            ValueRef::Int(v) => usize::try_from(v).ok(),
            _ => None,
        })
    }

    /// As [`Metadata::usize`], required.
    pub fn need_usize(&self, key: &str) -> Result<usize> {
        self.usize(key)?
            .ok_or_else(|| self.missing(key, "a non-negative integer"))
    }

    /// f32 or f64 (finite), as `f32`.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.pick(key, "a finite float", |v| float(v).filter(|v| v.is_finite()))
    }

    /// As [`Metadata::f32`], required.
    pub fn need_f32(&self, key: &str) -> Result<f32> {
        self.f32(key)?.ok_or_else(|| self.missing(key, "a finite float"))
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.pick(
            key,
            "a bool",
            |v| if let ValueRef::Bool(v) = v { Some(v) } else { None },
        )
    }

    /// A UTF-8 string.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.pick(
            key,
            "a string",
            |v| if let ValueRef::Str(v) = v { Some(v) } else { None },
        )
    }

    /// As [`Metadata::str`], required.
    pub fn need_str(&self, key: &str) -> Result<&str> {
        self.str(key)?.ok_or_else(|| self.missing(key, "a string"))
    }

    /// An array of UTF-8 strings, borrowed from the file.
    pub fn strs(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let text = |v| if let ValueRef::Str(v) = v { Some(v) } else { None };
        self.pick_all(key, "an array of strings", |t| t == T::Str, text)
    }

    /// An array of any integer type, as `i64`.
    pub fn ints(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.pick_all(key, "an array of integers up to 2^63 - 1", T::is_int, |v| match v {
            ValueRef::Uint(v) => i64::try_from(v).ok(),
            ValueRef::Int(v) => Some(v),
            _ => None,
        })
    }

    /// An array of f32/f64, as `f32`. Infinities and NaN are handed on.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.pick_all(key, "an array of floats", |t| matches!(t, T::F32 | T::F64), float)
    }

    /// An array of bools or of integers 0 and 1; a scalar of these types gives one entry, which the caller repeats:
    /// per-layer facts come in both forms.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        const EXPECTED: &str = "bools (or integers 0 and 1)";
        let bit = |v: ValueRef<'_>| match v {
            ValueRef::Bool(v) => Some(v),
            ValueRef::Uint(0) | ValueRef::Int(0) => Some(false),
            ValueRef::Uint(1) | ValueRef::Int(1) => Some(true),
            _ => None,
        };
        if self.is_array(key) {
            self.pick_all(key, EXPECTED, |t| t == T::Bool || t.is_int(), bit)
        } else {
            Ok(self.pick(key, EXPECTED, bit)?.map(|v| vec![v]))
        }
    }

    /// The value as JSON, arrays in full. What JSON has no number for (NaN, infinities) is null.
    pub fn json(&self, key: &str) -> Result<Option<serde_json::Value>> {
        if self.is_array(key) {
            let all = self.pick_all(key, "a value", |_| true, |v| Some(v.json()))?;
            return Ok(all.map(serde_json::Value::Array));
        }
        Ok(self.get(key)?.map(ValueRef::json))
    }

    /// Whether `key` is there and is an array (per-layer facts come as a number or as an array of numbers).
    pub fn is_array(&self, key: &str) -> bool {
        self.find(key).is_some_and(|e| e.kind == T::Array)
    }
}

/// The number, narrowed to f32 (rounded; too large becomes infinite).
fn float(v: ValueRef<'_>) -> Option<f32> {
    match v {
        ValueRef::F32(v) => Some(v),
        #[expect(clippy::as_conversions, reason = "rounding f64 to f32 is the purpose")]
        ValueRef::F64(v) => Some(v as f32),
        _ => None,
    }
}

/// Reads a value that is no array.
fn scalar<'a>(c: &mut Cursor<'a>, kind: ValueType) -> Result<ValueRef<'a>, Fault> {
    Ok(match kind {
        T::U8 => ValueRef::Uint(u8::from_le_bytes(c.array()?).into()),
        T::I8 => ValueRef::Int(i8::from_le_bytes(c.array()?).into()),
        T::U16 => ValueRef::Uint(u16::from_le_bytes(c.array()?).into()),
        T::I16 => ValueRef::Int(i16::from_le_bytes(c.array()?).into()),
        T::U32 => ValueRef::Uint(c.u32()?.into()),
        T::I32 => ValueRef::Int(i32::from_le_bytes(c.array()?).into()),
        T::U64 => ValueRef::Uint(c.u64()?),
        T::I64 => ValueRef::Int(i64::from_le_bytes(c.array()?)),
        T::F32 => ValueRef::F32(f32::from_le_bytes(c.array()?)),
        T::F64 => ValueRef::F64(f64::from_le_bytes(c.array()?)),
        T::Bool => match c.array()? {
            [0] => ValueRef::Bool(false),
            [1] => ValueRef::Bool(true),
            [byte] => return Err(Fault::Bool(byte)),
        },
        T::Str => ValueRef::Str(c.str()?),
        // Arrays of arrays have no reader: no key in use is one.
        T::Array => return Err(Fault::Nesting(1)),
    })
}

/// Checks pair number `n` and moves behind it.
fn parse_entry(file: &Mapping, cursor: &mut Cursor<'_>, n: u64) -> Result<Entry> {
    let path = file.path();
    let number = || format!("metadata key {n}");
    let key = cursor.str().map_err(|e| e.error(path, number()))?;
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Error::invalid("a metadata key has a wrong length")
            .file(path)
            .item(number())
            .expected(format_args!("1 to {MAX_KEY_BYTES} bytes"))
            .found(key.len()));
    }
    let key_at = cursor.at() - key.len();
    let mut value = || {
        let kind = T::from_id(cursor.u32()?)?;
        let (element, len) = if kind == T::Array {
            array_head(cursor)?
        } else {
            (kind, 1)
        };
        let at = cursor.at();
        match kind {
            T::Array => skip(cursor, element, len, 1)?,
            kind => drop(scalar(cursor, kind)?),
        }
        // The elements are in the file, so that their count fits the address space.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Entry {
            key_at,
            key_len: key.len(),
            at,
            len,
            kind,
            element,
        })
    };
    value().map_err(|e: Fault| e.error(path, key))
}

fn array_head(cursor: &mut Cursor<'_>) -> Result<(ValueType, u64), Fault> {
    Ok((T::from_id(cursor.u32()?)?, cursor.u64()?))
}

/// Moves behind `count` elements of an array at `level`, checking that they are all there.
fn skip(cursor: &mut Cursor<'_>, element: ValueType, count: u64, level: usize) -> Result<(), Fault> {
    // A string is at least its length, an array at least its type and count.
    let least = element.size().unwrap_or(if element == T::Str { 8 } else { 12 });
    cursor.could_hold(count, least)?;
    match element {
        T::Str => {
            for _ in 0..count {
                cursor.string()?;
            }
        }
        T::Array if level == MAX_NESTING => return Err(Fault::Nesting(MAX_NESTING)),
        T::Array => {
            for _ in 0..count {
                let (inner, len) = array_head(cursor)?;
                skip(cursor, inner, len, level + 1)?;
            }
        }
        _ => drop(cursor.take(count.saturating_mul(least))?),
    }
    Ok(())
}
