//! A data file by position: where its rows begin, and the bytes of one of them.
//!
//! The index has a bounded size: it knows where every `step`-th row begins, and `step` doubles when it is full. Rows between
//! are found by going through their group once more, which the order of the rows (see `order.rs`) makes necessary once an epoch.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::order::WINDOW;
use crate::error::{Error, Result};
use crate::format::lines::{LONGEST_LINE, skip_line};

/// Rows whose place is known: 8 MiB.
const MOST_PLACES: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file is recognised by while it is in use.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stamp {
    pub size: u64,
    /// Where the system knows it.
    changed: Option<SystemTime>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Stamp {
            size: meta.len(),
            changed: meta.modified().ok(),
        }
    }
}

/// An opened data file.
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    stamp: Stamp,
    /// Where the next byte is read.
    at: u64,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, "cannot read", &e);
        // Asked before opening: opening a pipe would wait for a writer.
        let meta = std::fs::metadata(path).map_err(io)?;
        if !meta.is_file() {
            let found = if meta.is_dir() {
                "a folder"
            } else {
                "a pipe, socket or device"
            };
            let e = Error::invalid("cannot be read as a file").file(path);
            return Err(e.expected("a file: rows are read by their position").found(found));
        }
        let file = File::open(path).map_err(io)?;
        let stamp = Stamp::of(&file.metadata().map_err(io)?);
        Ok(Reader {
            path: path.into(),
            file: BufReader::with_capacity(1 << 16, file),
            stamp,
            at: 0,
        })
    }

    /// Opens a file that was looked through before.
    pub fn again(path: &Path, stamp: &Stamp) -> Result<Self> {
        let reader = Self::open(path)?;
        match reader.stamp == *stamp {
            true => Ok(reader),
            false => Err(reader.changed(&reader.stamp, stamp)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    pub fn at(&self) -> u64 {
        self.at
    }

    fn changed(&self, found: &Stamp, expected: &Stamp) -> Error {
        let e = Error::mismatch("the data file was changed while it was in use").file(&self.path);
        match found.size == expected.size {
            true => e
                .expected("the time of its last change as it was")
                .found("a later change"),
            false => e
                .expected(format!("{} bytes", expected.size))
                .found(format!("{} bytes", found.size)),
        }
    }

    /// Whether the file is still what it was.
    pub fn check(&self) -> Result<()> {
        let meta = self.file.get_ref().metadata();
        let found = Stamp::of(&meta.map_err(|e| Error::io(&self.path, "cannot read", &e))?);
        match found == self.stamp {
            true => Ok(()),
            false => Err(self.changed(&found, &self.stamp)),
        }
    }

    /// Goes to byte `at`.
    pub fn seek(&mut self, at: u64) -> Result<()> {
        let by = i128::from(at) - i128::from(self.at);
        let done = match i64::try_from(by) {
            // Keeps what is in the buffer where the place lies in it.
            Ok(by) => self.file.seek_relative(by),
            Err(_) => self.file.seek(SeekFrom::Start(at)).map(|_| ()),
        };
        done.map_err(|e| Error::io(&self.path, "cannot read", &e))?;
        self.at = at;
        Ok(())
    }

    /// To the first byte that is text: behind a byte order mark.
    pub fn begin(&mut self) -> Result<()> {
        let mut first = Vec::new();
        self.seek(0)?;
        self.some(BYTE_ORDER_MARK.len(), &mut first)?;
        self.seek(if first == BYTE_ORDER_MARK {
            first.len() as u64
        } else {
            0
        })
    }

    /// The bytes up to the end of the line, or `most` of them if it is longer, into `bytes`.
    pub fn some(&mut self, most: usize, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.clear();
        let n = (&mut self.file).take(most as u64).read_until(b'\n', bytes);
        self.at += n.map_err(|e| Error::io(&self.path, "cannot read", &e))? as u64;
        Ok(())
    }

    /// The next line into `bytes`; of one that is longer than [`LONGEST_LINE`] the first bytes, one more than that. Returns its
    /// length with what ends it; 0 at the end of the file.
    pub fn line(&mut self, bytes: &mut Vec<u8>) -> Result<u64> {
        let from = self.at;
        self.some(LONGEST_LINE + 1, bytes)?;
        if bytes.len() > LONGEST_LINE && bytes.last() != Some(&b'\n') {
            let n = skip_line(&mut self.file).map_err(|e| Error::io(&self.path, "cannot read", &e))?;
            self.at += n;
        }
        Ok(self.at - from)
    }

    /// The bytes of `range`, which must be in the file.
    pub fn bytes(&mut self, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<()> {
        self.seek(range.start)?;
        bytes.clear();
        let n = (&mut self.file).take(range.end - range.start).read_to_end(bytes);
        self.at += n.map_err(|e| Error::io(&self.path, "cannot read", &e))? as u64;
        Ok(())
    }
}

/// Where rows begin.
#[derive(Debug)]
pub(super) struct Index {
    /// Of rows 0, step, 2 step, …
    places: Vec<u64>,
    step: u64,
    rows: u64,
    /// Where the last row ends.
    end: u64,
    most: usize,
}

impl Index {
    pub fn new() -> Self {
        Self::with(MOST_PLACES)
    }

    /// One that keeps no more than `most` places (at least 2).
    pub fn with(most: usize) -> Self {
        Index {
            places: Vec::new(),
            step: 1,
            rows: 0,
            end: 0,
            most: most.max(2),
        }
    }

    /// One more row.
    pub fn push(&mut self, row: Range<u64>) {
        if self.rows.is_multiple_of(self.step) {
            if self.places.len() == self.most {
                self.step *= 2;
                let mut keep = [false, true].into_iter().cycle();
                self.places.retain(|_| keep.next() == Some(false));
            }
            // Where the step has just doubled the row may have no place of its own any more.
            if self.rows.is_multiple_of(self.step) {
                self.places.push(row.start);
            }
        }
        self.rows += 1;
        self.end = row.end;
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of a group.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Where a group begins and ends.
    fn group(&self, group: u64) -> Option<Range<u64>> {
        let at = usize::try_from(group).ok()?;
        let end = self.places.get(at + 1).unwrap_or(&self.end);
        self.places.get(at).map(|start| *start..*end)
    }
}

/// The places of single rows, as they are asked for.
#[derive(Default)]
pub(super) struct Places {
    /// By group, where its rows begin, and where the last of them ends.
    groups: HashMap<u64, Vec<u64>>,
    rows: u64,
}

impl Places {
    /// Where `row` (below [`Index::rows`]) begins and ends. `split` goes through a group: it is given where the group begins and
    /// ends, and returns where rows begin in it.
    pub fn find(
        &mut self,
        index: &Index,
        row: u64,
        split: impl FnOnce(Range<u64>) -> Result<Vec<u64>>,
    ) -> Result<Range<u64>> {
        let (group, within) = (row / index.step, (row % index.step) as usize);
        let missing = || Error::internal("a row that is not there").found(row);
        let range = index.group(group).ok_or_else(missing)?;
        if index.step == 1 {
            return Ok(range);
        }
        if !self.groups.contains_key(&group) {
            // Those of a window are asked for together, and then never again.
            if self.rows > 2 * WINDOW.max(index.step) {
                *self = Self::default();
            }
            let mut starts = split(range.clone())?;
            starts.push(range.end);
            self.rows += starts.len() as u64;
            self.groups.insert(group, starts);
        }
        let found = self.groups.get(&group).and_then(|g| g.get(within..within + 2));
        found.map(|f| f[0]..f[1]).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// However many rows there are, the index has room for `most` places, and still leads to each of them.
    #[test]
    fn an_index_stays_small_and_finds_every_row() {
        for rows in [1u64, 2, 7, 8, 9, 31, 1000, 4097] {
            let mut index = Index::with(8);
            // Row i is i + 1 bytes long.
            let start = |i: u64| i * (i + 1) / 2;
            (0..rows).for_each(|i| index.push(start(i)..start(i + 1)));
            assert!(index.places.len() <= 8 && index.places.capacity() <= 8);
            assert!(
                index.step() == 1 || index.places.len() >= 4,
                "no more is forgotten than must be"
            );
            let mut places = Places::default();
            for row in 0..rows {
                let split = |group: Range<u64>| Ok((0..rows).map(start).filter(|s| group.contains(s)).collect());
                assert_eq!(places.find(&index, row, split).unwrap(), start(row)..start(row + 1));
            }
        }
    }

    #[test]
    fn found_places_are_forgotten_again() {
        let mut index = Index::with(4);
        (0..1 << 20).for_each(|i| index.push(i..i + 1));
        let mut places = Places::default();
        for row in (0..1 << 20).step_by(1000) {
            places.find(&index, row, |group| Ok(group.collect())).unwrap();
            assert!(places.rows <= 2 * index.step() + index.step() + 1);
        }
    }

    #[test]
    fn lines_are_read_in_order_and_by_position() {
        let (_folder, path) = temporary(b"\xef\xbb\xbfone\n\nthree\nfour");
        let mut reader = Reader::open(&path).unwrap();
        reader.begin().unwrap();
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        loop {
            let from = reader.at();
            if reader.line(&mut bytes).unwrap() == 0 {
                break;
            }
            found.push((from..reader.at(), bytes.clone()));
        }
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], (3..7, b"one\n".to_vec()));
        assert_eq!(found[3], (14..18, b"four".to_vec()));
        for (range, line) in found.into_iter().rev() {
            reader.bytes(range, &mut bytes).unwrap();
            assert_eq!(bytes, line);
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut all = vec![b'x'; 3 * LONGEST_LINE];
        all.extend_from_slice(b"\nshort\n");
        let (_folder, path) = temporary(&all);
        let mut reader = Reader::open(&path).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(reader.line(&mut bytes).unwrap(), 3 * LONGEST_LINE as u64 + 1);
        assert_eq!(bytes.len(), LONGEST_LINE + 1);
        assert!(bytes.capacity() <= 2 * LONGEST_LINE + 2);
        assert_eq!(reader.line(&mut bytes).unwrap(), 6);
        assert_eq!(bytes, b"short\n");
    }

    #[test]
    fn a_file_that_changes_is_an_error() {
        let (_folder, path) = temporary(b"one\ntwo\n");
        let reader = Reader::open(&path).unwrap();
        reader.check().unwrap();
        let stamp = reader.stamp().clone();
        std::fs::write(&path, b"one\ntwo\nthree\n").unwrap();
        let e = reader.check().unwrap_err();
        assert_eq!(e.kind(), crate::ErrorKind::Mismatch);
        assert!(e.to_string().contains("expected 8 bytes, found 14 bytes"), "{e}");
        assert!(Reader::again(&path, &stamp).is_err());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(8).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let e = reader.check().unwrap_err();
        assert!(e.to_string().contains("changed"), "{e}");
        assert!(Reader::open(path.parent().unwrap()).is_err());
        assert!(Reader::open(&path.with_file_name("none")).is_err());
    }
}
