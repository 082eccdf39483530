//! What C hands in and where it wants results, checked as far as that can be.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use super::status::GRAFT_NUL;
use super::{Fault, Outcome};
use crate::error::Error;

fn usage(item: &str, message: &str, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Fault {
    Error::usage(message).item(item).expected(expected).found(found).into()
}

/// Where a result goes.
#[must_use]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Writes it.
    pub fn put(self, value: T) {
        // SAFETY: `out` has checked what can be checked; the caller promises that it is writable.
        unsafe { self.0.write(value) };
    }
}

/// A result's place, called `item` in errors.
pub unsafe fn out<T>(to: *mut T, item: &str) -> Outcome<Out<T>> {
    checked(to, 1, item)?;
    Ok(Out(to))
}

/// A result's place that may be NULL.
pub unsafe fn maybe_out<T>(to: *mut T, item: &str) -> Outcome<Option<Out<T>>> {
    if to.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    unsafe { out(to, item) }.map(Some)
}

/// That `n` elements can be at `start`.
fn checked<T>(start: *const T, n: usize, item: &str) -> Outcome<()> {
    if start.is_null() {
        return Err(usage(item, "a pointer is missing", "a pointer", "NULL"));
    }
    if !start.is_aligned() {
        let expected = format_args!("an address that is a multiple of {}", align_of::<T>());
        return Err(usage(
            item,
            "a pointer is not aligned",
            expected,
            format_args!("{start:p}"),
        ));
    }
    let most = isize::MAX as usize / size_of::<T>().max(1);
    if n > most || start.addr().checked_add(n * size_of::<T>()).is_none() {
        return Err(usage(item, "too many", format_args!("at most {most}"), n));
    }
    Ok(())
}

/// `n` elements at `start`; NULL is allowed for none.
pub unsafe fn slice<'a, T>(start: *const T, n: usize, item: &str) -> Outcome<&'a [T]> {
    if n == 0 {
        return Ok(&[]);
    }
    checked(start, n, item)?;
    // SAFETY: not NULL, aligned, of a possible length; the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(start, n) })
}

/// `n` weights; NULL for 1 each.
pub unsafe fn weights<'a>(start: *const f32, n: usize) -> Outcome<impl Iterator<Item = f32> + 'a> {
    let given = match start.is_null() {
        true => None,
        // SAFETY: as the caller promises.
        false => Some(unsafe { slice(start, n, "weights") }?),
    };
    Ok((0..n).map(move |i| given.map_or(1.0, |w| w[i])))
}

/// As [`slice`], to be written.
pub unsafe fn slice_mut<'a, T>(start: *mut T, n: usize, item: &str) -> Outcome<&'a mut [T]> {
    if n == 0 {
        return Ok(&mut []);
    }
    checked(start, n, item)?;
    // SAFETY: as in `slice`.
    Ok(unsafe { std::slice::from_raw_parts_mut(start, n) })
}

/// The bytes of a text of `len` bytes, or up to its NUL.
unsafe fn bytes<'a>(start: *const c_char, len: usize, item: &str) -> Outcome<&'a [u8]> {
    if len == GRAFT_NUL {
        checked(start, 1, item)?;
        // SAFETY: the caller promises that it ends with a NUL.
        return Ok(unsafe { CStr::from_ptr(start) }.to_bytes());
    }
    // SAFETY: as the caller promises.
    unsafe { slice(start.cast(), len, item) }
}

/// A text of `len` bytes, or up to its NUL; NULL is allowed for none.
pub unsafe fn text<'a>(start: *const c_char, len: usize, item: &str) -> Outcome<&'a str> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { bytes(start, len, item) }?;
    std::str::from_utf8(bytes).map_err(|e| {
        let found = format_args!("a wrong byte at {}", e.valid_up_to()).to_string();
        usage(item, "the text is not UTF-8", "UTF-8", found)
    })
}

/// As [`text`]; NULL is none, whatever its length.
pub unsafe fn maybe_text<'a>(start: *const c_char, len: usize, item: &str) -> Outcome<Option<&'a str>> {
    if start.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    unsafe { text(start, len, item) }.map(Some)
}

/// A path: UTF-8, on Unix any bytes.
pub unsafe fn path(start: *const c_char, len: usize, item: &str) -> Outcome<PathBuf> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { bytes(start, len, item) }?;
    if bytes.is_empty() {
        return Err(usage(item, "the path is empty", "a path", "no text"));
    }
    if bytes.contains(&0) {
        return Err(usage(
            item,
            "the path has a NUL in it",
            "a path",
            "a NUL before its end",
        ));
    }
    #[cfg(unix)]
    return Ok(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)));
    #[cfg(not(unix))]
    // SAFETY: as the caller promises.
    return unsafe { text(start, len, item) }.map(PathBuf::from);
}

