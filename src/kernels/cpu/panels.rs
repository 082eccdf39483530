//! Matrices of adapters: tall or wide and thin, packed once for the life of the adapter.
//!
//! 16 rows together, group by group of 32 columns (the last may be shorter), so that a product reads one stream and needs no sum across a
//! vector, whether the matrix has few rows (A of a low-rank update) or few columns (B). Rows past the last are zero.
//!
//! ```text
//! group:  up to 8 lines   codes, bytes: code of row r and column 4i+j in byte j of dword r of line i; columns past the last are zero
//!         1 line          f32 scale of each row
//! ```
//! Element = scale * (code - 128), |code - 128| <= 127: what `Fast` reads, a quarter of f32. What that leaves over is kept beside it, in
//! 65536ths of a step (of f16 and bf16 matrices: in 256ths), so that `Exact` has 23 bits (15) below the largest element of a group and all
//! together takes 0.8 (1.1) of the file's bytes.

use std::ops::Range;
use std::sync::Arc;

use super::acts::{Acts, BLOCK, I8_LINES, Outlier};
use super::types::Out;
use crate::quant::BlockFormat;

/// Rows of a panel.
pub(crate) const ROWS: usize = 16;
/// Bytes of a line: 4 for each row.
pub(crate) const LINE: usize = 4 * ROWS;
/// What stands for zero.
pub(crate) const ZERO: i16 = 128;

/// A packed matrix. Cloning shares it.
#[derive(Clone)]
pub struct Panels {
    rows: usize,
    cols: usize,
    codes: Arc<[Line]>,
    rest: Rest,
}

/// A line of a panel, which is one of the cache. Read as bytes.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; LINE]);

/// What the codes leave over: `[rows / 16][columns][16]`.
#[derive(Clone)]
enum Rest {
    Bytes(Arc<[i8]>),
    Words(Arc<[i16]>),
}

/// The least step, whose inverse is a number too.
const LEAST: f32 = 1e-36;

/// A part of a step.
trait Part: Copy + Default {
    /// Parts of a step.
    const STEP: f32;
    /// The step, at which the largest number is not above 127.
    fn step(largest: f32) -> f32;
    /// From the lowest bits of a number of parts.
    fn of(bits: u32) -> Self;
    /// The number of parts.
    fn parts(self) -> f32;
}

impl Part for i8 {
    const STEP: f32 = 256.0;
    /// A power of two: then a number of 8 significant bits (bf16) down to 1/128 of the largest is a whole number of parts, one of 11 (f16)
    /// down to 1/16. Codes get up to twice as coarse, which next to the rounding of activations is not seen.
    fn step(largest: f32) -> f32 {
        let bits = (largest / 127.0).max(LEAST).to_bits();
        f32::from_bits(bits.next_multiple_of(1 << 23))
    }
    fn of(bits: u32) -> Self {
        bits as i8
    }
    fn parts(self) -> f32 {
        self.into()
    }
}

impl Part for i16 {
    const STEP: f32 = 65536.0;
    fn step(largest: f32) -> f32 {
        (largest / 127.0).max(LEAST)
    }
    fn of(bits: u32) -> Self {
        bits as i16
    }
    fn parts(self) -> f32 {
        self.into()
    }
}

/// What a kernel reads.
#[derive(Clone, Copy)]
pub(crate) struct Codes<'a> {
    pub rows: usize,
    pub cols: usize,
    pub data: &'a [u8],
}

impl<'a> Codes<'a> {
    /// The bytes of some panels.
    pub fn panels(&self, which: Range<usize>) -> &'a [u8] {
        let bytes = panel_bytes(self.cols);
        &self.data[which.start * bytes..which.end * bytes]
    }
}

/// int8 activations that a kernel reads: some tiles of those of `acts`, from group `group` of their columns on.
#[derive(Clone)]
pub(crate) struct Records<'a> {
    pub acts: &'a Acts,
    pub group: usize,
    pub tiles: Range<usize>,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // for levels with vectors
impl Records<'_> {
    /// Checks that the matrix has the panels and the activations its columns: kernels read them without a check of each.
    pub fn check(&self, p: &Codes, panels: &Range<usize>) {
        assert!(panels.end * panel_bytes(p.cols) <= p.data.len());
        assert!((self.group + p.cols.div_ceil(BLOCK)) * BLOCK <= self.acts.k);
    }
}

/// Where a column is in a panel: bytes from its start, for row 0.
pub(crate) struct Place {
    /// The line of its codes.
    pub line: usize,
    /// Its byte in each dword there.
    pub byte: usize,
    /// The scales of its group.
    pub scales: usize,
}

