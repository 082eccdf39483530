//! The only owner of file bytes: a read-only private memory map, or the file read into memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;

/// How the bytes of a model file come into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadMode {
    /// Map the file: nothing is copied, pages are shared between processes and dropped under memory pressure.
    #[default]
    Map,
    /// Read the file into memory (`--no-mmap`): safe against a file that is changed or shortened while in use.
    Read,
}

/// The bytes of one file, shared and immutable. Cloning is cheap.
#[derive(Clone)]
pub struct Mapping {
    path: Arc<PathBuf>,
}

impl Mapping {
    /// Opens `path`. A directory, an empty file and everything the system refuses is an error naming the file.
    pub fn open(path: &Path, mode: LoadMode) -> Result<Self> {
        todo!("{path:?} {mode:?}")
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        todo!()
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
