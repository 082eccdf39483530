//! Weights in words, straight from their codes: see [`crate::kernels::cpu::words`].
//!
//! A weight is scale * code + low, where low is that of code 0. In steps of a panel that is code * (scale / step) + low / step: a product of
//! words that keeps its upper half, and a sum. The product has codes of 13 bits and a factor in 32768ths, the sum one or two bits behind the point,
//! so that what is left is within 0.9 of a step.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::cpu::avx2;
use crate::kernels::cpu::avx2::unpack::{self, Unpack};
use crate::kernels::cpu::isa::{WordPanels, WordRows};
use crate::kernels::cpu::types::Weight;
use crate::kernels::cpu::words::{AHEAD, BACK, COLUMNS, LEAST};
use crate::quant::BlockFormat;

/// Rows of a strip: lanes of a vector.
const ROWS: usize = 16;
/// Columns of a group.
const GROUP: usize = 32;
/// Strips of the unpackers in one of 16 rows.
const STRIPS: usize = 4 * ROWS / unpack::LINE;

/// Bits behind the point, so many that factors fit a word: codes of all ones, of two bits or more, become 2 * w steps at most.
const BACK_BEHIND: u32 = 2;
const AHEAD_BEHIND: u32 = 1;
const fn fits(w: f32, behind: u32) -> bool {
    // Codes are 2^13 - 2^11 at least; a factor is in 32768ths.
    (((2.0 * w) as u32) << behind) * 32768 / ((1 << 13) - (1 << 11)) < 32768
}
const _: () = assert!(fits(BACK.w, BACK_BEHIND) && fits(AHEAD.w, AHEAD_BEHIND));

/// The panels of a format.
struct Kernels {
    format: BlockFormat,
    back: WordPanels,
    ahead: WordRows,
}

macro_rules! kernels {
    ($($format:ident)*) => {
        &[$(Kernels {
            format: BlockFormat::$format,
            back: back::<unpack::$format>,
            ahead: ahead::<unpack::$format>,
        }),*]
    };
}

static Q8_0: &[Kernels] = kernels!(Q8_0);
static OTHERS: &[Kernels] = unpack::formats!(kernels);

fn kernels_of(format: BlockFormat) -> Option<&'static Kernels> {
    [Q8_0, OTHERS].into_iter().flatten().find(|k| k.format == format)
}

/// As [`WordPanels`](crate::kernels::cpu::isa::WordPanels).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn word_panels(
    w: Weight,
    rows: Range<usize>,
    column: usize,
    unpacked: &mut [f32],
    panels: &mut [i16],
    scales: &mut [f32],
) {
    match kernels_of(w.format) {
        // SAFETY: the format is that of the kernel.
        Some(kernels) if rows.len().is_multiple_of(ROWS) => unsafe {
            (kernels.back)(w, rows, column, unpacked, panels, scales);
        },
        _ => avx2::words::word_panels(w, rows, column, unpacked, panels, scales),
    }
}

/// As [`WordRows`](crate::kernels::cpu::isa::WordRows).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn word_rows(
    w: Weight,
    row: usize,
    columns: Range<usize>,
    unpacked: &mut [f32],
    panel: &mut [i16],
    scales: &mut [f32],
) {
    match kernels_of(w.format) {
        // SAFETY: the format is that of the kernel.
        Some(kernels) => unsafe { (kernels.ahead)(w, row, columns, unpacked, panel, scales) },
        None => avx2::words::word_rows(w, row, columns, unpacked, panel, scales),
    }
}

/// Where code 0 and the largest magnitude of each row are: `(scale, low, largest)` of half `half` of the group at `lines`.
///
/// # Safety
/// A group that F has written, in vectors of 16 rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn facts<F: Unpack>(lines: *const f32, half: usize) -> (__m512, __m512, __m512) {
    // SAFETY: lines of the group.
    let line = |l: usize| unsafe { _mm512_loadu_ps(lines.add(l * ROWS)) };
    let scale = line(F::CODES + half);
    if F::WORDS {
        let most = _mm512_set1_ps((1 << (F::BITS - 1)) as f32);
        return (scale, _mm512_setzero_ps(), _mm512_abs_ps(_mm512_mul_ps(scale, most)));
    }
    let min = if F::MIN {
        line(F::MINS + half)
    } else {
        _mm512_setzero_ps()
    };
    let low = _mm512_fnmadd_ps(_mm512_set1_ps(f32::from(F::ZERO)), scale, min);
    let high = _mm512_fmadd_ps(_mm512_set1_ps(((1 << F::BITS) - 1) as f32), scale, low);
    (scale, low, _mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)))
}

