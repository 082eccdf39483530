//! A little-endian reader over bytes that may be a lie: every step is checked against what is left.

use std::path::Path;

use crate::error::Error;

/// A position in the bytes of a file.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What a read can meet. Small, so that the happy path stays cheap; [`Fault::error`] words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end before what was to be read.
    Truncated { at: usize, need: u64, left: usize },
    /// A string that is not UTF-8, from this offset.
    Utf8 { at: usize },
    /// A bool that is neither 0 nor 1.
    Bool(u8),
    /// A number that stands for no type of metadata value.
    ValueType(u32),
    /// Arrays of arrays deeper than this.
    Nesting(usize),
}

impl Fault {
    /// The error for `item` of the file at `path`.
    pub(super) fn error(self, path: &Path, item: impl Into<String>) -> Error {
        let e = match self {
            Fault::Truncated { at, need, left } => {
                Error::invalid("the file ends too early (a cut download, or a wrong length or count before it)")
                    .expected(format_args!("{need} bytes at offset {at}"))
                    .found(format_args!("{left} bytes"))
            }
            Fault::Utf8 { at } => Error::invalid("the text is broken")
                .expected("UTF-8")
                .found(format_args!("other bytes at offset {at}")),
            Fault::Bool(byte) => Error::invalid("not a bool").expected("0 or 1").found(byte),
            Fault::ValueType(id) => Error::invalid("unknown type of value").expected("0 to 12").found(id),
            Fault::Nesting(cap) => {
                Error::limit("arrays of arrays are nested too deeply").expected(format_args!("at most {cap} levels"))
            }
        };
        e.file(path).item(item)
    }
}

impl<'a> Cursor<'a> {
    /// Starts at offset `at`; an offset past the end has nothing left.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    /// The offset in the file.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Fails unless `count` things of at least `size` bytes each could still follow.
    pub(super) fn could_hold(&self, count: u64, size: u64) -> Result<(), Fault> {
        let left = self.left();
        match count.checked_mul(size) {
            Some(need) if u64::try_from(left).is_ok_and(|left| need <= left) => Ok(()),
            need => Err(Fault::Truncated {
                at: self.at,
                need: need.unwrap_or(u64::MAX),
                left,
            }),
        }
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let taken = usize::try_from(len).ok().and_then(|len| {
            let end = self.at.checked_add(len)?;
            Some((self.bytes.get(self.at..end)?, end))
        });
        let (slice, end) = taken.ok_or(Fault::Truncated {
            at: self.at,
            need: len,
            left: self.left(),
        })?;
        self.at = end;
        Ok(slice)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(Fault::Truncated {
                at: self.at,
                need: u64::try_from(N).unwrap_or(u64::MAX),
                left: rest.len(),
            }),
        }
    }

    /// A `u32`.
    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    /// A `u64`.
    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes of a string: a `u64` length, then as many bytes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u64()?;
        self.take(len)
    }

    /// A UTF-8 string.
    pub(super) fn str(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.string()?;
        let start = self.at - bytes.len();
        std::str::from_utf8(bytes).map_err(|e| Fault::Utf8 {
            at: start + e.valid_up_to(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_refuses_what_is_not_there() {
        let mut bytes = 3u64.to_le_bytes().to_vec();
        bytes.extend(b"abc\x07\0\0\0!");
        let mut c = Cursor::new(&bytes, 0);
        assert_eq!(c.string().unwrap(), b"abc");
        assert_eq!(c.u32().unwrap(), 7);
        assert_eq!((c.at(), c.left()), (15, 1));
        assert!(c.u32().is_err() && c.u64().is_err() && c.take(u64::MAX).is_err() && c.take(2).is_err());
        assert!(c.could_hold(1, 1).is_ok() && c.could_hold(2, 1).is_err() && c.could_hold(u64::MAX, 8).is_err());
        assert_eq!(
            (c.at(), c.take(1).unwrap()),
            (15, &b"!"[..]),
            "a failed read does not move"
        );
        assert!(Cursor::new(&bytes, usize::MAX).take(1).is_err());
    }

    #[test]
    fn a_string_length_near_the_type_limit_does_not_wrap() {
        for len in [u64::MAX, u64::MAX - 7, 1 << 63, 9] {
            let mut bytes = len.to_le_bytes().to_vec();
            bytes.extend([0; 8]);
            assert!(Cursor::new(&bytes, 0).string().is_err(), "{len}");
        }
    }
}
