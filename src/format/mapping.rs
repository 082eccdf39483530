//! The only owner of file bytes: a read-only private memory map, the file read into memory, or bytes that the
//! application has in memory already.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};

/// How the bytes of a model file come into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadMode {
    /// Map the file: nothing is copied, pages are shared between processes and dropped under memory pressure.
    ///
    /// The file must not be changed while it is open: one that is shortened ends the process with SIGBUS at the
    /// first touch of a lost page, and one that is rewritten changes the weights under the model.
    ///
    /// On a platform without memory maps (WASI) this is the same as [`Read`](Self::Read).
    #[default]
    Map,
    /// Read the file into memory (`--no-mmap`): safe against a file that is changed or shortened while in use.
    Read,
}

/// Whether this platform maps files.
const MAPS: bool = cfg!(any(unix, windows));

/// The bytes of one file, shared and immutable. Cloning is cheap. No alignment of the start is promised.
#[derive(Clone)]
pub struct Mapping(Arc<Inner<dyn AsRef<[u8]> + Send + Sync>>);

struct Inner<B: ?Sized> {
    path: PathBuf,
    bytes: B,
}

impl Mapping {
    /// Opens `path`. A directory, a pipe or device, an empty file and everything the system refuses is an error
    /// naming the file.
    pub fn open(path: &Path, mode: LoadMode) -> Result<Self> {
        // Asked before opening: opening a pipe would wait for a writer.
        let meta = fs::metadata(path).map_err(|e| Error::io(path, "cannot open", &e))?;
        check_is_file(&meta).map_err(|e| e.file(path))?;
        let file = File::open(path).map_err(|e| Error::io(path, "cannot open", &e))?;
        Self::of_range(path, file, 0, None, mode)
    }

    /// The bytes of `file` from `offset` on, `len` of them or all: a file within a bundle of an app. The
    /// position that the file shares with its duplicates stays.
    ///
    /// # Errors
    /// A pipe or device, a range that is empty or does not lie in the file, and everything the system refuses; they
    /// name "the opened file", and the offset if there is one.
    pub fn of_file(file: File, offset: u64, len: Option<u64>, mode: LoadMode) -> Result<Self> {
        let name = match offset {
            0 => "the opened file".to_owned(),
            _ => format!("the opened file from byte {offset} on"),
        };
        Self::of_range(Path::new(&name), file, offset, len, mode)
    }

    fn of_range(path: &Path, file: File, offset: u64, len: Option<u64>, mode: LoadMode) -> Result<Self> {
        let meta = file.metadata().map_err(|e| Error::io(path, "cannot open", &e))?;
        check_is_file(&meta).map_err(|e| e.file(path))?;
        let len = checked_len(meta.len(), offset, len).map_err(|e| e.file(path))?;
        match mode {
            LoadMode::Map if MAPS => {
                let map = map(&file, offset, len).map_err(|e| Error::io(path, "cannot map", &e))?;
                Self::from_bytes(path, map)
            }
            LoadMode::Map | LoadMode::Read => {
                Self::from_bytes(path, read(&file, offset, len).map_err(|e| e.file(path))?)
            }
        }
    }

    /// Bytes that are in memory already, under a name for error messages. They are kept, not copied, and dropped with
    /// the last clone; `as_ref` must give the same ones at each call.
    ///
    /// # Errors
    /// No bytes.
    pub fn from_bytes(name: &Path, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        if bytes.as_ref().is_empty() {
            return Err(Error::invalid("the file is empty").file(name));
        }
        Ok(Mapping(Arc::new(Inner {
            path: name.to_owned(),
            bytes,
        })))
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes.as_ref()
    }

    /// The file's path, or the name of the bytes in memory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

fn check_is_file(meta: &fs::Metadata) -> Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    let found = if meta.is_dir() {
        "a folder"
    } else {
        "a pipe, socket or device"
    };
    Err(Error::invalid("cannot be read as a file")
        .expected("a file")
        .found(found))
}