impl Place {
    /// Of the column that an outlier meets in a matrix of `cols` columns, whose first meets the activations' group `group`; `None` if it
    /// meets none.
    #[inline]
    pub fn of(o: &Outlier, group: usize, cols: usize) -> Option<Self> {
        let c = (o.at as usize).wrapping_sub(group * BLOCK);
        if c >= cols {
            return None;
        }
        // All groups before have 8 lines.
        let start = c / BLOCK * (BLOCK / 4 + 1) * LINE;
        Some(Place {
            line: start + c % BLOCK / 4 * LINE,
            byte: c % 4,
            scales: start + lines(cols, c / BLOCK) * LINE,
        })
    }

    /// Takes those of token `token`, which come first, off a tile's outliers: where each meets the matrix, as [`of`](Self::of), and its value.
    #[inline(always)]
    pub fn of_token(
        outliers: &mut &[Outlier],
        token: usize,
        group: usize,
        cols: usize,
    ) -> impl Iterator<Item = (Self, f32)> {
        let n = outliers.iter().take_while(|o| o.token as usize == token).count();
        let (first, rest) = outliers.split_at(n);
        *outliers = rest;
        first
            .iter()
            .filter_map(move |o| Self::of(o, group, cols).map(|place| (place, o.x)))
    }
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub(crate) enum How<'a> {
    /// y = product.
    Set,
    /// y += product.
    Add,
    /// y += factors ⊙ product, one for each row of the matrix.
    Scaled(&'a [f32]),
}

impl How<'_> {
    /// The same for the rows from `first` on.
    pub fn from(self, first: usize) -> Self {
        match self {
            How::Scaled(factors) => How::Scaled(&factors[first..]),
            other => other,
        }
    }

    /// Makes of the first sums what becomes of them.
    fn put(self, out: &mut [f32], sums: &[f32; ROWS]) {
        match self {
            How::Set => out.copy_from_slice(&sums[..out.len()]),
            How::Add => out.iter_mut().zip(sums).for_each(|(y, s)| *y += s),
            How::Scaled(f) => out.iter_mut().zip(sums).zip(f).for_each(|((y, s), f)| *y += f * s),
        }
    }
}

/// Lines of codes of group `group` of `cols` columns.
pub(crate) fn lines(cols: usize, group: usize) -> usize {
    (cols - group * BLOCK).min(BLOCK).div_ceil(4)
}

/// Bytes of a panel of `cols` columns.
pub(crate) fn panel_bytes(cols: usize) -> usize {
    (cols.div_ceil(4) + cols.div_ceil(BLOCK)) * LINE
}

fn bytes_of(lines: &[Line]) -> &[u8] {
    // SAFETY: a line is LINE bytes and nothing else.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

fn bytes_of_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above, and all bytes are valid.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

impl Panels {
    /// Packs a row-major matrix of F32, F16 or BF16.
    ///
    /// # Panics
    /// If `bytes` are not `rows * cols` numbers of such a format.
    pub fn new(rows: usize, cols: usize, format: BlockFormat, bytes: &[u8]) -> Self {
        let size = format.info().block_bytes;
        assert_eq!(bytes.len(), rows * cols * size, "panels: shape of {}", format.name());
        let panels = if cols == 0 { 0 } else { rows.div_ceil(ROWS) };
        let mut codes = zeros(panels * panel_bytes(cols) / LINE, Line([0; LINE]));
        let len = panels * cols * ROWS;
        let out = bytes_of_mut(only(&mut codes));
        let rest = match format {
            BlockFormat::F32 => Rest::Words(pack(cols, format, bytes, out, len)),
            _ => Rest::Bytes(pack(cols, format, bytes, out, len)),
        };
        Panels {
            rows,
            cols,
            codes,
            rest,
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that a product in `Fast` reads.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.codes[..])
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        let rest = match &self.rest {
            Rest::Bytes(rest) => rest.len(),
            Rest::Words(rest) => 2 * rest.len(),
        };
        self.bytes() + rest
    }

    /// Where it lies: the same for clones.
    pub fn address(&self) -> *const u8 {
        self.codes.as_ptr().cast()
    }

    /// What `Fast` reads.
    pub(crate) fn codes(&self) -> Codes<'_> {
        Codes {
            rows: self.rows,
            cols: self.cols,
            data: bytes_of(&self.codes),
        }
    }

    /// All digits of panel `index`: `[columns][16]`.
    pub(crate) fn expand(&self, index: usize, out: &mut [f32]) {
        let (bytes, len) = (panel_bytes(self.cols), self.cols * ROWS);
        let (codes, out) = (&bytes_of(&self.codes)[index * bytes..][..bytes], &mut out[..len]);
        match &self.rest {
            Rest::Bytes(rest) => expand(self.cols, codes, &rest[index * len..][..len], out),
            Rest::Words(rest) => expand(self.cols, codes, &rest[index * len..][..len], out),
        }
    }

    /// The numbers, row by row.
    pub fn to_rows(&self) -> Vec<f32> {
        let mut rows = vec![0.0; self.rows * self.cols];
        let mut panel = vec![0.0; self.cols * ROWS];
        for (index, rows) in rows.chunks_mut(ROWS * self.cols).enumerate() {
            self.expand(index, &mut panel);
            for (r, row) in rows.chunks_exact_mut(self.cols).enumerate() {
                row.iter_mut().enumerate().for_each(|(c, v)| *v = panel[c * ROWS + r]);
            }
        }
        rows
    }
}

