//! stdout for data, stderr for words, and what a failure means for the exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use graft::format::AtomicFile;
use graft::{Error, ErrorKind};
use serde::Serialize;

/// Why a command ended early.
pub enum Fail {
    /// Something is wrong; said on stderr.
    Error(Error),
    /// Nobody reads stdout any more (`| head`): not worth a word.
    Closed,
    /// Ctrl-C.
    Interrupted,
    /// There is no GPU to check; said on stderr.
    NoGpu(Error),
}

/// What commands return.
pub type Done<T = ()> = Result<T, Fail>;

impl From<Error> for Fail {
    fn from(e: Error) -> Self {
        Fail::Error(e)
    }
}

impl Fail {
    /// A failed write to `what`.
    pub fn write(what: &Path, e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Fail::Closed,
            _ => Fail::Error(Error::io(what, "cannot write", e)),
        }
    }
}

/// The exit code, after the last words.
pub fn exit_code(done: Done) -> ExitCode {
    match done {
        Ok(()) | Err(Fail::Closed) => ExitCode::SUCCESS,
        Err(Fail::Interrupted) => ExitCode::from(130),
        Err(Fail::NoGpu(e)) => {
            say(&format!("error: {e}"));
            ExitCode::from(2)
        }
        Err(Fail::Error(e)) => {
            say(&format!("error: {e}"));
            ExitCode::from(if e.kind() == ErrorKind::Usage { 2 } else { 1 })
        }
    }
}

/// Writes to stdout at once: text streams as it is made.
pub fn print(text: &str) -> Done {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Fail::write(Path::new("stdout"), &e))
}

/// Writes one JSON document and a line break to stdout.
pub fn print_json(value: &impl Serialize) -> Done {
    print(&json_line(value)?)
}

/// One JSON document and a line break.
pub fn json_line(value: &impl Serialize) -> Done<String> {
    let mut text = serde_json::to_string(value).map_err(|e| Error::internal(format!("JSON: {e}")))?;
    text.push('\n');
    Ok(text)
}

/// Words for the person, on stderr. A closed stderr is no reason to stop.
pub fn say(words: &str) {
    let _ = writeln!(io::stderr(), "graft: {words}");
}

/// Bytes of the file `path`.
pub fn file_size(path: &Path) -> graft::Result<usize> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "cannot read", &e))?;
    Ok(usize::try_from(meta.len()).unwrap_or(usize::MAX))
}

/// Bytes for people: `98.4 MB`.
pub fn bytes(n: usize) -> String {
    let n = n as f64;
    match n {
        n if n >= 1e9 => format!("{:.2} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} kB", n / 1e3),
        n => format!("{n} B"),
    }
}

/// Whether a file could stand at `path`: asked before long work whose result goes there.
pub fn can_hold_file(path: &Path) -> Done {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let fault = |what: &str| Err(Error::usage(what).file(path).into());
    match (path.file_name(), path.is_dir(), folder.is_dir()) {
        (None, ..) | (_, true, _) => fault("a folder cannot be written as a file"),
        (_, _, false) => fault("there is no such folder to write into"),
        _ => Ok(()),
    }
}

/// Whether a new folder could be made at `path`: asked before long work whose result goes there.
pub fn can_hold_folder(path: &Path) -> Done {
    let found = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().map(|_| "a folder that is not empty"),
        Err(_) => path.exists().then_some("something else"),
    };
    match found {
        None => Ok(()),
        Some(found) => {
            let e = Error::usage("the result would take the place of what is there").file(path);
            Err(e.expected("nothing, or an empty folder").found(found).into())
        }
    }
}

/// Writes a file whole or not at all: under another name first, then renamed.
pub fn write_file(path: &Path, text: &str) -> Done {
    let mut file = AtomicFile::create(path)?;
    file.write_all(text.as_bytes()).map_err(|e| file.error(&e))?;
    Ok(file.commit()?)
}
