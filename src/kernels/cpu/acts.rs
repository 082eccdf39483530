//! Activations as the integer kernels read them.
//!
//! Weights of up to 6 bits meet int8 activations, 8-bit weights (and IQ4, whose codes stand for 8-bit values) meet int16
//! activations (int8 x int8 has no fast exact product on AVX2, and int16 is a hundred times more accurate); both have one scale for 32 elements, so an
//! outlier spoils only its own block. K-quants use them too: a scale for 256 elements, as their own dot products
//! elsewhere have, was three times less accurate on rows with outliers.
//!
//! f32 activations (`Exact`, dense weights, adapters) go in tiles too, of 6 rows from m = 4 on, rows past m zero: element c of row t
//! of a tile at c * 6 + t, so that a kernel reads them in order through one pointer. Below, they are rows.
//!
//! **Layout.** Integer rows (tokens) go in tiles of `T`: 4 from m = 4 on (rows past m are zero), else 1. For each tile and each
//! block of 32 elements there is a record of words (u32), each line of it one word a token:
//!
//! ```text
//! int8:   8 lines   the 32 elements, 4 to a word, element 4i+j in byte j of line i
//!         2 lines   half sums for 16 elements each: i16 pair (elements 0,1 of each word; elements 2,3)
//!         1 line    d, the scale (f32)
//!         1 line    d * sum of the 32 integers (f32)
//! int16:  8 lines   the even elements, 2 to a word: (4i, 4i+2) in line i
//!         8 lines   the odd elements: (4i+1, 4i+3) in line 8+i
//!         1 line    d, the scale (f32)
//! ```
//! **Outliers.** Where one or two elements of an int8 block are five times as large as all others, they would take most of the
//! range away from the rest: on a real model such blocks, one in five, hold most of the rounding noise. They count as zero in
//! the block and go to a list, with their column and f32 value, that kernels multiply by the weights of that column.
//!
//! The half sums are what the bias trick needs (see `avx2/matmul.rs`). The int16 order makes widening a weight
//! vector to two vectors a matter of shifts. A block with a NaN or infinity has d = NaN and zeros, so its outputs are NaN.

use super::crossovers::{PANELS_FROM, WORDS_FROM};
use super::types::Precision;
use super::words::SPAN;
use crate::quant::BlockFormat;

/// Elements of a block.
pub(crate) const BLOCK: usize = 32;
/// Words a token of an int8 record.
pub(crate) const I8_LINES: usize = 12;
/// Words a token of an int16 record.
pub(crate) const I16_LINES: usize = 17;
/// Tokens of a full tile of integers.
pub(crate) const TILE: usize = 4;
/// Tokens of a full tile in f32: 6 x 16 sums and what they are made of fill 16 vector registers of 8.
pub(crate) const F32_TILE: usize = 6;
/// Rows that are whole tiles of every kind.
pub(crate) const WHOLE_TILES: usize = 12;
const _: () = assert!(WHOLE_TILES.is_multiple_of(TILE) && WHOLE_TILES.is_multiple_of(F32_TILE));
/// Blocks whose largest magnitude is below this are taken as zero: 127 / amax would overflow.
pub(crate) const TINY: f32 = 1e-30;

/// Elements taken out of a block at most.
pub(crate) const OUTLIERS: usize = 2;
/// They are those above this share of the largest, so the others' steps shrink to this share. On SmolLM2-135M: 0.5 takes out 0.5
/// elements a block and leaves 15 % of the noise, 0.33: 0.25 and 19 %, 0.25: 0.15 and 27 %; each costs time: the prompt is 5 to 8 % faster with 0.2
/// than with 0.3, and farther from `Exact` by a quarter to a half, which is a quarter of llama.cpp's distance or less (`peers kl`).
pub(crate) const OUTLYING: f32 = 0.2;

/// An element that is not in its int8 block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Outlier {
    /// Its column.
    pub at: u32,
    /// Its token within the tile.
    pub token: u32,
    /// Its value.
    pub x: f32,
}

/// What a weight format is multiplied with in [`Fast`](super::Precision::Fast).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partner {
    /// f32 activations, weights dequantized: every format can do this.
    F32,
    /// int8 with a scale per 32.
    I8,
    /// int16 with a scale per 32.
    I16,
    /// Weights in words too, in [`Fine`](super::Precision::Fine): see [`words`](super::words).
    Words,
}

