//! Files that are there whole or not at all.
//!
//! What is written goes to a temporary file in the folder of the target (`.graft-PID-N.part`), reaches the disk, and only
//! then takes the target's name, in one step of the file system. Whoever reads sees the old file or the new one; a crash
//! in between leaves the old one, and at worst a temporary file to delete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// Names to try for a temporary file. Only files that a killed process of the same number left behind are in the way.
const ATTEMPTS: usize = 1000;
/// Bytes to collect before the system is asked to write: a row of a tensor is often less than a page.
const BUFFER: usize = 1 << 16;

/// A file being written. Dropping it before [`commit`](Self::commit) removes it and leaves the target as it was.
///
/// Writing through [`Write`] gives the system's bare error; [`error`](Self::error) adds which file it was about.
pub struct AtomicFile {
    target: PathBuf,
    temporary: PathBuf,
    /// `None` once it is committed or dropped.
    file: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Starts to write what is to be `target`. Its folder must be there. Where `target` is a symbolic link, the file
    /// behind it is replaced; a file that is replaced hands on its permissions. A target that is no file is an error.
    pub fn create(target: &Path) -> Result<Self> {
        Self::create_by(target, OpenOptions::new())
    }

    /// As [`create`](Self::create), of a file that is the user's own affair: on Unix nobody else can read it, unless they could
    /// read the one that it replaces.
    pub fn create_private(target: &Path) -> Result<Self> {
        #[allow(unused_mut, reason = "there are no modes but on Unix")]
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Self::create_by(target, options)
    }

    fn create_by(target: &Path, mut options: OpenOptions) -> Result<Self> {
        if target.file_name().is_none() {
            return Err(Error::usage("not the name of a file").file(target));
        }
        // What does not exist yet, or a link that leads nowhere, stays the name that it is.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let old = fs::metadata(&target).ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            let e = Error::usage("cannot be replaced by a file").file(target);
            return Err(e.expected("a file, or nothing").found("a folder, pipe or device"));
        }
        options.write(true).create_new(true);
        let (temporary, file) = unused(&target, |path| options.open(path))?;
        let new = AtomicFile {
            target,
            temporary,
            file: Some(BufWriter::with_capacity(BUFFER, file)),
        };
        if let Some(old) = old {
            match fs::set_permissions(&new.temporary, old.permissions()) {
                // A system without permissions (WASI) has none to hand on.
                Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(new.error(&e)),
                _ => {}
            }
        }
        Ok(new)
    }

    /// The file that it is going to be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The error for what the system said while this file was written: it names the target.
    pub fn error(&self, e: &io::Error) -> Error {
        Error::io(&self.target, "cannot write", e)
    }

    /// Brings everything to the disk and gives the file its name. On an error the target is as it was, unless only the
    /// last step failed, which makes the new name survive a loss of power.
    pub fn commit(self) -> Result<()> {
        commit_all([self])
    }

    /// Brings what was written to the disk, still under the temporary name.
    fn sync(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let done = file.flush().and_then(|()| file.get_ref().sync_all());
        done.map_err(|e| self.error(&e))
    }

    /// Gives the file its name.
    fn rename(mut self) -> Result<PathBuf> {
        // Closed first: some systems do not rename an open file.
        drop(self.file.take().map(BufWriter::into_parts));
        match fs::rename(&self.temporary, &self.target) {
            Ok(()) => Ok(std::mem::take(&mut self.target)),
            Err(e) => {
                let _ = fs::remove_file(&self.temporary);
                Err(self.error(&e))
            }
        }
    }
}

