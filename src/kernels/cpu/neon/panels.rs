//! Products with the packed matrices of adapters. A line of a panel is four vectors, each of 4 codes of 4 rows.

use std::arch::aarch64::*;
use std::ops::Range;

use super::dense::{Sums, tile};
use super::dot::{Sdot, Widening, sdot, spread};
use super::lanes::{load, store};
use super::unpack::signed_byte;
use crate::kernels::cpu::acts::{BLOCK, F32_TILE, I8_LINES, Outlier, TILE};
use crate::kernels::cpu::panels::{Codes, How, LINE, Place, ROWS, Records, lines, panel_bytes};
use crate::kernels::cpu::types::Out;

/// # Safety
/// As [`Isa::panel`](crate::kernels::cpu::isa::Isa::panel).
#[target_feature(enable = "neon")]
pub(super) unsafe fn panel(w: &[f32], n: usize, x: &[f32], tokens: usize, y: Out, at: (usize, usize), how: How) {
    let cols = w.len() / ROWS;
    assert!(cols > 0 && w.len() == cols * ROWS && tokens <= F32_TILE);
    let mut sums = [[vdupq_n_f32(0.0); 4]; F32_TILE];
    if x.len() == cols {
        sums[0] = one(w, x);
    } else {
        // SAFETY: the panel has `cols` columns of ROWS numbers.
        unsafe { tile::<false, F32_TILE, 1, F32_TILE>(x, w.as_ptr().cast(), 4 * ROWS, cols, &mut sums) };
    }
    for (t, sums) in sums.into_iter().enumerate().take(tokens) {
        // SAFETY: these columns are ours.
        let out = unsafe { y.at(at.0 + t, at.1, n) };
        for (i, (out, sum)) in out.chunks_mut(4).zip(sums).enumerate() {
            put(out, sum, how, 4 * i);
        }
    }
}

/// Stores, or adds, the sums that exist; they are of the rows from `row` on.
#[inline]
#[target_feature(enable = "neon")]
fn put(out: &mut [f32], sum: float32x4_t, how: How, row: usize) {
    let sum = match how {
        How::Set => sum,
        How::Add => vaddq_f32(load(out), sum),
        How::Scaled(f) => vfmaq_f32(load(out), sum, load(&f[row..][..out.len()])),
    };
    store(out, sum);
}

/// 16 sums of one token, in four chains.
#[inline]
#[target_feature(enable = "neon")]
fn one(w: &[f32], x: &[f32]) -> Sums {
    let mut f = [[vdupq_n_f32(0.0); 4]; 4];
    let (fours, rest) = w.as_chunks::<ROWS>().0.as_chunks::<4>();
    let (x, x_rest) = x.as_chunks::<4>();
    for (columns, x) in fours.iter().zip(x) {
        for ((f, column), x) in f.iter_mut().zip(columns).zip(x) {
            add(f, column, *x);
        }
    }
    for (column, x) in rest.iter().zip(x_rest) {
        add(&mut f[0], column, *x);
    }
    let mut sums = f[0];
    for (i, sum) in sums.iter_mut().enumerate() {
        *sum = vaddq_f32(vaddq_f32(*sum, f[1][i]), vaddq_f32(f[2][i], f[3][i]));
    }
    sums
}

/// sums += column * x.
#[inline]
#[target_feature(enable = "neon")]
fn add(sums: &mut Sums, column: &[f32; ROWS], x: f32) {
    for (sum, w) in sums.iter_mut().zip(column.as_chunks::<4>().0) {
        *sum = vfmaq_n_f32(*sum, load(w), x);
    }
}

/// How a level adds up the products of a group, line by line, as the last group may have few. (For [`Dot`](super::dot::Dot) the number is
/// a constant.) A product of two bytes fits 16 bits, the sum of a group's 32 bits.
///
/// # Safety
/// The functions may be called only on a CPU that has the level's instructions.
pub(super) unsafe trait Lines {
    /// Sums of products with 4 rows.
    type Sum: Copy;

    /// No products.
    ///
    /// # Safety
    /// The CPU has the level.
    unsafe fn zero() -> Self::Sum;