/// The length of the range from `offset` on, `len` or all that is there, of a file of `total` bytes.
fn checked_len(total: u64, offset: u64, len: Option<u64>) -> Result<usize> {
    let left = total.checked_sub(offset);
    let Some(len) = left.and_then(|left| Some(len.unwrap_or(left)).filter(|len| *len <= left)) else {
        let wanted = len.map_or("bytes".to_owned(), |len| format!("{len} bytes"));
        return Err(Error::invalid("the range does not lie in the file")
            .expected(format_args!("{wanted} from byte {offset} on"))
            .found(format_args!("a file of {total} bytes")));
    };
    match usize::try_from(len) {
        Ok(0) => Err(Error::invalid("the file is empty")),
        Ok(len) => Ok(len),
        Err(_) => Err(Error::limit("the file is larger than the address space").found(len)),
    }
}

/// Maps `len` bytes from `offset` on, private and read-only. The offset need not be that of a page.
fn map(file: &File, offset: u64, len: usize) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private, so Graft never writes through it. That nobody else changes or
    // shortens the file meanwhile cannot be enforced; it is the documented duty of the caller of `LoadMode::Map`,
    // and `LoadMode::Read` is there for those who cannot promise it. Every reader above treats the bytes as
    // hostile on each access (bounds and UTF-8 are checked again), so a change gives wrong numbers at worst.
    unsafe { MmapOptions::new().offset(offset).len(len).map_copy_read_only(file) }
}

/// The file from `offset` on. Its cursor stays: a file that an application opened may share it with other readers.
#[cfg(unix)]
fn from(file: &File, offset: u64) -> std::io::Result<impl Read> {
    struct From<'a>(&'a File, u64);
    impl Read for From<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = std::os::unix::fs::FileExt::read_at(self.0, buffer, self.1)?;
            self.1 += u64::try_from(n).map_err(std::io::Error::other)?;
            Ok(n)
        }
    }
    Ok(From(file, offset))
}

/// The file from `offset` on. Elsewhere files are always opened by ourselves, and their cursor is our own.
#[cfg(not(unix))]
fn from(mut file: &File, offset: u64) -> std::io::Result<impl Read> {
    use std::io::Seek;
    file.seek(std::io::SeekFrom::Start(offset))?;
    Ok(file)
}

