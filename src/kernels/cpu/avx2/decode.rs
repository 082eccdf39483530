//! A few tokens: weights are read once, in their blocks, 8 rows at a time.
//!
//! Memory is the limit, so the next 8 rows are fetched ahead while these are multiplied. Bounds and the bias trick: see
//! [`prefill`](super::prefill), whose arithmetic this is.

use std::arch::x86_64::*;
use std::ops::Range;

use super::unpack::{LINE, Unpack, column, plain_operations};
use crate::kernels::cpu::acts::{Acts, BLOCK, I8_LINES, I16_LINES, Outlier};
use crate::kernels::cpu::types::{Out, Weight};

/// Fetches `bytes` at `p + ahead`. May reach past the end: a prefetch of an address that is not mapped does nothing.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels::cpu) fn prefetch(p: *const u8, ahead: usize, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_NTA>(p.wrapping_add(ahead + 64 * line).cast());
    }
}

/// A level's integer arithmetic: products of four columns of 8 rows at a time.
///
/// # Safety
/// The methods are for CPUs with the level's features, and for functions that enable them: they are inlined there.
pub(in crate::kernels::cpu) unsafe trait Dot {
    /// Sums that begin with `times` x the sums of a record's `half`.
    unsafe fn start(half: __m256i, times: i16) -> __m256i;
    /// sums + codes (unsigned bytes) x activations (signed bytes, the same for all rows).
    unsafe fn step(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i;
    /// The sum of two sums.
    unsafe fn join(a: __m256i, b: __m256i) -> __m256i;
    /// The sums as f32.
    unsafe fn finish(sums: __m256i) -> __m256;
    /// i32 sums + codes x activations, both pairs of words.
    unsafe fn step_words(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i;
    /// i32 sums to begin with for [`step_wide`](Self::step_wide), of the sums of both halves of a record.
    unsafe fn start_wide(sums: __m256i) -> __m256i;
    /// i32 sums + (codes of 1..=255 - 128) x activations.
    unsafe fn step_wide(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i;
}

/// Products of bytes in pairs, added in 16 bits: see the bounds in [`prefill`](super::prefill).
pub(super) struct Maddubs;

// SAFETY: AVX2.
unsafe impl Dot for Maddubs {
    plain_operations! {
        start(half: __m256i, times: i16) -> __m256i { _mm256_mullo_epi16(half, _mm256_set1_epi16(times)) }
        step(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
            _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, x))
        }
        join(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi16(a, b) }
        finish(sums: __m256i) -> __m256 { _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16(1))) }
        step_words(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
            _mm256_add_epi32(sums, _mm256_madd_epi16(codes, x))
        }
        start_wide(_sums: __m256i) -> __m256i { _mm256_setzero_si256() }
        step_wide(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i { signed(sums, codes, x) }
    }
}

/// [`Dot::step_wide`] without 16-bit sums: |code - 128| and the activation with its sign, of whose products two are below 2^15.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signed(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// T tokens, any format.
///
/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), with `acts.m == T`, tiles of one token and F's format.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn blocks<F: Unpack, const T: usize>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { by_eight_rows::<F, Maddubs, T>(w, acts, y, rows) }
}

/// [`blocks`] with D's arithmetic.
///
/// # Safety
/// As `blocks`, and what [`Dot`] asks for.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn by_eight_rows<F: Unpack, D: Dot, const T: usize>(
    w: Weight,
    acts: &Acts,
    y: Out,
    rows: Range<usize>,
) {
    let stride = w.row_bytes();
    let blocks = stride / F::BYTES;
    let record = if F::WORDS { I16_LINES } else { I8_LINES };
    let tile = |t| if F::WORDS { acts.i16_tile(t) } else { acts.i8_tile(t) };
    let x: [&[u32]; T] = std::array::from_fn(tile);
    assert!(x.iter().all(|x| x.len() == blocks * F::GROUPS * record));
    // Words have none.
    let outliers = |t| if F::WORDS { &[] } else { acts.tile_outliers(t) };
    let outliers: [&[Outlier]; T] = std::array::from_fn(outliers);
    let ahead = (8 * stride).next_multiple_of(4096);
    let mut spare = Vec::new();
    for row in rows.clone().step_by(8) {
        let data = w.rows_or_zeros::<8>(row, &mut spare).as_ptr();
        let mut outliers = outliers;
        // SAFETY: the caller's promise for all that follows: blocks and records are within their lengths, as asserted above, the strip
        // has room for a block, and these columns of y are ours.
        unsafe {
            let mut f = [_mm256_setzero_ps(); T];
            for b in 0..blocks {
                // Room for the largest: 8 groups of 17 lines.
                let mut strip = std::mem::MaybeUninit::<[__m256i; 8 * 17]>::uninit();
                let strip = strip.as_mut_ptr().cast::<u8>();
                const { assert!(F::GROUPS * F::LINES <= 8 * 17) };
                F::unpack::<__m256i, 1>(data.add(b * F::BYTES), stride, strip);
                for g in 0..F::GROUPS {
                    // A share with each group: all at once would wait for the buffers of lines under way.
                    let share = 8 * F::BYTES / F::GROUPS;
                    prefetch(data.wrapping_add(8 * b * F::BYTES + g * share), ahead, share);
                    let group = strip.add(g * F::LINES * LINE);
                    for t in 0..T {
                        let record = x[t].as_ptr().add((b * F::GROUPS + g) * record);
                        f[t] = if F::WORDS {
                            words::<F, D>(group, record, f[t])
                        } else {
                            bytes::<F, D>(group, record, f[t])
                        };
                        // In the order of their columns.
                        while let Some((o, rest)) = outliers[t].split_first()
                            && o.at as usize / BLOCK == b * F::GROUPS + g
                        {
                            f[t] = column::<F, 1>(group, o.at as usize % BLOCK, _mm256_set1_ps(o.x), f[t]);
                            outliers[t] = rest;
                        }
                    }
                }
            }
            for (t, f) in f.into_iter().enumerate() {
                super::lanes::store(y.at(t, row, 8.min(rows.end - row)), f);
            }
        }
    }
}