/// Codes of 13 bits times the first of these, plus the second, are steps with BEHIND bits behind the point: for each row, of which `inverse` is
/// one step's.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn factors<F: Unpack, const BEHIND: u32>(
    (scale, low, _): (__m512, __m512, __m512),
    inverse: __m512,
) -> (__m512i, __m512i) {
    let parts = _mm512_mul_ps(inverse, _mm512_set1_ps((1 << BEHIND) as f32));
    // 32768ths, for codes that are shifted.
    let unit = _mm512_set1_ps((1 << (15 - shift::<F>())) as f32);
    let factor = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_mul_ps(scale, unit), parts));
    // Half a step more, so that cutting off rounds.
    let sum = _mm512_add_epi32(
        _mm512_cvtps_epi32(_mm512_mul_ps(low, parts)),
        _mm512_set1_epi32(1 << (BEHIND - 1)),
    );
    (factor, sum)
}

/// What a code is shifted by to have 13 bits, its sign among them.
const fn shift<F: Unpack>() -> u32 {
    13 - F::BITS
}

/// codes * factors + sums without what is behind the point, in words.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn words_of<F: Unpack, const BEHIND: u32>(codes: __m512i, factors: __m512i, sums: __m512i) -> __m512i {
    let codes = _mm512_sll_epi16(codes, _mm_cvtsi32_si128(shift::<F>() as i32));
    _mm512_srai_epi16::<BEHIND>(_mm512_add_epi16(_mm512_mulhrs_epi16(codes, factors), sums))
}

/// 1 / step and step of a panel, or a row of it, whose largest magnitude is this, of codes of at most `code`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn steps(most: __m512, code: f32) -> (__m512, __m512) {
    let some = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(most, _mm512_set1_ps(LEAST));
    (
        _mm512_maskz_div_ps(some, _mm512_set1_ps(code), most),
        _mm512_maskz_mul_ps(some, most, _mm512_set1_ps(1.0 / code)),
    )
}

/// The same byte order in each quarter of a vector.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn order(bytes: [i8; 16]) -> __m512i {
    // SAFETY: 16 bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Where words are taken from in a quarter, four rows of a dword: word `i` is `at(i)`, a byte if `wide` is false.
const fn picked(at: [u8; 8], wide: bool) -> [i8; 16] {
    let (mut out, mut i) = ([0i8; 16], 0);
    while i < 8 {
        out[2 * i] = at[i] as i8;
        out[2 * i + 1] = if wide { at[i] as i8 + 1 } else { -1 };
        i += 1;
    }
    out
}

/// For each quarter, four rows, codes 4i .. 4i + 4 of the first two rows side by side, and of the last two: line `i` of the group at `lines`.
///
/// # Safety
/// As [`facts`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pairs_of_rows<F: Unpack>(lines: *const f32, i: usize) -> [__m512i; 2] {
    // SAFETY: a line of the group.
    let line = |l: usize| unsafe { _mm512_loadu_si512(lines.add(l * ROWS).cast()) };
    if F::WORDS {
        let turn = order(picked([0, 4, 2, 6, 8, 12, 10, 14], true));
        let (even, odd) = (
            _mm512_shuffle_epi8(line(i), turn),
            _mm512_shuffle_epi8(line(8 + i), turn),
        );
        return [_mm512_unpacklo_epi32(even, odd), _mm512_unpackhi_epi32(even, odd)];
    }
    let codes = line(i);
    [
        _mm512_shuffle_epi8(codes, order(picked([0, 4, 1, 5, 2, 6, 3, 7], false))),
        _mm512_shuffle_epi8(codes, order(picked([8, 12, 9, 13, 10, 14, 11, 15], false))),
    ]
}

