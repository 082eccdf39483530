//! What gradients need, in vectors of 16: products whose right factor lies as it is summed, exponentials, products with turned weights.

use std::arch::x86_64::*;

use super::prefill::lanes;
use crate::kernels::cpu::avx2::lanes::{HIGHEST, LN2, LOWEST, TERMS};
use crate::kernels::cpu::isa::Product;

/// Rows of a tile of two vectors: 12 x 2 sums, and what they are made of, in 32 registers; of one vector, where there are no more columns.
const ROWS: usize = 12;

/// # Safety
/// As [`Isa::product`](crate::kernels::cpu::isa::Isa::product).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn product(p: Product) {
    p.check();
    // SAFETY: the caller's promise.
    unsafe {
        match p.x_row {
            1 => tiles::<1>(&p),
            _ => tiles::<0>(&p),
        }
    }
}

/// All tiles, for rows of x that lie S numbers apart, or any if that is 0: known distances are parts of instructions.
///
/// # Safety
/// As [`product`], which has checked `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tiles<const S: usize>(p: &Product) {
    for column in (0..p.columns).step_by(32) {
        let n = 32.min(p.columns - column);
        let mut row = 0;
        while row < p.rows {
            // SAFETY: the caller's promise.
            row += unsafe {
                match (n > 16, p.rows - row) {
                    // Two tiles of 8 are faster than one of 12 and what is left.
                    (true, 8 | 13..=16) => rows::<8, 2, S>(p, row, column, n),
                    (true, ROWS..) => rows::<ROWS, 2, S>(p, row, column, n),
                    (true, 4..) => rows::<4, 2, S>(p, row, column, n),
                    (true, _) => rows::<1, 2, S>(p, row, column, n),
                    (false, 8 | 13..=16) => rows::<8, 1, S>(p, row, column, n),
                    (false, ROWS..) => rows::<ROWS, 1, S>(p, row, column, n),
                    (false, 4..) => rows::<4, 1, S>(p, row, column, n),
                    (false, _) => rows::<1, 1, S>(p, row, column, n),
                }
            };
        }
    }
}

/// Rows `row .. row + T`, columns `column .. column + n` (more than V - 1 vectors, no more than V). Returns T.
///
/// # Safety
/// As [`product`], which has checked `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn rows<const T: usize, const V: usize, const S: usize>(
    p: &Product,
    row: usize,
    column: usize,
    n: usize,
) -> usize {
    let apart = if S == 0 { p.x_row } else { S };
    let last = lanes(n - 16 * (V - 1));
    let mut f = [[_mm512_setzero_ps(); V]; T];
    if p.add {
        for (t, f) in f.iter_mut().enumerate() {
            // SAFETY: this part of y is ours; masked lanes are not read.
            unsafe {
                let old = p.y.at(p.at.0 + row + t, p.at.1 + column, n).as_ptr();
                for (v, f) in f.iter_mut().enumerate().take(V - 1) {
                    *f = _mm512_loadu_ps(old.add(16 * v));
                }
                f[V - 1] = _mm512_maskz_loadu_ps(last, old.add(16 * (V - 1)));
            }
        }
    }
    // SAFETY: `check` has seen that the last row of w holds these columns, and x the last term of the last row; masked lanes are not read.
    unsafe {
        let mut x = p.x[(row * p.x_row).min(p.x.len())..].as_ptr();
        let mut w = p.w.as_ptr().wrapping_add(column);
        for _ in 0..p.depth {
            let mut of = [_mm512_setzero_ps(); V];
            for (v, of) in of.iter_mut().enumerate().take(V - 1) {
                *of = _mm512_loadu_ps(w.add(16 * v));
            }
            of[V - 1] = _mm512_maskz_loadu_ps(last, w.add(16 * (V - 1)));
            for (t, f) in f.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*x.add(t * apart));
                for (f, of) in f.iter_mut().zip(of) {
                    *f = _mm512_fmadd_ps(of, x, *f);
                }
            }
            x = x.wrapping_add(p.x_col);
            w = w.wrapping_add(p.pitch);
        }
    }
    for (t, f) in f.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe {
            let out = p.y.at(p.at.0 + row + t, p.at.1 + column, n).as_mut_ptr();
            for (v, f) in f.iter().enumerate().take(V - 1) {
                _mm512_storeu_ps(out.add(16 * v), *f);
            }
            _mm512_mask_storeu_ps(out.add(16 * (V - 1)), last, f[V - 1]);
        }
    }
    T
}

/// As [`Isa::exps`](crate::kernels::cpu::isa::Isa::exps).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn exps(x: &mut [f32], highest: f32) -> f32 {
    let highest = _mm512_set1_ps(highest);
    let mut added = _mm512_setzero_ps();
    for x in x.chunks_mut(16) {
        let mask = lanes(x.len());
        // SAFETY: masked lanes are not touched, the others are in `x`.
        unsafe {
            let e = exp(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x.as_ptr()), highest));
            added = _mm512_mask_add_ps(added, mask, added, e);
            _mm512_mask_storeu_ps(x.as_mut_ptr(), mask, e);
        }
    }
    _mm512_reduce_add_ps(added)
}

/// What AVX2's `exp` does, with its constants.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn exp(x: __m512) -> __m512 {
    let c = |v: f32| _mm512_set1_ps(v);
    let stays = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, c(LOWEST));
    // In this order a NaN in x comes through.
    let x = _mm512_min_ps(c(HIGHEST), _mm512_max_ps(c(LOWEST), x));
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm512_mul_ps(
        x,
        c(std::f32::consts::LOG2_E),
    ));
    let r = _mm512_fnmadd_ps(n, c(LN2[0]), x);
    let r = _mm512_fnmadd_ps(n, c(LN2[1]), r);
    let mut p = c(TERMS[0]);
    for term in &TERMS[1..] {
        p = _mm512_fmadd_ps(p, r, c(*term));
    }
    let power = _mm512_slli_epi32::<23>(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)));
    _mm512_maskz_mul_ps(stays, p, _mm512_castsi512_ps(power))
}