/// As [`AtomicFile::commit`], for files that belong together: all of them reach the disk before the first gets its name, so
/// that a full disk changes none of them.
pub fn commit_all(files: impl IntoIterator<Item = AtomicFile>) -> Result<()> {
    let mut files: Vec<AtomicFile> = files.into_iter().collect();
    files.iter_mut().try_for_each(AtomicFile::sync)?;
    for file in files {
        let target = file.rename()?;
        sync_folder(&target)?;
    }
    Ok(())
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Taken apart, so that closing does not write what is left in the buffer.
            drop(file.into_parts());
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A folder that appears whole under its name, or not at all.
pub(super) struct AtomicFolder {
    target: PathBuf,
    /// Where its files go until then.
    temporary: PathBuf,
    committed: bool,
}

impl AtomicFolder {
    /// Starts a folder that is to be `target`, which must not exist.
    pub(super) fn create(target: &Path) -> Result<Self> {
        let (temporary, ()) = unused(target, |path| fs::create_dir(path))?;
        Ok(AtomicFolder {
            target: target.to_owned(),
            temporary,
            committed: false,
        })
    }

    /// The folder to write files into.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the folder its name. Its files must have been committed.
    pub(super) fn commit(mut self) -> Result<()> {
        fs::rename(&self.temporary, &self.target).map_err(|e| Error::io(&self.target, "cannot write", &e))?;
        self.committed = true;
        sync_folder(&self.target)
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Makes, by `make`, something under a name in the folder of `target` that nothing else has.
fn unused<R>(target: &Path, make: impl Fn(&Path) -> io::Result<R>) -> Result<(PathBuf, R)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // WASI has no processes to number, and asking for the number panics.
    let process = if cfg!(target_os = "wasi") {
        0
    } else {
        std::process::id()
    };
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..ATTEMPTS {
        // Not made of the target's name, which may be as long as the file system allows.
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = target.with_file_name(format!(".graft-{process}-{n}.part"));
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            Err(e) => last = e,
        }
        if last.kind() != io::ErrorKind::AlreadyExists {
            break;
        }
    }
    Err(Error::io(target, "cannot write", &last))
}

/// Removes from `folder` the temporary files that killed processes have left. For a folder into which nobody else is writing.
///
/// # Errors
/// What the system refuses, but for a file that is gone already.
pub fn remove_left(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io(folder, "cannot read", &e))?;
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, "cannot read", &e))?.path();
        let name = path.file_name().map(|name| name.as_encoded_bytes());
        let left = name.is_some_and(|name| name.starts_with(b".graft-") && name.ends_with(b".part"));
        if !(left && path.is_file()) {
            continue;
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(&path, "cannot remove", &e)),
            _ => {}
        }
    }
    Ok(())
}

/// Brings a new name in the folder of `target` to the disk, on systems where a folder can be asked to.
fn sync_folder(target: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot; their names are as safe as they get.
        Err(e) if !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(Error::io(target, "cannot bring its name to the disk", &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::format::{LoadMode, Mapping};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_at_commit_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");

        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(&vec![7; 3 * BUFFER]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()).len(), 2);
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn files_that_belong_together_change_together() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| {
            let mut file = AtomicFile::create(&dir.path().join(name)).unwrap();
            file.write_all(name.as_bytes()).unwrap();
            file
        });
        commit_all([a, b]).unwrap();
        assert_eq!(names(dir.path()), ["a", "b"]);
    }

    #[test]
    fn a_target_that_cannot_be_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let e = AtomicFile::create(dir.path()).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
        let e = AtomicFile::create(Path::new("..")).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
        let missing = dir.path().join("none/file");
        let e = AtomicFile::create(&missing).err().unwrap();
        assert_eq!((e.kind(), e.path()), (ErrorKind::Io, Some(missing.as_path())), "{e}");
    }

    #[test]
    fn a_name_as_long_as_can_be_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(255));
        AtomicFile::create(&path).unwrap().commit().unwrap();
        assert!(path.exists());
    }

    /// On Windows a mapped file may refuse to be replaced: then that is the error, and the file stays.
    #[test]
    fn what_is_mapped_stays_when_its_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let old = Mapping::open(&path, LoadMode::Map).unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        let done = file.commit();
        assert_eq!(old.bytes(), b"old");
        drop(old);
        match done {
            Ok(()) => assert_eq!(fs::read(&path).unwrap(), b"new"),
            Err(e) => assert!(cfg!(windows) && fs::read(&path).unwrap() == b"old", "{e}"),
        }
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn what_killed_processes_leave_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        // As if its process were killed: neither committed nor removed, but closed, without which Windows keeps the name.
        drop(AtomicFile::create(&dir.path().join("file")).unwrap().file.take());
        assert_eq!(names(dir.path()).len(), 1);
        for name in [".graft-1", "graft-1-1.part", "model.gguf.part"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        remove_left(dir.path()).unwrap();
        assert_eq!(names(dir.path()), [".graft-1", "graft-1-1.part", "model.gguf.part"]);
        let missing = dir.path().join("none");
        assert_eq!(remove_left(&missing).unwrap_err().path(), Some(missing.as_path()));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&path, &link).unwrap();
        let mut file = AtomicFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_private_only_its_owner_reads() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = AtomicFile::create_private(&path).unwrap();
        assert_eq!(mode(&file.temporary), 0o600);
        file.commit().unwrap();
        assert_eq!(mode(&path), 0o600);
        // Whoever opened it to others keeps it so.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        AtomicFile::create_private(&path).unwrap().commit().unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn a_folder_appears_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("folder");
        let folder = AtomicFolder::create(&target).unwrap();
        fs::write(folder.path().join("x"), "x").unwrap();
        drop(folder);
        assert!(names(dir.path()).is_empty());
        let folder = AtomicFolder::create(&target).unwrap();
        fs::write(folder.path().join("x"), "x").unwrap();
        assert!(!target.exists());
        folder.commit().unwrap();
        assert_eq!(names(dir.path()), ["folder"]);
        assert_eq!(names(&target), ["x"]);
    }
}
