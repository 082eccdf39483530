//! Products with the packed matrices of adapters.

use std::arch::x86_64::*;
use std::ops::Range;

use super::dense::{BF16, Dense, F16, F32, tile};
use super::lanes::{load, store};
use crate::kernels::cpu::acts::F32_TILE as TOKENS;
use crate::kernels::cpu::panels::{How, ROWS, View};
use crate::kernels::cpu::types::Out;
use crate::quant::BlockFormat;

/// # Safety
/// As [`Isa::panels`](crate::kernels::cpu::isa::Isa::panels).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn panels(p: View, panels: Range<usize>, x: &[f32], tokens: usize, y: Out, first: usize, how: How) {
    // SAFETY: the caller's promise.
    unsafe {
        match p.format {
            BlockFormat::F32 => run::<F32>(p, panels, x, tokens, y, first, how),
            BlockFormat::F16 => run::<F16>(p, panels, x, tokens, y, first, how),
            BlockFormat::BF16 => run::<BF16>(p, panels, x, tokens, y, first, how),
            other => panic!("panels of {}", other.name()),
        }
    }
}

/// # Safety
/// As [`panels`], with D's format.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<D: Dense>(p: View, panels: Range<usize>, x: &[f32], tokens: usize, y: Out, first: usize, how: How) {
    let bytes = p.cols * ROWS * D::BYTES;
    assert!(panels.end * bytes <= p.data.len() && p.cols > 0 && tokens <= TOKENS);
    for panel in panels {
        let (row, n) = (panel * ROWS, ROWS.min(p.rows - panel * ROWS));
        let data = p.data[panel * bytes..].as_ptr();
        let mut sums = [[_mm256_setzero_ps(); 2]; TOKENS];
        if x.len() == p.cols {
            // SAFETY: the panel has `cols` columns of ROWS numbers, as just checked.
            sums[0] = unsafe { one::<D>(x, data) };
        } else {
            if let How::Add = how {
                for (t, sums) in sums.iter_mut().enumerate().take(tokens) {
                    // SAFETY: the caller's promise: these columns are ours.
                    let old = unsafe { y.at(first + t, row, n) };
                    *sums = [load(old), load(old.get(8..).unwrap_or_default())];
                }
            }
            // SAFETY: as above.
            unsafe { tile::<D, TOKENS, 2, 1, TOKENS>(x, data, ROWS * D::BYTES, p.cols, &mut sums) };
        }
        let added = x.len() != p.cols && matches!(how, How::Add);
        for (t, sums) in sums.into_iter().enumerate().take(tokens) {
            // SAFETY: these columns are ours.
            let out = unsafe { y.at(first + t, row, n) };
            for (i, (out, sum)) in out.chunks_mut(8).zip(sums).enumerate() {
                let sum = match how {
                    _ if added => sum,
                    How::Set => sum,
                    How::Add => _mm256_add_ps(load(out), sum),
                    How::Scaled(f) => _mm256_fmadd_ps(sum, load(&f[row + 8 * i..][..out.len()]), load(out)),
                };
                store(out, sum);
            }
        }
    }
}

/// 16 sums of one token, in four chains.
///
/// # Safety
/// The panel at `data` has `x.len()` columns of ROWS numbers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one<D: Dense>(x: &[f32], data: *const u8) -> [__m256; 2] {
    let mut f = [[_mm256_setzero_ps(); 2]; 4];
    let mut columns = x.chunks_exact(4);
    let mut at = data;
    for four in &mut columns {
        for (f, x) in f.iter_mut().zip(four) {
            let x = _mm256_set1_ps(*x);
            // SAFETY: a column that the panel has.
            unsafe {
                f[0] = _mm256_fmadd_ps(D::eight(at), x, f[0]);
                f[1] = _mm256_fmadd_ps(D::eight(at.add(8 * D::BYTES)), x, f[1]);
                at = at.add(ROWS * D::BYTES);
            }
        }
    }
    for x in columns.remainder() {
        let x = _mm256_set1_ps(*x);
        // SAFETY: as above.
        unsafe {
            f[0][0] = _mm256_fmadd_ps(D::eight(at), x, f[0][0]);
            f[0][1] = _mm256_fmadd_ps(D::eight(at.add(8 * D::BYTES)), x, f[0][1]);
            at = at.add(ROWS * D::BYTES);
        }
    }
    let both = |i: usize| _mm256_add_ps(_mm256_add_ps(f[0][i], f[1][i]), _mm256_add_ps(f[2][i], f[3][i]));
    [both(0), both(1)]
}