/// Formats with an integer kernel, and its activations: every level's `matmul_int` has all of them. All others (the dense ones):
/// [`Partner::F32`].
pub static PARTNERS: &[(BlockFormat, Partner)] = &[
    (BlockFormat::Q4_0, Partner::I8),
    (BlockFormat::Q4_1, Partner::I8),
    (BlockFormat::Q5_0, Partner::I8),
    (BlockFormat::Q5_1, Partner::I8),
    (BlockFormat::Q8_0, Partner::I16),
    (BlockFormat::Q2_K, Partner::I8),
    (BlockFormat::Q3_K, Partner::I8),
    (BlockFormat::Q4_K, Partner::I8),
    (BlockFormat::Q5_K, Partner::I8),
    (BlockFormat::Q6_K, Partner::I8),
    (BlockFormat::IQ4_NL, Partner::I16),
    (BlockFormat::IQ4_XS, Partner::I16),
    (BlockFormat::MXFP4, Partner::I8),
];

/// The activations that `format` needs in Fast.
pub fn partner(format: BlockFormat) -> Partner {
    PARTNERS
        .iter()
        .find(|(f, _)| *f == format)
        .map_or(Partner::F32, |(_, p)| *p)
}

/// The activations that `m` rows meet `format` with.
pub(crate) fn product_of(format: BlockFormat, precision: Precision, m: usize) -> Partner {
    match (precision, partner(format)) {
        (Precision::Exact, _) | (_, Partner::F32) => Partner::F32,
        (Precision::Fast, partner) => partner,
        (Precision::Fine, _) if m >= WORDS_FROM => Partner::Words,
        (Precision::Fine, _) => Partner::F32,
    }
}

/// Who reads packed activations.
#[derive(Clone, Copy)]
pub struct Readers<'a> {
    /// Of the weights that do.
    pub formats: &'a [BlockFormat],
    /// How they read.
    pub precision: Precision,
    /// Whether low-rank updates read them too.
    pub updates: bool,
}

impl<'a> Readers<'a> {
    /// Weights alone.
    pub fn weights(formats: &'a [BlockFormat], precision: Precision) -> Self {
        Readers {
            formats,
            precision,
            updates: false,
        }
    }

    /// Low-rank updates alone.
    pub fn updates(precision: Precision) -> Self {
        Readers {
            formats: &[],
            precision,
            updates: true,
        }
    }

    /// What forms they need of rows of k.
    pub(crate) fn forms(&self, m: usize, k: usize) -> Has {
        let exact = self.precision == Precision::Exact;
        let blocks = k.is_multiple_of(BLOCK);
        let want = |p| self.formats.iter().any(|&f| product_of(f, self.precision, m) == p);
        Has {
            x: exact || want(Partner::F32) || self.updates && !blocks,
            i8: want(Partner::I8) || self.updates && !exact && blocks,
            i16: want(Partner::I16),
            words: want(Partner::Words),
            whole: false,
        }
    }
}

/// Input rows of one or more matmuls, with the quantized forms that their weights need, made once.
/// Buffers grow and are reused; no allocation once warm.
#[derive(Default)]
pub struct Acts {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) x: Vec<f32>,
    pub(crate) i8: Vec<u32>,
    pub(crate) i16: Vec<u32>,
    /// For each tile room for all that it may have, by token, then column.
    pub(crate) outliers: Vec<Outlier>,
    /// For each tile how many it has.
    pub(crate) outlier_counts: Vec<u32>,
    /// For each [`SPAN`] of columns and each row as many codes, of [`AHEAD`](super::words::AHEAD)'s size.
    pub(crate) words: Vec<i16>,
    /// The scale of each.
    pub(crate) word_scales: Vec<f32>,
    pub(crate) has: Has,
}

/// Which forms are filled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Has {
    pub x: bool,
    pub i8: bool,
    pub i16: bool,
    pub words: bool,
    /// Whether int8 blocks keep their outliers.
    pub whole: bool,
}

/// Tokens of a tile in a batch of m rows.
pub(crate) fn tile(m: usize) -> usize {
    if m < PANELS_FROM { 1 } else { TILE }
}

/// Tokens of a tile in f32 in a batch of m rows.
pub(crate) fn f32_tile(m: usize) -> usize {
    if m < PANELS_FROM { 1 } else { F32_TILE }
}

/// What the buffers of [`Acts`] have room for.
#[derive(Clone, Copy, Default)]
pub struct ActsSize {
    x: usize,
    i8: usize,
    i16: usize,
    outliers: usize,
    outlier_counts: usize,
    words: usize,
    word_scales: usize,
}

impl ActsSize {
    /// For `m` rows of `k`, as these readers need them.
    pub fn of(m: usize, k: usize, readers: Readers) -> Self {
        Self::of_forms(m, k, readers.forms(m, k))
    }

