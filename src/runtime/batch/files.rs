//! Where the lines of a batch come from, and where its records go.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::task::Line;
use crate::error::{Error, Result};
use crate::format::lines::{LONGEST_LINE, skip_line};

/// Longer than any record can be: what an output without line breaks may take of the memory.
const LONGEST_RECORD: u64 = 256 << 20;

/// The input and the output of [`Batch::run_files`](super::Batch::run_files), opened and found to belong together.
///
/// The output file is the only state: a record is written whole and at once, so after a stop the complete lines in it say where to go on.
pub struct BatchFiles {
    pub(super) input: Input,
    pub(super) output: Output,
    before: u64,
}

impl BatchFiles {
    /// Opens a file of lines, and the file of their records, which is made where there is none; `None` is the program's standard input, or
    /// output. Lines that have a record already are passed over; a record that was not written to its end is cut off.
    ///
    /// # Errors
    /// A file that cannot be read or written; `Usage` where both are the same; `Mismatch` for an output that holds something else than
    /// records of the beginning of this input: it is then left as it was.
    pub fn open(input: Option<&Path>, output: Option<&Path>) -> Result<Self> {
        let mut from = Input::open(input)?;
        if let (Some(input), Some(output)) = (input, output)
            && same_file(input, output)
        {
            return Err(Error::usage("input and output are the same file").file(output));
        }
        let mut to = Output::open(output)?;
        let before = to.resume(&mut from)?;
        Ok(BatchFiles {
            input: from,
            output: to,
            before,
        })
    }

    /// Lines that had a record when the files were opened.
    pub fn before(&self) -> u64 {
        self.before
    }

    /// The number of the last line that was read, from 1; blank lines count.
    pub fn line(&self) -> u64 {
        self.input.number
    }

    /// Whether a write failed because nobody reads the output any more: a pipe that was closed.
    pub fn closed(&self) -> bool {
        self.output.closed
    }
}

/// The input, line by line.
pub struct Input {
    pub path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    number: u64,
    /// For the progress: bytes of the file (0 where that is not known), and bytes read.
    size: u64,
    read: u64,
}

impl Input {
    fn open(path: Option<&Path>) -> Result<Self> {
        let (reader, size): (Box<dyn BufRead + Send>, _) = match path {
            None => (Box::new(BufReader::new(io::stdin())), 0),
            Some(path) => {
                let io = |e| Error::io(path, "cannot read", &e);
                let file = File::open(path).map_err(io)?;
                let meta = file.metadata().map_err(io)?;
                if meta.is_dir() {
                    let e = Error::invalid("is a folder").file(path);
                    return Err(e.expected("a file with a JSON object on each line"));
                }
                (Box::new(BufReader::new(file)), meta.len())
            }
        };
        Ok(Input {
            path: path.unwrap_or(Path::new("-")).into(),
            reader,
            number: 0,
            size,
            read: 0,
        })
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            let io = |e| Error::io(&self.path, "cannot read", &e);
            let n = (&mut self.reader)
                .take(LONGEST_LINE as u64 + 1)
                .read_until(b'\n', &mut bytes)
                .map_err(io)?;
            if n == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.read += n as u64;
            if n > LONGEST_LINE && bytes.last() != Some(&b'\n') {
                self.read += skip_line(&mut self.reader).map_err(io)?;
            } else if bytes.trim_ascii().is_empty() {
                continue;
            }
            return Ok(Some(Line::new(&bytes, self.number)));
        }
    }

    /// How much of it is read, 0 to 1; 0 where its size is not known.
    pub fn share(&self) -> f32 {
        match self.size {
            0 => 0.0,
            size => (self.read as f64 / size as f64).min(1.0) as f32,
        }
    }
}

/// The output: a file that can be gone on with, or a stream.
pub struct Output {
    path: PathBuf,
    /// `None` for the standard output.
    file: Option<File>,
    closed: bool,
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self> {
        let file = match path {
            None => None,
            Some(path) => {
                let mut options = OpenOptions::new();
                let file = options.read(true).write(true).create(true).truncate(false).open(path);
                Some(file.map_err(|e| Error::io(path, "cannot open for writing", &e))?)
            }
        };
        Ok(Output {
            path: path.unwrap_or(Path::new("stdout")).into(),
            file,
            closed: false,
        })
    }

    /// Skips the input lines that are answered already, cuts off a half-written line, returns how many were skipped.
    fn resume(&mut self, input: &mut Input) -> Result<u64> {
        let path = &self.path;
        let io = |e| Error::io(path, "cannot read", &e);
        let Some(file) = &mut self.file else { return Ok(0) };
        // A pipe or a device has no past.
        if !file.metadata().map_err(io)?.is_file() {
            return Ok(0);
        }
        let (mut done, mut end, mut line) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&mut *file);
        loop {
            line.clear();
            let n = (&mut reader)
                .take(LONGEST_RECORD)
                .read_until(b'\n', &mut line)
                .map_err(io)? as u64;
            let whole = line.last() == Some(&b'\n');
            if !whole && n < LONGEST_RECORD {
                break;
            }
            done += 1;
            let wrong = |what: &str| Error::mismatch(what).file(path).item(format!("line {done}"));
            let foreign = "this is no output of graft batch; choose another file or remove it";
            let record: Map<String, Value> = match whole {
                true => serde_json::from_slice(&line).map_err(|_| wrong(foreign))?,
                false => return Err(wrong(foreign)),
            };
            let Some(task) = input.next()? else {
                return Err(wrong(
                    "the output has more lines than the input; choose another file or remove it",
                ));
            };
            if record.get("id") != Some(&task.id()) {
                let e =
                    wrong("the output belongs to another input; choose another file or remove it").expected(task.id());
                return Err(e.found(record.get("id").unwrap_or(&Value::Null)));
            }
            end += n;
        }
        file.set_len(end)
            .and_then(|()| file.seek(SeekFrom::Start(end)))
            .map_err(io)?;
        Ok(done)
    }

    /// Writes a record and a line break, whole and at once.
    pub fn write(&mut self, mut record: String) -> Result<()> {
        record.push('\n');
        let written = match &mut self.file {
            Some(file) => file.write_all(record.as_bytes()),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(record.as_bytes()).and_then(|()| out.flush())
            }
        };
        written.map_err(|e| {
            self.closed = e.kind() == io::ErrorKind::BrokenPipe;
            Error::io(&self.path, "cannot write", &e)
        })
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    // The first also where the system has no canonical names (WASI).
    a == b && a.exists() || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