/// For each row its codes 4i and 4i + 1 side by side, and 4i + 2 and 4i + 3: line `i` of the group at `lines`.
///
/// # Safety
/// As [`facts`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pairs_of_columns<F: Unpack>(lines: *const f32, i: usize) -> [__m512i; 2] {
    // SAFETY: a line of the group.
    let line = |l: usize| unsafe { _mm512_loadu_si512(lines.add(l * ROWS).cast()) };
    if F::WORDS {
        let (even, odd) = (line(i), line(8 + i));
        return [
            _mm512_mask_blend_epi16(0xAAAA_AAAA, even, _mm512_slli_epi32::<16>(odd)),
            _mm512_mask_blend_epi16(0xAAAA_AAAA, _mm512_srli_epi32::<16>(even), odd),
        ];
    }
    let codes = line(i);
    [
        _mm512_shuffle_epi8(codes, order(picked([0, 1, 4, 5, 8, 9, 12, 13], false))),
        _mm512_shuffle_epi8(codes, order(picked([2, 3, 6, 7, 10, 11, 14, 15], false))),
    ]
}

/// [`word_panels`] of F, with one step for all columns of a panel.
///
/// # Safety
/// The weight is F's and checked; rows are whole strips.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn back<F: Unpack>(
    w: Weight,
    rows: Range<usize>,
    column: usize,
    unpacked: &mut [f32],
    panels: &mut [i16],
    scales: &mut [f32],
) {
    const { assert!(COLUMNS == GROUP) };
    let (depth, stride, block) = (rows.len(), w.row_bytes(), F::GROUPS * GROUP);
    let strips = depth / ROWS;
    let group = F::LINES * ROWS;
    assert!(
        depth.is_multiple_of(ROWS)
            && rows.end <= w.rows
            && column.is_multiple_of(block)
            && scales.len().is_multiple_of(block)
            && column + scales.len() <= w.cols
            && unpacked.len() >= strips * F::GROUPS * group
            && panels.len() >= depth * scales.len(),
        "word_panels: shape"
    );
    let each = panels
        .chunks_exact_mut(depth * block)
        .zip(scales.chunks_exact_mut(block));
    for (b, (panels, scales)) in each.enumerate() {
        for s in 0..strips {
            // SAFETY: blocks of the rows; room for a block of each strip.
            unsafe {
                let at = (rows.start + s * ROWS) * stride + (column / block + b) * F::BYTES;
                let out = unpacked.as_mut_ptr().add(s * F::GROUPS * group);
                F::unpack::<__m512i, STRIPS>(w.data.as_ptr().add(at), stride, out.cast());
            }
        }
        let each = panels
            .chunks_exact_mut(depth * COLUMNS)
            .zip(scales.chunks_exact_mut(COLUMNS));
        for (g, (panel, scales)) in each.enumerate() {
            let lines = |s: usize| unpacked[(s * F::GROUPS + g) * group..][..group].as_ptr();
            let mut most = _mm512_setzero_ps();
            for s in 0..strips {
                for half in 0..F::HALVES {
                    // SAFETY: a group that F has written. In this order a NaN is passed over.
                    most = _mm512_max_ps(unsafe { facts::<F>(lines(s), half) }.2, most);
                }
            }
            let (inverse, step) = steps(_mm512_set1_ps(_mm512_reduce_max_ps(most)), BACK.w);
            scales.fill(_mm512_cvtss_f32(step));
            for (s, panel) in panel.chunks_exact_mut(ROWS * COLUMNS).enumerate() {
                for half in 0..F::HALVES {
                    // SAFETY: as above.
                    let (factor, sum) = factors::<F, BACK_BEHIND>(unsafe { facts::<F>(lines(s), half) }, inverse);
                    // Those of two rows by turns, as their codes lie.
                    let first = order(picked([0, 4, 0, 4, 0, 4, 0, 4], true));
                    let last = order(picked([8, 12, 8, 12, 8, 12, 8, 12], true));
                    let factors = [first, last].map(|order| _mm512_shuffle_epi8(factor, order));
                    let sums = [first, last].map(|order| _mm512_shuffle_epi8(sum, order));
                    for i in half * 8 / F::HALVES..(half + 1) * 8 / F::HALVES {
                        // SAFETY: as above.
                        let codes = unsafe { pairs_of_rows::<F>(lines(s), i) };
                        for (which, codes) in codes.into_iter().enumerate() {
                            let words = words_of::<F, BACK_BEHIND>(codes, factors[which], sums[which]);
                            let quarters = [
                                _mm512_castsi512_si128(words),
                                _mm512_extracti32x4_epi32::<1>(words),
                                _mm512_extracti32x4_epi32::<2>(words),
                                _mm512_extracti32x4_epi32::<3>(words),
                            ];
                            for (q, quarter) in quarters.into_iter().enumerate() {
                                let at = ((2 * q + which) * COLUMNS + 4 * i) * 2;
                                // SAFETY: 8 words.
                                unsafe { _mm_storeu_si128(panel[at..][..8].as_mut_ptr().cast(), quarter) };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// [`word_rows`] of F.
///
/// # Safety
/// The weight is F's and checked.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn ahead<F: Unpack>(
    w: Weight,
    row: usize,
    columns: Range<usize>,
    unpacked: &mut [f32],
    panel: &mut [i16],
    scales: &mut [f32],
) {
    let (stride, block) = (w.row_bytes(), F::GROUPS * GROUP);
    let (groups, group) = (columns.len() / GROUP, F::LINES * ROWS);
    assert!(
        columns.start.is_multiple_of(block)
            && columns.len().is_multiple_of(block)
            && columns.end <= w.cols
            && unpacked.len() >= groups * group
            && panel.len() >= columns.len() * COLUMNS
            && scales.len() == COLUMNS,
        "word_rows: shape"
    );
    let mut spare = Vec::new();
    for (v, scales) in scales.chunks_exact_mut(ROWS).enumerate() {
        let data = w.rows_or_zeros::<ROWS>(row + v * ROWS, &mut spare);
        for b in 0..groups / F::GROUPS {
            // SAFETY: blocks of the rows; room for all groups.
            unsafe {
                let p = data.as_ptr().add((columns.start / block + b) * F::BYTES);
                let out = unpacked.as_mut_ptr().add(b * F::GROUPS * group);
                F::unpack::<__m512i, STRIPS>(p, stride, out.cast());
            }
        }
        let lines = |g: usize| unpacked[g * group..][..group].as_ptr();
        let mut most = _mm512_setzero_ps();
        for g in 0..groups {
            for half in 0..F::HALVES {
                // SAFETY: a group that F has written. In this order a NaN is passed over.
                most = _mm512_max_ps(unsafe { facts::<F>(lines(g), half) }.2, most);
            }
        }
        let (inverse, step) = steps(most, AHEAD.w);
        // SAFETY: 16 scales.
        unsafe { _mm512_storeu_ps(scales.as_mut_ptr(), step) };
        for (g, panel) in panel.chunks_exact_mut(GROUP * COLUMNS).take(groups).enumerate() {
            for half in 0..F::HALVES {
                // SAFETY: as above.
                let (factor, sum) = factors::<F, AHEAD_BEHIND>(unsafe { facts::<F>(lines(g), half) }, inverse);
                let both = order(picked([0, 0, 4, 4, 8, 8, 12, 12], true));
                let (factor, sum) = (_mm512_shuffle_epi8(factor, both), _mm512_shuffle_epi8(sum, both));
                for i in half * 8 / F::HALVES..(half + 1) * 8 / F::HALVES {
                    // SAFETY: as above.
                    let codes = unsafe { pairs_of_columns::<F>(lines(g), i) };
                    for (which, codes) in codes.into_iter().enumerate() {
                        let at = ((2 * i + which) * COLUMNS + v * ROWS) * 2;
                        let words = words_of::<F, AHEAD_BEHIND>(codes, factor, sum);
                        // SAFETY: 32 words.
                        unsafe { _mm512_storeu_si512(panel[at..][..32].as_mut_ptr().cast(), words) };
                    }
                }
            }
        }
    }
}