    /// `sums[t][v]` += 4 codes of each of the 4 rows of `codes[v]` . dword t of `x`. T is 1 or 4.
    ///
    /// # Safety
    /// The CPU has the level.
    unsafe fn step<const V: usize, const T: usize>(sums: &mut [[Self::Sum; V]; T], codes: [int8x16_t; V], x: int8x16_t);

    /// A sum for each row.
    ///
    /// # Safety
    /// The CPU has the level.
    unsafe fn total(sum: Self::Sum) -> int32x4_t;
}

// SAFETY: every CPU of the target has these instructions.
unsafe impl Lines for Widening {
    /// Of rows 0 and 1, and of 2 and 3: in two lanes each.
    type Sum = [int32x4_t; 2];

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> Self::Sum {
        [vdupq_n_s32(0); 2]
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn step<const V: usize, const T: usize>(
        sums: &mut [[Self::Sum; V]; T],
        codes: [int8x16_t; V],
        x: int8x16_t,
    ) {
        let x = [spread::<0>(x), spread::<1>(x), spread::<2>(x), spread::<3>(x)];
        for (sums, x) in sums.iter_mut().zip(x) {
            for ([low, high], w) in sums.iter_mut().zip(codes) {
                *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                *high = vpadalq_s16(*high, vmull_high_s8(w, x));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn total([low, high]: Self::Sum) -> int32x4_t {
        vpaddq_s32(low, high)
    }
}

// SAFETY: `isa::choose` hands out the levels with it only where `sdot` is detected.
unsafe impl Lines for Sdot {
    type Sum = int32x4_t;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> Self::Sum {
        vdupq_n_s32(0)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn step<const V: usize, const T: usize>(
        sums: &mut [[Self::Sum; V]; T],
        codes: [int8x16_t; V],
        x: int8x16_t,
    ) {
        for (v, w) in codes.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                sums[0][v] = sdot::<0>(sums[0][v], w, x);
                if T == TILE {
                    sums[1][v] = sdot::<1>(sums[1][v], w, x);
                    sums[2][v] = sdot::<2>(sums[2][v], w, x);
                    sums[3][v] = sdot::<3>(sums[3][v], w, x);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn total(sum: Self::Sum) -> int32x4_t {
        sum
    }
}

/// With L's arithmetic; of one token two panels at a time where there are two, of more half a panel, so that sums and products stay in
/// registers.
///
/// # Safety
/// As [`Isa::codes`](crate::kernels::cpu::isa::Isa::codes) on a CPU that has L.
#[target_feature(enable = "neon")]
pub(super) unsafe fn codes<L: Lines>(p: Codes, panels: Range<usize>, x: Records, y: Out, column: usize, how: How) {
    x.check(&p, &panels);
    let (mut row, end) = (panels.start * ROWS, panels.end * ROWS);
    // SAFETY: the caller's promise; the rows are in `panels`, which the matrix has, as the records.
    unsafe {
        if x.acts.tile() == 1 {
            while row + 2 * ROWS <= end {
                tiles::<L, 8, 1>(&p, row, &x, y, column, how);
                row += 2 * ROWS;
            }
            if row < end {
                tiles::<L, 4, 1>(&p, row, &x, y, column, how);
            }
        } else {
            for row in (row..end).step_by(ROWS / 2) {
                tiles::<L, 2, TILE>(&p, row, &x, y, column, how);
            }
        }
    }
}

/// V x 4 rows from `row` on, with tiles of T tokens.
///
/// # Safety
/// As [`codes`]; the panels have these rows (they may lie past the last).
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tiles<L: Lines, const V: usize, const T: usize>(
    p: &Codes,
    row: usize,
    x: &Records,
    y: Out,
    column: usize,
    how: How,
) {
    let n = (4 * V).min(p.rows.saturating_sub(row));
    if n == 0 {
        return;
    }
    let panel = panel_bytes(p.cols);
    // Outside only where there are no columns, so that nothing is read.
    let data = p.data.as_ptr().wrapping_add(row / ROWS * panel + row % ROWS * 4);
    for index in x.tiles.clone() {
        let records = x.acts.i8_tile(index)[x.group * I8_LINES * T..].as_ptr();
        // SAFETY: the panels' and the tile's groups are within their lengths; these columns of y are ours.
        unsafe {
            let mut sums = sums::<L, V, T>(p.cols, data, panel, records);
            let outliers = x.acts.tile_outliers(index);
            if !outliers.is_empty() {
                lone::<V, T>(p.cols, data, panel, outliers, x.group, &mut sums);
            }
            for (t, sums) in sums.into_iter().enumerate().take(y.m().saturating_sub(index * T)) {
                let out = y.at(index * T + t, column + row, n);
                for (i, (out, sum)) in out.chunks_mut(4).zip(sums).enumerate() {
                    put(out, sum, how, row + 4 * i);
                }
            }
        }
    }
}

/// Where vector v is: four to a panel.
const fn vector(panel: usize, v: usize) -> usize {
    v / 4 * panel + v % 4 * 16
}

/// 16 codes, whose zero is 128, as signed bytes.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn signed(codes: *const u8) -> int8x16_t {
    // SAFETY: the caller's promise.
    veorq_s8(unsafe { vld1q_s8(codes.cast()) }, vdupq_n_s8(i8::MIN))
}

/// V x 4 rows, beginning at `data` in panels of `panel` bytes, times the records of T tokens.
///
/// # Safety
/// As [`codes`]: groups of `cols` columns at `data`, and their records.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sums<L: Lines, const V: usize, const T: usize>(
    cols: usize,
    mut data: *const u8,
    panel: usize,
    mut record: *const u32,
) -> [[float32x4_t; V]; T] {
    const { assert!(T == 1 || T == TILE) };
    let mut f = [[vdupq_n_f32(0.0); V]; T];
    for group in 0..cols.div_ceil(BLOCK) {
        let lines = lines(cols, group);
        // SAFETY: the group's lines and record, as the caller promises.
        unsafe {
            let mut products = [[L::zero(); V]; T];
            for i in 0..lines {
                let mut codes = [vdupq_n_s8(0); V];
                for (v, codes) in codes.iter_mut().enumerate() {
                    *codes = signed(data.add(i * LINE + vector(panel, v)));
                }
                let x = record.add(i * T);
                let x = if T == 1 { vdupq_n_u32(x.read()) } else { vld1q_u32(x) };
                L::step(&mut products, codes, vreinterpretq_s8_u32(x));
            }
            for v in 0..V {
                let scale = vld1q_f32(data.add(lines * LINE + vector(panel, v)).cast());
                for t in 0..T {
                    let scale = vmulq_n_f32(scale, f32::from_bits(record.add(10 * T + t).read()));
                    f[t][v] = vfmaq_f32(f[t][v], vcvtq_f32_s32(L::total(products[t][v])), scale);
                }
            }
            data = data.add((lines + 1) * LINE);
            record = record.add(I8_LINES * T);
        }
    }
    f
}

/// sums += the columns at `data` times the outliers among those from group `group` on.
///
/// # Safety
/// As [`sums`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn lone<const V: usize, const T: usize>(
    cols: usize,
    data: *const u8,
    panel: usize,
    mut outliers: &[Outlier],
    group: usize,
    sums: &mut [[float32x4_t; V]; T],
) {
    // They come by token, so that a token's sums can stay in registers.
    for (t, sums) in sums.iter_mut().enumerate() {
        let mut f = *sums;
        for (place, value) in Place::of_token(&mut outliers, t, group, cols) {
            for (v, f) in f.iter_mut().enumerate() {
                // SAFETY: a column that the panel has.
                unsafe {
                    let line = signed(data.add(place.line + vector(panel, v)));
                    let code = signed_byte(vreinterpretq_s32_s8(line), place.byte);
                    let scale = vld1q_f32(data.add(place.scales + vector(panel, v)).cast());
                    *f = vfmaq_n_f32(*f, vmulq_f32(code, scale), value);
                }
            }
        }
        *sums = f;
    }
}