#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;

/// One of the numbers that stand for something, in a field or argument.
pub fn one_of<T: Copy>(value: i32, item: &str, meanings: &[(i32, T)]) -> Outcome<T> {
    let found = meanings.iter().find(|(number, _)| *number == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<_> = meanings.iter().map(|(number, _)| number.to_string()).collect();
        usage(item, "no such choice", known.join(", "), value)
    })
}

/// A size that fits this machine.
pub fn size(value: u64, item: &str) -> Outcome<usize> {
    usize::try_from(value).map_err(|_| usage(item, "too large", format_args!("at most {}", usize::MAX), value))
}

/// A struct whose first field says how much of it the caller knows.
///
/// # Safety
/// The type is `repr(C)`, begins with `struct_size: usize`, and any bytes are a value of it. It has no padding where pointers have 64 bits
/// (a field that is put there later would not be seen by its size): where there would be some, a field is reserved.
pub unsafe trait Extensible: Copy {
    /// What errors call it.
    const NAME: &'static str;
    /// Its size in the first version of the interface: callers know at least this.
    const FIRST: usize;
    /// The values of fields that the caller does not know, or leaves alone.
    fn defaults() -> Self;
}

/// The most that a struct may say of its size: more is a field that was never set.
const MOST: usize = 4096;

unsafe fn struct_size<T: Extensible>(at: *const T) -> Outcome<usize> {
    checked(at, 1, T::NAME)?;
    // SAFETY: the struct begins with it, as the trait promises.
    let size = unsafe { at.cast::<usize>().read() };
    if size < T::FIRST || size > MOST || size % align_of::<T>() != 0 {
        let expected = format_args!("sizeof({}), {} here", T::NAME, size_of::<T>());
        return Err(usage("struct_size", "the size of a struct is wrong", expected, size));
    }
    Ok(size)
}

/// The options that the caller set; NULL for the defaults.
pub unsafe fn options<T: Extensible>(at: *const T) -> Outcome<T> {
    let mut options = T::defaults();
    if at.is_null() {
        return Ok(options);
    }
    // SAFETY: as the caller promises.
    let size = unsafe { struct_size(at) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are there and fit; any bytes are a value, as the trait promises.
    unsafe { std::ptr::copy_nonoverlapping(at.cast::<u8>(), (&raw mut options).cast::<u8>(), known) };
    // SAFETY: `size` bytes are there, as the caller says by `struct_size`.
    let more = unsafe { slice(at.cast::<u8>().wrapping_add(known), size - known, T::NAME) }?;
    if more.iter().any(|byte| *byte != 0) {
        let e = Error::unsupported("an option is set that this version of the library does not know");
        return Err(e
            .item(T::NAME)
            .expected(format_args!("at most {} bytes in use", size_of::<T>()))
            .found(size)
            .into());
    }
    Ok(options)
}

/// Writes the defaults to where the caller has `size` bytes.
pub unsafe fn init<T: Extensible>(to: *mut T, size: usize) {
    let known = size.min(size_of::<T>());
    if to.is_null() || !to.is_aligned() || known < size_of::<usize>() {
        return;
    }
    let defaults = T::defaults();
    // SAFETY: the caller promises `size` writable bytes. The size goes first, also where the rest is longer than what we know of it.
    unsafe {
        std::ptr::write_bytes(to.cast::<u8>(), 0, size.min(MOST));
        std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), to.cast::<u8>(), known);
        to.cast::<usize>().write(size);
    }
}

/// Where a struct of facts goes, as much of it as the caller knows.
#[must_use]
pub struct Facts<T>(*mut T, usize);

impl<T: Extensible> Facts<T> {
    /// Writes it; its own `struct_size` stays.
    pub fn put(self, value: T) {
        let skip = size_of::<usize>();
        let known = self.1.min(size_of::<T>()) - skip;
        // SAFETY: `facts` has checked the size, and the caller promises that so much is writable.
        unsafe {
            let to = self.0.cast::<u8>().add(skip);
            std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>().add(skip), to, known);
        }
    }
}

/// A struct of facts that is to be written, with its `struct_size` set.
pub unsafe fn facts<T: Extensible>(to: *mut T) -> Outcome<Facts<T>> {
    // SAFETY: as the caller promises.
    let size = unsafe { struct_size(to) }?;
    Ok(Facts(to, size))
}

/// As [`facts`]; NULL is none.
pub unsafe fn maybe_facts<T: Extensible>(to: *mut T) -> Outcome<Option<Facts<T>>> {
    if to.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    unsafe { facts(to) }.map(Some)
}
