//! Products with the packed matrices of adapters.

use std::arch::x86_64::*;
use std::ops::Range;

use super::decode::{Dot, Maddubs};
use super::dense::{F32, tile};
use super::lanes::{load, store};
use crate::kernels::cpu::acts::{BLOCK, F32_TILE, I8_LINES, Outlier, TILE};
use crate::kernels::cpu::panels::{Codes, How, LINE, Place, ROWS, Records, ZERO, lines, panel_bytes};
use crate::kernels::cpu::types::Out;

/// # Safety
/// As [`Isa::panel`](crate::kernels::cpu::isa::Isa::panel).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn panel(w: &[f32], n: usize, x: &[f32], tokens: usize, y: Out, at: (usize, usize), how: How) {
    let cols = w.len() / ROWS;
    assert!(cols > 0 && w.len() == cols * ROWS && tokens <= F32_TILE);
    let mut sums = [[_mm256_setzero_ps(); 2]; F32_TILE];
    if x.len() == cols {
        sums[0] = one(w, x);
    } else {
        // SAFETY: the panel has `cols` columns of ROWS numbers.
        unsafe { tile::<F32, F32_TILE, 2, 1, F32_TILE>(x, w.as_ptr().cast(), ROWS * 4, cols, &mut sums) };
    }
    for (t, sums) in sums.into_iter().enumerate().take(tokens) {
        // SAFETY: these columns are ours.
        let out = unsafe { y.at(at.0 + t, at.1, n) };
        for (i, (out, sum)) in out.chunks_mut(8).zip(sums).enumerate() {
            put(out, sum, how, 8 * i);
        }
    }
}

/// Stores, or adds, the sums that exist; they are of the rows from `row` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn put(out: &mut [f32], sum: __m256, how: How, row: usize) {
    let sum = match how {
        How::Set => sum,
        How::Add => _mm256_add_ps(load(out), sum),
        How::Scaled(f) => _mm256_fmadd_ps(sum, load(&f[row..][..out.len()]), load(out)),
    };
    store(out, sum);
}

/// 16 sums of one token, in four chains.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn one(w: &[f32], x: &[f32]) -> [__m256; 2] {
    let mut f = [[_mm256_setzero_ps(); 2]; 4];
    let columns = w.as_chunks::<ROWS>().0;
    for (columns, x) in columns.chunks(4).zip(x.chunks(4)) {
        for ((f, w), x) in f.iter_mut().zip(columns).zip(x) {
            let x = _mm256_set1_ps(*x);
            f[0] = _mm256_fmadd_ps(load(&w[..8]), x, f[0]);
            f[1] = _mm256_fmadd_ps(load(&w[8..]), x, f[1]);
        }
    }
    let both = |i: usize| _mm256_add_ps(_mm256_add_ps(f[0][i], f[1][i]), _mm256_add_ps(f[2][i], f[3][i]));
    [both(0), both(1)]
}

/// See [`Isa::fetch`](crate::kernels::cpu::isa::Isa::fetch).
pub(super) fn fetch(bytes: &[u8], soon: bool) {
    for line in bytes.chunks(64) {
        // SAFETY: a hint, of a baseline instruction; it cannot fault.
        unsafe {
            if soon {
                _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
            } else {
                _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
            }
        }
    }
}

/// # Safety
/// As [`Isa::codes`](crate::kernels::cpu::isa::Isa::codes).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn codes(p: Codes, panels: Range<usize>, x: Records, y: Out, column: usize, how: How) {
    // SAFETY: the caller's promise.
    unsafe { products::<Maddubs>(p, panels, x, y, column, how) }
}

/// Vectors of 8 rows that one token has at a time, of several panels.
const TOGETHER: usize = 4;

/// [`codes`] with D's arithmetic.
///
/// # Safety
/// As `codes`, and what [`Dot`] asks for.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn products<D: Dot>(
    p: Codes,
    panels: Range<usize>,
    x: Records,
    y: Out,
    column: usize,
    how: How,
) {
    x.check(&p, &panels);
    let (mut row, end) = (panels.start * ROWS, panels.end * ROWS);
    // SAFETY: the caller's promise; the rows are in `panels`, which the matrix has, as the records.
    unsafe {
        if x.acts.tile() == 1 {
            while row + 8 * TOGETHER <= end {
                tiles::<D, TOGETHER, 1>(&p, row, &x, y, column, how);
                row += 8 * TOGETHER;
            }
            for row in (row..end).step_by(ROWS) {
                tiles::<D, 2, 1>(&p, row, &x, y, column, how);
            }
        } else {
            for row in (row..end).step_by(8) {
                tiles::<D, 1, TILE>(&p, row, &x, y, column, how);
            }
        }
    }
}

