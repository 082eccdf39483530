//! A few tokens: weights are read once, in their blocks, 16 rows at a time. As [`avx2::decode`](crate::kernels::cpu::avx2), with two
//! strips to a vector and the arithmetic of [`prefill`](super::prefill).

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::prefill::{column, lanes};
use crate::kernels::cpu::acts::{Acts, BLOCK, I8_LINES, Outlier};
use crate::kernels::cpu::avx2::decode::prefetch;
use crate::kernels::cpu::avx2::matmul::eight_rows;
use crate::kernels::cpu::avx2::unpack::{LINE, Unpack};
use crate::kernels::cpu::types::{Out, Weight};

/// Bytes of a line of two strips.
const PITCH: usize = 2 * LINE;

/// Tokens of one call and 8-bit activations: T tokens.
///
/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), with `acts.m == T`, tiles of one token and F's format.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn bytes<F: Unpack, const T: usize>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    let stride = w.row_bytes();
    let blocks = stride / F::BYTES;
    let x: [&[u32]; T] = std::array::from_fn(|t| acts.i8_tile(t));
    assert!(x.iter().all(|x| x.len() == blocks * F::GROUPS * I8_LINES));
    let outliers: [&[Outlier]; T] = std::array::from_fn(|t| acts.tile_outliers(t));
    let ahead = (8 * stride).next_multiple_of(4096);
    let (mut spare, mut spare2) = (Vec::new(), Vec::new());
    for row in rows.clone().step_by(16) {
        let strips = [eight_rows(&w, row, &mut spare), eight_rows(&w, row + 8, &mut spare2)];
        let mut f = [_mm512_setzero_ps(); T];
        let mut outliers = outliers;
        for b in 0..blocks {
            // Room for the largest: 8 groups of 12 lines.
            let mut lines = MaybeUninit::<[__m512i; 8 * 12]>::uninit();
            let lines = lines.as_mut_ptr().cast::<u8>();
            const { assert!(F::GROUPS * F::LINES <= 8 * 12 && !F::WORDS) };
            for (r, strip) in strips.iter().enumerate() {
                let data = strip.as_ptr();
                // The first strip's lines are those of the second in the pass before, which begins 8 rows ahead of it.
                prefetch(data.wrapping_add(8 * b * F::BYTES), 2 * ahead, 8 * F::BYTES);
                // SAFETY: block b of the 8 rows is in the strip; the lines have room, as just asserted.
                unsafe { F::unpack::<2>(data.add(b * F::BYTES), stride, lines.add(r * LINE)) };
            }
            for g in 0..F::GROUPS {
                // SAFETY: the groups that were just written.
                let group = unsafe { lines.add(g * F::LINES * PITCH) };
                for t in 0..T {
                    // SAFETY: lengths asserted above.
                    f[t] = unsafe { dot::<F>(group, x[t].as_ptr().add((b * F::GROUPS + g) * I8_LINES), f[t]) };
                    // In the order of their columns.
                    while let Some((o, rest)) = outliers[t].split_first()
                        && o.at as usize / BLOCK == b * F::GROUPS + g
                    {
                        // SAFETY: the group that was just written.
                        f[t] = unsafe { column::<F>(group, PITCH, o.at as usize % BLOCK, _mm512_set1_ps(o.x), f[t]) };
                        outliers[t] = rest;
                    }
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            // SAFETY: these columns are ours.
            let out = unsafe { y.at(t, row, 16.min(rows.end - row)) };
            // SAFETY: only the lanes that `out` has.
            unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), lanes(out.len()), f) };
        }
    }
}

/// f + (16 rows of one group) . (one record of int8 activations).
///
/// # Safety
/// The group and the record are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn dot<F: Unpack>(group: *const u8, record: *const u32, mut f: __m512) -> __m512 {
    // SAFETY: the caller's promise, for all of these.
    let (line, word, real) = unsafe {
        (
            |l: usize| _mm512_loadu_si512(group.add(l * PITCH).cast()),
            |i: usize| _mm512_set1_epi32(record.add(i).read() as i32),
            |i: usize| _mm512_set1_ps(record.add(i).cast::<f32>().read()),
        )
    };
    let zero = _mm512_set1_epi16(-F::ZERO);
    let start = |h: usize| {
        if F::ZERO == 0 {
            _mm512_setzero_si512()
        } else {
            _mm512_dpwssd_epi32(_mm512_setzero_si512(), word(8 + h), zero)
        }
    };
    // Two chains, which are also the two halves of the columns.
    let mut sums = [start(0), start(1)];
    for i in 0..4 {
        for (h, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_dpbusd_epi32(*sum, line(4 * h + i), word(4 * h + i));
        }
    }
    let scale = |h: usize| _mm512_mul_ps(_mm512_castsi512_ps(line(8 + h)), real(10));
    if F::HALVES == 1 {
        f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[0], sums[1])), scale(0), f);
    } else {
        f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[0]), scale(0), f);
        f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[1]), scale(1), f);
    }
    if F::MIN {
        f = _mm512_fmadd_ps(_mm512_castsi512_ps(line(8 + F::HALVES)), real(11), f);
    }
    f
}