    fn of_forms(m: usize, k: usize, has: Has) -> Self {
        let (tiles, blocks) = (m.div_ceil(tile(m)), k / BLOCK);
        let words = |lines: usize| tiles.saturating_mul(tile(m) * lines).saturating_mul(blocks);
        let f32_rows = m.div_ceil(f32_tile(m)) * f32_tile(m);
        let wanted = |wanted: bool, len: usize| if wanted { len } else { 0 };
        ActsSize {
            x: wanted(has.x, f32_rows.saturating_mul(k)),
            i8: wanted(has.i8, words(I8_LINES)),
            i16: wanted(has.i16, words(I16_LINES)),
            outliers: wanted(has.i8, words(OUTLIERS)),
            outlier_counts: wanted(has.i8, tiles),
            words: wanted(has.words, k.div_ceil(SPAN).saturating_mul(m).saturating_mul(SPAN)),
            word_scales: wanted(has.words, k.div_ceil(SPAN).saturating_mul(m)),
        }
    }

    /// Room for either.
    pub fn max(self, other: Self) -> Self {
        ActsSize {
            x: self.x.max(other.x),
            i8: self.i8.max(other.i8),
            i16: self.i16.max(other.i16),
            outliers: self.outliers.max(other.outliers),
            outlier_counts: self.outlier_counts.max(other.outlier_counts),
            words: self.words.max(other.words),
            word_scales: self.word_scales.max(other.word_scales),
        }
    }

    /// Bytes of that.
    pub fn bytes(&self) -> usize {
        let words = [
            self.x,
            self.i8,
            self.i16,
            self.outlier_counts,
            self.words.div_ceil(2),
            self.word_scales,
        ];
        let words = words
            .into_iter()
            .fold(0, usize::saturating_add)
            .saturating_mul(size_of::<u32>());
        words.saturating_add(self.outliers.saturating_mul(size_of::<Outlier>()))
    }
}

/// Room for `len` elements. Old contents are lost where more is needed: there are never two buffers, and none is larger than it must be
/// (see `MemoryPlan`).
fn grow<T: Default + Clone>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        *buffer = Vec::new();
        *buffer = vec![T::default(); len];
    }
}

/// At most `tile` rows of `k` as one tile: element c of row t at `c * tile + t`; missing rows are zero.
pub(crate) fn interleave(rows: &[f32], k: usize, tile: usize, out: &mut [f32]) {
    if tile == 1 {
        out.copy_from_slice(rows);
        return;
    }
    if rows.len() < tile * k {
        out.fill(0.0);
    }
    for (t, row) in rows.chunks_exact(k).enumerate() {
        for (out, x) in out[t..].iter_mut().step_by(tile).zip(row) {
            *out = *x;
        }
    }
}

impl Acts {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.m
    }

    /// Tokens of a tile of integers.
    pub(crate) fn tile(&self) -> usize {
        tile(self.m)
    }

    /// Tokens of a tile in f32.
    pub(crate) fn f32_tile(&self) -> usize {
        f32_tile(self.m)
    }

    /// Makes room for `m` rows of `k` in the forms `has`. Old contents are lost. Buffers only grow: filling up again what was cut off
    /// for narrower rows would cost more than packing.
    pub(crate) fn reserve(&mut self, m: usize, k: usize, has: Has) {
        (self.m, self.k, self.has) = (m, k, has);
        let size = ActsSize::of_forms(m, k, has);
        grow(&mut self.x, size.x);
        grow(&mut self.i8, size.i8);
        grow(&mut self.i16, size.i16);
        grow(&mut self.outliers, size.outliers);
        grow(&mut self.outlier_counts, size.outlier_counts);
        grow(&mut self.words, size.words);
        grow(&mut self.word_scales, size.word_scales);
    }

    /// Makes room for the f32 form beside the others.
    pub(crate) fn reserve_f32(&mut self) {
        self.has.x = true;
        let size = ActsSize::of_forms(self.m, self.k, self.has);
        grow(&mut self.x, size.x);
    }

    /// Tile `index` in f32: element c of row t at `c * f32_tile() + t`.
    pub(crate) fn f32_tile_at(&self, index: usize) -> &[f32] {
        let len = self.f32_tile() * self.k;
        &self.x[index * len..][..len]
    }

    /// Outliers that a tile may have.
    pub(crate) fn outlier_room(&self) -> usize {
        OUTLIERS * self.tile() * (self.k / BLOCK)
    }

    /// The outliers of tile `index`.
    pub(crate) fn tile_outliers(&self, index: usize) -> &[Outlier] {
        // What another thread has just made comes from its cache, line by line.
        if self.has.whole {
            return &[];
        }
        &self.outliers[index * self.outlier_room()..][..self.outlier_counts[index] as usize]
    }

    /// The records of tile `index` in int8, `k / 32` of them.
    pub(crate) fn i8_tile(&self, index: usize) -> &[u32] {
        let words = self.tile() * (self.k / BLOCK) * I8_LINES;
        &self.i8[index * words..][..words]
    }

    /// The records of tile `index` in int16.
    pub(crate) fn i16_tile(&self, index: usize) -> &[u32] {
        let words = self.tile() * (self.k / BLOCK) * I16_LINES;
        &self.i16[index * words..][..words]
    }
}