/// V x 8 rows from `row` on, with tiles of T tokens.
///
/// # Safety
/// As [`products`]; the panels have these rows (they may lie past the last).
#[inline(always)]
unsafe fn tiles<D: Dot, const V: usize, const T: usize>(
    p: &Codes,
    row: usize,
    x: &Records,
    y: Out,
    column: usize,
    how: How,
) {
    let n = (8 * V).min(p.rows.saturating_sub(row));
    if n == 0 {
        return;
    }
    let panel = panel_bytes(p.cols);
    // SAFETY: the panels have these rows.
    let data = unsafe { p.data.as_ptr().add(row / ROWS * panel + row % ROWS * 4) };
    for index in x.tiles.clone() {
        let records = x.acts.i8_tile(index)[x.group * I8_LINES * T..].as_ptr();
        // SAFETY: the panels' and the tile's groups are within their lengths; these columns of y are ours.
        unsafe {
            let mut sums = sums::<D, V, T>(p.cols, data, panel, records);
            let outliers = x.acts.tile_outliers(index);
            if !outliers.is_empty() {
                lone::<V, T>(p.cols, data, panel, outliers, x.group, &mut sums);
            }
            for (t, sums) in sums.into_iter().enumerate().take(y.m() - index * T) {
                let out = y.at(index * T + t, column + row, n);
                for (i, (out, sum)) in out.chunks_mut(8).zip(sums).enumerate() {
                    put(out, sum, how, row + 8 * i);
                }
            }
        }
    }
}

/// Where vector v is: two to a panel.
const fn vector(panel: usize, v: usize) -> usize {
    v / 2 * panel + v % 2 * 32
}

/// V x 8 rows, beginning at `data` in panels of `panel` bytes, times the records of T tokens.
///
/// # Safety
/// As [`products`]: groups of `cols` columns at `data`, and their records.
#[inline(always)]
unsafe fn sums<D: Dot, const V: usize, const T: usize>(
    cols: usize,
    mut data: *const u8,
    panel: usize,
    mut record: *const u32,
) -> [[__m256; V]; T] {
    // SAFETY: each group's lines and record, as the caller promises.
    unsafe {
        let mut f = [[_mm256_setzero_ps(); V]; T];
        for group in 0..cols.div_ceil(BLOCK) {
            let lines = lines(cols, group);
            let mut acc = [[_mm256_setzero_si256(); V]; T];
            for (t, acc) in acc.iter_mut().enumerate() {
                let half = |h: usize| _mm256_set1_epi32(record.add((8 + h) * T + t).read() as i32);
                *acc = [D::start_wide(_mm256_add_epi16(half(0), half(1))); V];
            }
            for i in 0..lines {
                let mut codes = [_mm256_setzero_si256(); V];
                for (v, codes) in codes.iter_mut().enumerate() {
                    *codes = _mm256_loadu_si256(data.add(i * LINE + vector(panel, v)).cast());
                }
                for (t, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_epi32(record.add(i * T + t).read() as i32);
                    for (acc, codes) in acc.iter_mut().zip(codes) {
                        *acc = D::step_wide(*acc, codes, x);
                    }
                }
            }
            for v in 0..V {
                let scale = _mm256_loadu_ps(data.add(lines * LINE + vector(panel, v)).cast());
                for t in 0..T {
                    let scale = _mm256_mul_ps(scale, _mm256_broadcast_ss(&*record.add(10 * T + t).cast()));
                    f[t][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[t][v]), scale, f[t][v]);
                }
            }
            data = data.add((lines + 1) * LINE);
            record = record.add(I8_LINES * T);
        }
        f
    }
}

/// sums += the columns at `data` times the outliers among those from group `group` on.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn lone<const V: usize, const T: usize>(
    cols: usize,
    data: *const u8,
    panel: usize,
    mut outliers: &[Outlier],
    group: usize,
    sums: &mut [[__m256; V]; T],
) {
    // They come by token, so that a token's sums can stay in registers.
    for (t, sums) in sums.iter_mut().enumerate() {
        let mut f = *sums;
        for (place, value) in Place::of_token(&mut outliers, t, group, cols) {
            for (v, f) in f.iter_mut().enumerate() {
                // SAFETY: a column that the panel has.
                unsafe {
                    let (x, zero) = (_mm256_set1_ps(value), _mm256_set1_ps(f32::from(ZERO)));
                    let shift = _mm_cvtsi32_si128(8 * place.byte as i32);
                    let line = _mm256_loadu_si256(data.add(place.line + vector(panel, v)).cast());
                    let code = _mm256_and_si256(_mm256_srl_epi32(line, shift), _mm256_set1_epi32(255));
                    let code = _mm256_sub_ps(_mm256_cvtepi32_ps(code), zero);
                    let scale = _mm256_loadu_ps(data.add(place.scales + vector(panel, v)).cast());
                    *f = _mm256_fmadd_ps(_mm256_mul_ps(code, scale), x, *f);
                }
            }
        }
        *sums = f;
    }
}