/// Shared memory to be filled through [`only`]: what is made in a vector would have to be copied.
fn zeros<T: Copy>(len: usize, zero: T) -> Arc<[T]> {
    std::iter::repeat_n(zero, len).collect()
}

/// The contents of what nobody shares yet.
fn only<T>(new: &mut Arc<[T]>) -> &mut [T] {
    Arc::get_mut(new).expect("just made")
}

/// Writes the codes and gives the rest, `len` numbers.
fn pack<P: Part>(cols: usize, format: BlockFormat, bytes: &[u8], codes: &mut [u8], len: usize) -> Arc<[P]> {
    /// Added to a small number it leaves the nearest whole number in the lowest bits.
    const NEAREST: f32 = (3 << 22) as f32;
    // Half a step is rounded up: the rest of it is -STEP / 2 parts, not STEP / 2, which does not fit.
    let up = 0.5 / P::STEP;
    let mut all = zeros(len, P::default());
    if cols == 0 {
        return all;
    }
    let mut wide = vec![0.0; ROWS * cols];
    let panels = bytes.chunks(ROWS * cols * format.info().block_bytes);
    let outs = codes
        .chunks_exact_mut(panel_bytes(cols))
        .zip(only(&mut all).chunks_exact_mut(ROWS * cols));
    for (bytes, (mut codes, rest)) in panels.zip(outs) {
        let n = bytes.len() / format.info().block_bytes;
        format.dequantize(bytes, &mut wide[..n]);
        wide[n..].fill(0.0);
        for (group, rest) in rest.chunks_mut(BLOCK * ROWS).enumerate() {
            let mut group_of = [[0.0f32; ROWS]; BLOCK];
            for (r, row) in wide.chunks_exact(cols).enumerate() {
                for (column, v) in group_of.iter_mut().zip(&row[group * BLOCK..]) {
                    column[r] = *v;
                }
            }
            let mut most = [0.0f32; ROWS];
            for column in &group_of {
                most.iter_mut().zip(column).for_each(|(m, v)| *m = m.max(v.abs()));
            }
            let scales_of = most.map(P::step);
            let steps = scales_of.map(|scale| (1.0 / f64::from(scale)) as f32);
            let (lines, after) = codes.split_at_mut(lines(cols, group) * LINE);
            let (scales, after) = after.split_at_mut(LINE);
            codes = after;
            for (line, four) in lines
                .as_chunks_mut::<LINE>()
                .0
                .iter_mut()
                .zip(group_of.as_chunks::<4>().0)
            {
                let mut words = [0u32; ROWS];
                for (j, column) in four.iter().enumerate() {
                    for ((word, v), step) in words.iter_mut().zip(column).zip(&steps) {
                        let nearest = (v * step + up + NEAREST).to_bits();
                        *word |= ((nearest + ZERO as u32) & 255) << (8 * j);
                    }
                }
                for (out, word) in line.as_chunks_mut().0.iter_mut().zip(words) {
                    *out = word.to_le_bytes();
                }
            }
            for (rest, column) in rest.as_chunks_mut::<ROWS>().0.iter_mut().zip(&group_of) {
                for ((rest, v), step) in rest.iter_mut().zip(column).zip(&steps) {
                    let steps = v * step;
                    let over = steps - ((steps + up + NEAREST) - NEAREST);
                    *rest = P::of(((over * P::STEP).min(0.5 * P::STEP - 1.0) + NEAREST).to_bits());
                }
            }
            for (out, scale) in scales.as_chunks_mut().0.iter_mut().zip(scales_of) {
                *out = scale.to_le_bytes();
            }
        }
    }
    all
}

fn expand<P: Part>(cols: usize, mut codes: &[u8], rest: &[P], out: &mut [f32]) {
    let groups = out.chunks_mut(BLOCK * ROWS).zip(rest.chunks(BLOCK * ROWS));
    for (group, (out, rest)) in groups.enumerate() {
        let (lines, after) = codes.split_at(lines(cols, group) * LINE);
        let (scales, after) = after.split_at(LINE);
        codes = after;
        let scales: [f32; ROWS] = std::array::from_fn(|r| f32::from_le_bytes(scales.as_chunks().0[r]));
        let columns = out.as_chunks_mut::<ROWS>().0.iter_mut().zip(rest.as_chunks::<ROWS>().0);
        for (c, (out, rest)) in columns.enumerate() {
            let line = &lines[c / 4 * LINE..][..LINE];
            for (r, (out, rest)) in out.iter_mut().zip(rest).enumerate() {
                let code = i16::from(line[4 * r + c % 4]) - ZERO;
                *out = scales[r] * (f32::from(code) + rest.parts() / P::STEP);
            }
        }
    }
}