/// f + (8 rows of one group) . (one record of int8 activations).
///
/// # Safety
/// The group and the record are readable; what [`Dot`] asks for.
#[inline(always)]
unsafe fn bytes<F: Unpack, D: Dot>(group: *const u8, record: *const u32, mut f: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let line = |l: usize| _mm256_loadu_si256(group.add(l * LINE).cast());
        let word = |i: usize| _mm256_set1_epi32(record.add(i).read() as i32);
        let real = |i: usize| _mm256_broadcast_ss(&*record.add(i).cast::<f32>());
        let start = |h: usize| {
            if F::ZERO == 0 {
                _mm256_setzero_si256()
            } else {
                D::start(word(8 + h), -F::ZERO)
            }
        };
        // Two chains, which are also the two halves of the columns.
        let mut sums = [start(0), start(1)];
        for i in 0..4 {
            for (h, sum) in sums.iter_mut().enumerate() {
                *sum = D::step(*sum, line(4 * h + i), word(4 * h + i));
            }
        }
        let scale = |h: usize| _mm256_mul_ps(_mm256_castsi256_ps(line(F::CODES + h)), real(10));
        if F::HALVES == 1 {
            f = _mm256_fmadd_ps(D::finish(D::join(sums[0], sums[1])), scale(0), f);
        } else {
            f = _mm256_fmadd_ps(D::finish(sums[0]), scale(0), f);
            f = _mm256_fmadd_ps(D::finish(sums[1]), scale(1), f);
        }
        if F::MIN {
            for h in 0..F::HALVES {
                let total = if F::HALVES == 1 {
                    real(11)
                } else {
                    _mm256_mul_ps(D::finish(D::start(word(8 + h), 1)), real(10))
                };
                f = _mm256_fmadd_ps(_mm256_castsi256_ps(line(F::MINS + h)), total, f);
            }
        }
        f
    }
}

/// f + (8 rows of one group) . (one record of int16 activations).
///
/// # Safety
/// As [`bytes`].
#[inline(always)]
unsafe fn words<F: Unpack, D: Dot>(group: *const u8, record: *const u32, f: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let line = |l: usize| _mm256_loadu_si256(group.add(l * LINE).cast());
        let word = |i: usize| _mm256_set1_epi32(record.add(i).read() as i32);
        let mut sums = [_mm256_setzero_si256(); 2];
        for i in 0..8 {
            for (h, sum) in sums.iter_mut().enumerate() {
                *sum = D::step_words(*sum, line(8 * h + i), word(8 * h + i));
            }
        }
        let scale = _mm256_mul_ps(_mm256_castsi256_ps(line(F::CODES)), _mm256_castsi256_ps(word(16)));
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(sums[0], sums[1])), scale, f)
    }
}

/// Q8_0 with int16 activations: it needs no unpacking if lanes are columns, two rows at a time (two chains, one load of the activations for both).
///
/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), with `acts.m == T`, tiles of one token and Q8_0.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q8_0<const T: usize>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    const BYTES: usize = 34;
    const AHEAD: usize = 8192;
    let blocks = w.cols / BLOCK;
    let x: [&[u32]; T] = std::array::from_fn(|t| acts.i16_tile(t));
    assert!(x.iter().all(|x| x.len() == blocks * I16_LINES));
    for row in rows.clone().step_by(2) {
        // An odd last row is done twice.
        let pair = [w.row(row), w.row((row + 1).min(rows.end - 1))];
        let mut f = [[_mm256_setzero_ps(); 2]; T];
        for b in 0..blocks {
            prefetch(pair[0].as_ptr().wrapping_add(2 * b * BYTES), AHEAD, 2 * BYTES);
            for (r, data) in pair.iter().enumerate() {
                // SAFETY: block b is in the row: 2 bytes of scale, 32 codes.
                let (codes, d) = unsafe {
                    let p = data.as_ptr().add(b * BYTES);
                    (_mm256_loadu_si256(p.add(2).cast()), p.cast::<u16>().read_unaligned())
                };
                let even = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8);
                let odd = _mm256_srai_epi16(codes, 8);
                let d = _mm_cvtph_ps(_mm_cvtsi32_si128(d.into()));
                for t in 0..T {
                    // SAFETY: lengths asserted above.
                    let (a, c, s) = unsafe {
                        let record = x[t].as_ptr().add(b * I16_LINES);
                        let a = _mm256_loadu_si256(record.cast());
                        let c = _mm256_loadu_si256(record.add(8).cast());
                        (a, c, _mm_load_ss(record.add(16).cast()))
                    };
                    let sum = _mm256_add_epi32(_mm256_madd_epi16(even, a), _mm256_madd_epi16(odd, c));
                    let scale = _mm256_broadcastss_ps(_mm_mul_ss(d, s));
                    f[t][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, f[t][r]);
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            // SAFETY: these columns are ours.
            let out = unsafe { y.at(t, row, 2.min(rows.end - row)) };
            for (out, f) in out.iter_mut().zip(f) {
                *out = super::lanes::sum(f);
            }
        }
    }
}
