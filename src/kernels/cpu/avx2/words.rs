//! Gradients and weights in words: see [`crate::kernels::cpu::words`].

use std::arch::x86_64::*;
use std::ops::Range;

use super::decode::{Dot, Maddubs};
use super::dense::eight_rows;
use super::lanes::{load, store, transpose};
use crate::kernels::cpu::isa::Words;
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::Weight;
use crate::kernels::cpu::words::{self, AHEAD, BACK, COLUMNS, LEAST, SPAN};

/// Rows of a tile: 6 x 2 sums, 2 vectors of the panel, a pair of gradients and a product fill the 16 registers.
const ROWS: usize = 6;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pack_words(x: &[f32], code: f32, out: &mut [i16]) -> f32 {
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let (sixteens, rest) = x.as_chunks::<16>();
    assert!(rest.is_empty() && out.len() >= x.len(), "pack_words: lengths");
    let (mut most, mut strange) = ([_mm256_setzero_ps(); 2], _mm256_setzero_ps());
    for x in sixteens {
        let (a, b) = (load(&x[..8]), load(&x[8..]));
        // In this order a NaN is passed over.
        most[0] = _mm256_max_ps(_mm256_and_ps(a, magnitude), most[0]);
        most[1] = _mm256_max_ps(_mm256_and_ps(b, magnitude), most[1]);
        strange = _mm256_or_ps(strange, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b));
    }
    let mut lanes = [0.0; 8];
    store(&mut lanes, _mm256_max_ps(most[0], most[1]));
    let most = lanes.into_iter().fold(0.0, f32::max);
    let (steps, scale) = words::steps(most, code, _mm256_movemask_ps(strange) == 0);
    let steps = _mm256_set1_ps(steps);
    for (x, out) in sixteens.iter().zip(out.as_chunks_mut::<16>().0) {
        let code = |x: &[f32]| _mm256_cvtps_epi32(_mm256_mul_ps(load(x), steps));
        // Packing works within halves of a vector.
        let codes = _mm256_permute4x64_epi64::<0b11011000>(_mm256_packs_epi32(code(&x[..8]), code(&x[8..])));
        // SAFETY: 16 words.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), codes) };
    }
    scale
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::cpu) fn word_rows(
    w: Weight,
    row: usize,
    columns: Range<usize>,
    unpacked: &mut [f32],
    panel: &mut [i16],
    scales: &mut [f32],
) {
    let count = columns.len();
    assert!(
        count.is_multiple_of(2) && panel.len() >= count * COLUMNS && scales.len() == COLUMNS,
        "word_rows: shape"
    );
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let turned = &mut unpacked[..8 * count];
    let mut spare = Vec::new();
    for (r, scales) in scales.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let blocks = w.rows_or_zeros::<8>(row + 8 * r, &mut spare);
        eight_rows(&w, blocks, columns.start, count, turned, 8);
        let mut most = _mm256_setzero_ps();
        for column in turned.as_chunks::<8>().0 {
            // In this order a NaN is passed over.
            most = _mm256_max_ps(_mm256_and_ps(load(column), magnitude), most);
        }
        let steps = steps(most, AHEAD.w, scales);
        for (pair, out) in turned
            .as_chunks::<16>()
            .0
            .iter()
            .zip(panel.chunks_exact_mut(2 * COLUMNS))
        {
            let code = |column: usize| _mm256_cvtps_epi32(_mm256_mul_ps(load(&pair[8 * column..][..8]), steps));
            store_pairs(code(0), code(1), &mut out[16 * r..]);
        }
    }
}

/// What turns weights of at most `most` into codes of at most `code`, for each of 8 panel columns, and the scales that turn them back.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn steps(most: __m256, code: f32, scales: &mut [f32]) -> __m256 {
    let some = _mm256_cmp_ps::<_CMP_GT_OQ>(most, _mm256_set1_ps(LEAST));
    store(
        scales,
        _mm256_and_ps(some, _mm256_mul_ps(most, _mm256_set1_ps(1.0 / code))),
    );
    _mm256_and_ps(some, _mm256_div_ps(_mm256_set1_ps(code), most))
}