/// The f32 kernel in plain Rust: see [`Isa::panel`](super::isa::Isa::panel).
pub(crate) unsafe fn portable(w: &[f32], n: usize, x: &[f32], tokens: usize, y: Out, at: (usize, usize), how: How) {
    let tile = x.len() / (w.len() / ROWS);
    for t in 0..tokens {
        let mut sums = [0.0f32; ROWS];
        for (w, x) in w.as_chunks::<ROWS>().0.iter().zip(x[t..].iter().step_by(tile)) {
            sums.iter_mut().zip(w).for_each(|(s, w)| *s += x * w);
        }
        // SAFETY: the caller's promise: nobody else uses these columns of y.
        how.put(unsafe { y.at(at.0 + t, at.1, n) }, &sums);
    }
}

/// The int8 kernel in plain Rust: see [`Isa::codes`](super::isa::Isa::codes).
pub(crate) unsafe fn portable_codes(p: Codes, panels: Range<usize>, x: Records, y: Out, column: usize, how: How) {
    let tile = x.acts.tile();
    for panel in panels {
        let (n, bytes) = (ROWS.min(p.rows - panel * ROWS), panel_bytes(p.cols));
        let data = &p.data[panel * bytes..][..bytes];
        let number = |at: usize| f32::from_le_bytes(data[at..].as_chunks().0[0]);
        for index in x.tiles.clone() {
            let records = &x.acts.i8_tile(index)[x.group * I8_LINES * tile..];
            let mut outliers = x.acts.tile_outliers(index);
            for t in 0..tile.min(y.m() - (index * tile).min(y.m())) {
                let (mut sums, mut at) = ([0.0f32; ROWS], 0);
                for (group, record) in records
                    .chunks_exact(I8_LINES * tile)
                    .take(p.cols.div_ceil(BLOCK))
                    .enumerate()
                {
                    let (d, lines) = (f32::from_bits(record[10 * tile + t]), lines(p.cols, group));
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let mut products = 0;
                        for i in 0..lines {
                            let x = record[i * tile + t].to_le_bytes();
                            for (code, x) in data[at + i * LINE + 4 * r..][..4].iter().zip(x) {
                                products += (i32::from(*code) - i32::from(ZERO)) * i32::from(x as i8);
                            }
                        }
                        *sum += products as f32 * (number(at + lines * LINE + 4 * r) * d);
                    }
                    at += (lines + 1) * LINE;
                }
                for (place, value) in Place::of_token(&mut outliers, t, x.group, p.cols) {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let code = i16::from(data[place.line + 4 * r + place.byte]) - ZERO;
                        *sum += value * (f32::from(code) * number(place.scales + 4 * r));
                    }
                }
                // SAFETY: the caller's promise: nobody else uses these columns of y.
                how.from(panel * ROWS)
                    .put(unsafe { y.at(index * tile + t, column + panel * ROWS, n) }, &sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_back_loses_the_last_digits() {
        for (rows, cols) in [(1, 1), (16, 3), (17, 5), (40, 2), (3, 70), (33, 64)] {
            let values: Vec<f32> = (0..rows * cols)
                .map(|i| (i as f32 * 0.7).sin() * if i % 7 == 0 { 1e-3 } else { 1e-6 })
                .collect();
            for (format, bits) in [(BlockFormat::F32, 22), (BlockFormat::F16, 14), (BlockFormat::BF16, 14)] {
                let bytes: Vec<u8> = values
                    .iter()
                    .flat_map(|v| match format {
                        BlockFormat::F32 => v.to_le_bytes().to_vec(),
                        BlockFormat::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
                        _ => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
                    })
                    .collect();
                let mut values = values.clone();
                format.dequantize(&bytes, &mut values);
                let panels = Panels::new(rows, cols, format, &bytes);
                assert_eq!(panels.bytes(), rows.div_ceil(ROWS) * panel_bytes(cols));
                let found = panels.to_rows();
                for (found, values) in found.chunks_exact(cols).zip(values.chunks_exact(cols)) {
                    for (found, values) in found.chunks(BLOCK).zip(values.chunks(BLOCK)) {
                        let most = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                        for (a, b) in found.iter().zip(values) {
                            assert!((a - b).abs() <= most / (1 << bits) as f32, "{format:?}: {a} for {b}");
                        }
                    }
                }
            }
        }
    }
}
