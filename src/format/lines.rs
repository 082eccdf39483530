//! Files of lines, each read for itself: JSON Lines.

use std::io::{self, BufRead};

/// The longest line that is looked at, in bytes.
pub const LONGEST_LINE: usize = 16 << 20;

/// Reads to the end of the line without keeping it; returns how much that was.
pub fn skip_line(reader: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0u64;
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|b| *b == b'\n');
        let n = end.map_or(buffer.len(), |at| at + 1);
        skipped = skipped.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        reader.consume(n);
        if n == 0 || end.is_some() {
            return Ok(skipped);
        }
    }
}
