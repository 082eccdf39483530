//! The only owner of file bytes: a read-only private memory map, or the file read into memory.

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
pub struct Mapping(Arc<Inner>);

struct Inner {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Map(Mmap),
    Heap(Vec<u8>),
}

impl Mapping {
    /// Opens `path`. A directory, a pipe or device, an empty file and everything the system refuses is an error
    /// naming the file.
    pub fn open(path: &Path, mode: LoadMode) -> Result<Self> {
        // Asked before opening: opening a pipe would wait for a writer.
        let meta = fs::metadata(path).map_err(|e| Error::io(path, "cannot open", &e))?;
        if !meta.is_file() {
            let found = if meta.is_dir() {
                "a folder"
            } else {
                "a pipe, socket or device"
            };
            return Err(Error::invalid("cannot be read as a file")
                .file(path)
                .expected("a file")
                .found(found));
        }
        let mut file = File::open(path).map_err(|e| Error::io(path, "cannot open", &e))?;
        let len = file.metadata().map_err(|e| Error::io(path, "cannot open", &e))?.len();
        if len == 0 {
            return Err(Error::invalid("the file is empty").file(path));
        }
        let len = usize::try_from(len).map_err(|_| {
            Error::limit("the file is larger than the address space")
                .file(path)
                .found(len)
        })?;
        let bytes = match mode {
            LoadMode::Map if MAPS => Bytes::Map(map(&file, len).map_err(|e| Error::io(path, "cannot map", &e))?),
            LoadMode::Map | LoadMode::Read => Bytes::Heap(read(&mut file, len).map_err(|e| e.file(path))?),
        };
        Ok(Mapping(Arc::new(Inner {
            path: path.to_owned(),
            bytes,
        })))
    }

    /// Bytes that are in memory already, under a name for error messages. For tests and fuzzing.
    #[doc(hidden)]
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        Mapping(Arc::new(Inner {
            path: PathBuf::from(name),
            bytes: Bytes::Heap(bytes),
        }))
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        match &self.0.bytes {
            Bytes::Map(map) => map,
            Bytes::Heap(heap) => heap,
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Maps the first `len` bytes, private and read-only.
fn map(file: &File, len: usize) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private, so Graft never writes through it. That nobody else changes or
    // shortens the file meanwhile cannot be enforced; it is the documented duty of the caller of `LoadMode::Map`,
    // and `LoadMode::Read` is there for those who cannot promise it. Every reader above treats the bytes as
    // hostile on each access (bounds and UTF-8 are checked again), so a change gives wrong numbers at worst.
    unsafe { MmapOptions::new().len(len).map_copy_read_only(file) }
}

/// Reads exactly `len` bytes; a file that changed its length meanwhile is an error.
fn read(file: &mut File, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|_| Error::limit("not enough memory to read the file").found(len))?;
    let limit = u64::try_from(len).unwrap_or(u64::MAX);
    file.take(limit)
        .read_to_end(&mut bytes)
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