/// The words of 8 columns of two rows, side by side.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store_pairs(first: __m256i, second: __m256i, out: &mut [i16]) {
    let codes = _mm256_blend_epi16::<0xAA>(first, _mm256_slli_epi32::<16>(second));
    // SAFETY: 16 words.
    unsafe { _mm256_storeu_si256(out[..16].as_mut_ptr().cast(), codes) };
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::cpu) fn word_panels(
    w: Weight,
    rows: Range<usize>,
    column: usize,
    unpacked: &mut [f32],
    panels: &mut [i16],
    scales: &mut [f32],
) {
    let (columns, depth) = (scales.len(), rows.len());
    assert!(
        depth.is_multiple_of(8) && columns.is_multiple_of(COLUMNS),
        "word_panels: shape"
    );
    let bytes = w.row_bytes();
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    scales.fill(0.0);
    scratch::with_f32(8 * columns, |turned| {
        for (rows, out) in rows.step_by(8).zip(unpacked.chunks_exact_mut(8 * columns)) {
            let blocks = &w.data[rows * bytes..][..8 * bytes];
            eight_rows(&w, blocks, column, columns, turned, 8);
            for (c, (turned, scales)) in turned
                .as_chunks::<64>()
                .0
                .iter()
                .zip(scales.as_chunks_mut::<8>().0)
                .enumerate()
            {
                let rows = transpose(std::array::from_fn(|i| load(&turned[8 * i..])));
                let mut most = load(scales);
                for (row, out) in rows.iter().zip(out.chunks_exact_mut(columns)) {
                    store(&mut out[8 * c..][..8], *row);
                    // In this order a NaN is passed over.
                    most = _mm256_max_ps(_mm256_and_ps(*row, magnitude), most);
                }
                store(scales, most);
            }
        }
    });
    for (c, scales) in scales.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let steps = steps(load(scales), BACK.w, scales);
        let (panel, at) = (8 * c / COLUMNS * depth * COLUMNS, 8 * c % COLUMNS * 2);
        let panel = &mut panels[panel..][..depth * COLUMNS];
        for (pair, out) in unpacked
            .chunks_exact(2 * columns)
            .zip(panel.chunks_exact_mut(2 * COLUMNS))
        {
            let code = |row: usize| _mm256_cvtps_epi32(_mm256_mul_ps(load(&pair[row * columns + 8 * c..][..8]), steps));
            store_pairs(code(0), code(1), &mut out[at..]);
        }
    }
}

/// # Safety
/// As [`Isa::word_products`](crate::kernels::cpu::isa::Isa::word_products).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn word_products(p: Words) {
    // SAFETY: the caller's promise.
    unsafe { products::<Maddubs>(p) }
}

/// [`word_products`] with D's arithmetic.
///
/// # Safety
/// As `word_products`, and what [`Dot`] asks for.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn products<D: Dot>(p: Words) {
    let depth = p.depth();
    let mut row = 0;
    while row < p.x_scales.len() {
        // SAFETY: the caller's promise.
        row += unsafe {
            match p.x_scales.len() - row {
                ROWS.. => tile::<D, ROWS>(&p, depth, row),
                3.. => tile::<D, 3>(&p, depth, row),
                _ => tile::<D, 1>(&p, depth, row),
            }
        };
    }
}

/// Rows `row .. row + T`. Returns T.
///
/// # Safety
/// As [`products`], which has checked `p`; the rows exist.
#[inline(always)]
unsafe fn tile<D: Dot, const T: usize>(p: &Words, depth: usize, row: usize) -> usize {
    let x = p.x[row * SPAN..][..T * SPAN].as_ptr();
    for column in (0..COLUMNS).step_by(16) {
        // SAFETY: `depth` rows of the panel and T of x.
        let sums = unsafe {
            let mut sums = [[_mm256_setzero_si256(); 2]; T];
            let mut panel = p.panel.as_ptr().add(2 * column);
            for c in (0..depth).step_by(2) {
                let codes = [
                    _mm256_loadu_si256(panel.cast()),
                    _mm256_loadu_si256(panel.add(16).cast()),
                ];
                for (t, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_epi32(x.add(t * SPAN + c).cast::<i32>().read_unaligned());
                    for (sum, codes) in sums.iter_mut().zip(codes) {
                        *sum = D::step_words(*sum, codes, x);
                    }
                }
                panel = panel.add(2 * COLUMNS);
            }
            sums
        };
        for (t, sums) in sums.iter().enumerate() {
            // SAFETY: these columns are ours.
            let (x_scale, y) = unsafe {
                (
                    _mm256_set1_ps(p.x_scales[row + t]),
                    p.y.at(row + t, p.column + column, 16),
                )
            };
            for (v, (sum, y)) in sums.iter().zip(y.chunks_exact_mut(8)).enumerate() {
                // SAFETY: the level's instructions, which D asks for too.
                unsafe {
                    let scale = _mm256_mul_ps(load(&p.scales[column + 8 * v..][..8]), x_scale);
                    let old = if p.add { load(y) } else { _mm256_setzero_ps() };
                    store(y, _mm256_fmadd_ps(_mm256_cvtepi32_ps(*sum), scale, old));
                }
            }
        }
    }
    T
}
