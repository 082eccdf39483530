//! The one error type: what kind, where (file, item), what was expected and what was found.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with Graft's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is, for code that has to decide what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The system refused: a missing file, no permission, a full disk.
    Io,
    /// The input breaks its own format: truncated, contradictory, out of range.
    Invalid,
    /// The input is well formed but asks for something that Graft does not do.
    Unsupported,
    /// Two well-formed inputs do not belong together (an adapter for another model).
    Mismatch,
    /// A documented limit was reached: the context is full, a size is over its cap.
    Limit,
    /// The caller used the interface wrongly (an empty prompt, an unknown name).
    Usage,
    /// The caller asked for the work to end.
    Cancelled,
    /// A defect in Graft itself, such as a panic in a worker thread.
    Internal,
}

/// An error that names its place.
///
/// It prints as one line: `FILE: ITEM: what is wrong: expected E, found F`, leaving out what is not known.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    file: Option<PathBuf>,
    item: Option<String>,
    message: String,
    expected: Option<String>,
    found: Option<String>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            file: None,
            item: None,
            message: message.into(),
            expected: None,
            found: None,
        }))
    }

    /// The input breaks its format.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The input is well formed but not supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Two inputs do not fit together.
    pub fn mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Mismatch, message)
    }

    /// A documented limit was reached.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    /// The interface was used wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// A defect in Graft.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A panic that `what` met, with its message.
    pub fn panicked(what: &str, panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::internal(what).found(text.unwrap_or("an unknown cause"))
    }

    /// The system's error `e` while doing `what` (for example "cannot open") to `path`.
    pub fn io(path: &Path, what: &str, e: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{what}: {e}")).file(path)
    }

    /// Names the file. The first name wins: the place closest to the fault knows best.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.file.get_or_insert_with(|| path.into());
        self
    }

    /// Names the tensor, metadata key, field or argument. The first name wins.
    pub fn item(mut self, item: impl Into<String>) -> Self {
        self.0.item.get_or_insert_with(|| item.into());
        self
    }

    /// Says what would have been right.
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// Says what was there.
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.0.found = Some(found.to_string());
        self
    }

    #[cfg(feature = "cuda")] // for what is found out once
    /// The same error once more.
    pub(crate) fn again(&self) -> Self {
        Error(self.0.clone())
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file at fault, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// What would have been right, where that is known.
    pub fn expectation(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// What was there instead, where that is known.
    pub fn finding(&self) -> Option<&str> {
        self.0.found.as_deref()
    }

    /// The tensor, metadata key, field or argument at fault, where there is one.
    pub fn item_name(&self) -> Option<&str> {
        self.0.item.as_deref()
    }
}

/// Text from a file may hold line breaks, control characters or a megabyte: an error stays one readable line.
fn one_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    const LONGEST: usize = 400;
    for (n, c) in text.chars().enumerate() {
        if n == LONGEST {
            return f.write_str("…");
        }
        if c.is_control() {
            write!(f, "{}", c.escape_default())?;
        } else {
            fmt::Write::write_char(f, c)?;
        }
    }
    Ok(())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        if let Some(file) = &e.file {
            one_line(f, &file.display().to_string())?;
            f.write_str(": ")?;
        }
        if let Some(item) = &e.item {
            one_line(f, item)?;
            f.write_str(": ")?;
        }
        one_line(f, &e.message)?;
        if let Some(expected) = &e.expected {
            f.write_str(": expected ")?;
            one_line(f, expected)?;
        }
        if let Some(found) = &e.found {
            f.write_str(if e.expected.is_some() { ", found " } else { ": found " })?;
            one_line(f, found)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_place() {
        let e = Error::mismatch("shape does not fit the model")
            .item("lora_A\nx")
            .file("dir/adapter_model.safetensors")
            .file("outer")
            .expected("[8, 576]")
            .found("[8, 640]");
        assert_eq!(
            e.to_string(),
            "dir/adapter_model.safetensors: lora_A\\nx: shape does not fit the model: expected [8, 576], found [8, 640]"
        );
    }
}