/// Reads exactly `len` bytes from `offset` on; a file that changed its length meanwhile is an error.
fn read(file: &File, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|_| Error::limit("not enough memory to read the file").found(len))?;
    let limit = u64::try_from(len).unwrap_or(u64::MAX);
    from(file, offset)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|e| Error::new(crate::ErrorKind::Io, format!("cannot read: {e}")))?;
    if bytes.len() != len {
        return Err(Error::invalid("the file was shortened while it was read")
            .expected(len)
            .found(bytes.len()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::io::Write;

    const MODES: [LoadMode; 2] = [LoadMode::Map, LoadMode::Read];

    fn refused(path: &Path) -> Vec<Error> {
        MODES
            .iter()
            .map(|&m| Mapping::open(path, m).err().expect("must be refused"))
            .collect()
    }

    #[test]
    fn both_modes_give_the_bytes_of_the_file() {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(b"some bytes").unwrap();
        for mode in MODES {
            let m = Mapping::open(f.path(), mode).unwrap();
            assert_eq!(m.clone().bytes(), b"some bytes");
            assert_eq!(m.path(), f.path());
        }
    }

    #[test]
    fn what_is_no_file_with_bytes_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.gguf");
        File::create(&empty).unwrap();
        for e in refused(&empty) {
            assert_eq!(e.to_string(), format!("{}: the file is empty", empty.display()));
        }
        for e in refused(dir.path()) {
            assert_eq!((e.kind(), e.path()), (ErrorKind::Invalid, Some(dir.path())));
            assert!(e.to_string().ends_with("expected a file, found a folder"), "{e}");
        }
        for e in refused(&dir.path().join("none.gguf")) {
            assert_eq!(e.kind(), ErrorKind::Io);
            assert!(e.to_string().contains("none.gguf: cannot open: "), "{e}");
        }
    }

    /// An application's file may be read by others at the same place, also at the same time.
    #[cfg(unix)]
    #[test]
    fn the_cursor_of_an_opened_file_stays() {
        use std::io::{Seek, SeekFrom};
        let mut f = tempfile::tempfile().unwrap();
        f.write_all(b"some bytes").unwrap();
        f.seek(SeekFrom::Start(3)).unwrap();
        for mode in MODES {
            let m = Mapping::of_file(f.try_clone().unwrap(), 5, None, mode).unwrap();
            assert_eq!((m.bytes(), f.stream_position().unwrap()), (&b"bytes"[..], 3));
        }
    }

    /// Oracle: the slice of what was written.
    #[test]
    fn a_range_of_an_opened_file_is_that_range() {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..40).flat_map(|_| 0..=250).collect();
        f.write_all(&bytes).unwrap();
        let all = u64::try_from(bytes.len()).unwrap();
        let of = |offset, len, mode| Mapping::of_file(f.reopen().unwrap(), offset, len, mode);
        for mode in MODES {
            // Neither the start nor the end of a page.
            for (offset, len) in [
                (0, None),
                (4097, Some(100)),
                (1, None),
                (all - 1, Some(1)),
                (0, Some(all)),
            ] {
                let m = of(offset, len, mode).unwrap();
                let at = |offset: u64| usize::try_from(offset).unwrap();
                let end = len.map_or(bytes.len(), |len| at(offset + len));
                assert_eq!(m.bytes(), &bytes[at(offset)..end], "{offset} {len:?}");
            }
            let outside = [
                (0, Some(all + 1)),
                (1, Some(all)),
                (all + 1, None),
                (1, Some(u64::MAX)),
                (u64::MAX, Some(2)),
            ];
            for (offset, len) in outside {
                let e = of(offset, len, mode).err().expect("outside of the file");
                assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
                assert!(
                    e.to_string().contains("the range does not lie in the file: expected "),
                    "{e}"
                );
            }
            for (offset, len) in [(all, None), (5, Some(0))] {
                let e = of(offset, len, mode).err().expect("empty");
                assert_eq!(
                    e.to_string(),
                    format!("the opened file from byte {offset} on: the file is empty")
                );
            }
        }
    }

    /// Oracle: the count of drops.
    #[test]
    fn bytes_in_memory_are_shared_and_released_once() {
        struct Lent(&'static [u8], Arc<std::sync::atomic::AtomicUsize>);
        impl AsRef<[u8]> for Lent {
            fn as_ref(&self) -> &[u8] {
                self.0
            }
        }
        impl Drop for Lent {
            fn drop(&mut self) {
                self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let released = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = || released.load(std::sync::atomic::Ordering::Relaxed);
        let text: &'static [u8] = b"some bytes";
        let m = Mapping::from_bytes(Path::new("memory"), Lent(text, released.clone())).unwrap();
        let other = m.clone();
        assert_eq!(m.bytes().as_ptr(), text.as_ptr(), "not a copy");
        drop(m);
        assert_eq!((other.bytes(), count()), (text, 0));
        drop(other);
        assert_eq!(count(), 1);
        assert!(Mapping::from_bytes(Path::new("memory"), Lent(b"", released.clone())).is_err());
        assert_eq!(count(), 2);
    }

    /// Names are what the system says, whatever bytes or surrogates those are.
    #[cfg(any(unix, windows))]
    #[test]
    fn a_name_need_not_be_text() {
        #[cfg(unix)]
        let name: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"\xff.gguf".to_vec());
        #[cfg(windows)]
        let name: std::ffi::OsString = std::os::windows::ffi::OsStringExt::from_wide(&[0xD800, 0x2E]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        assert!(path.to_str().is_none());
        for e in refused(&path) {
            assert_eq!((e.kind(), e.path()), (ErrorKind::Io, Some(path.as_path())));
        }
        // Some file systems have only names that are text.
        if std::fs::write(&path, "some bytes").is_ok() {
            for mode in MODES {
                assert_eq!(Mapping::open(&path, mode).unwrap().bytes(), b"some bytes");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_refused_instead_of_read_for_ever() {
        for e in refused(Path::new("/dev/zero")) {
            assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
        }
    }
}
