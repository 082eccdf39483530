//! Products with the packed matrices of adapters: a line of a panel is a vector.
//!
//! One token has AVX2's loops on vectors of 8 rows: it is memory that it waits for. Tiles of tokens have eight sums at a time, of two
//! panels or, where there is no other, of two tiles: as many as the products' latency takes.

use std::arch::x86_64::*;
use std::ops::Range;

use super::decode::Vnni;
use super::prefill::lanes;
use crate::kernels::cpu::acts::{BLOCK, I8_LINES, TILE};
use crate::kernels::cpu::avx2::panels::products;
use crate::kernels::cpu::panels::{Codes, How, LINE, Place, ROWS, Records, ZERO, lines, panel_bytes};
use crate::kernels::cpu::types::Out;

/// # Safety
/// As [`Isa::codes`](crate::kernels::cpu::isa::Isa::codes).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn codes(p: Codes, panels: Range<usize>, x: Records, y: Out, column: usize, how: How) {
    if x.acts.tile() == 1 {
        // SAFETY: the caller's promise.
        return unsafe { products::<Vnni>(p, panels, x, y, column, how) };
    }
    x.check(&p, &panels);
    assert!(x.acts.tile() == TILE);
    for panel in panels.clone().step_by(2) {
        let mut tile = x.tiles.start;
        while tile < x.tiles.end {
            let to = Corner { panel, tile, column };
            // SAFETY: the caller's promise; the matrix has the panels and the activations the tiles.
            tile += unsafe {
                match (panels.end - panel, x.tiles.end - tile) {
                    (2.., _) => block::<2, 1>(&p, &x, y, to, how),
                    (_, 2..) => block::<1, 2>(&p, &x, y, to, how),
                    _ => block::<1, 1>(&p, &x, y, to, how),
                }
            };
        }
    }
}

/// Where a block of sums begins.
#[derive(Clone, Copy)]
struct Corner {
    /// The first panel.
    panel: usize,
    /// The first tile.
    tile: usize,
    /// Of y, for row 0 of the matrix.
    column: usize,
}

/// V panels times U tiles. Returns U.
///
/// # Safety
/// As [`codes`]; they exist.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn block<const V: usize, const U: usize>(p: &Codes, x: &Records, y: Out, to: Corner, how: How) -> usize {
    let bytes = panel_bytes(p.cols);
    let data = p.data[to.panel * bytes..][..V * bytes].as_ptr();
    let records: [*const u32; U] =
        std::array::from_fn(|u| x.acts.i8_tile(to.tile + u)[x.group * I8_LINES * TILE..].as_ptr());
    let mut sums = [[[_mm512_setzero_ps(); V]; TILE]; U];
    let mut line_at = 0;
    // SAFETY: groups of `cols` columns in each panel, and their records in each tile, as `check` has seen.
    unsafe {
        for group in 0..p.cols.div_ceil(BLOCK) {
            let lines = lines(p.cols, group);
            let line = |i: usize, v: usize| data.add(v * bytes + (line_at + i) * LINE);
            let word = |u: usize, i: usize, t: usize| records[u].add((group * I8_LINES + i) * TILE + t);
            let mut acc = [[[_mm512_setzero_si512(); V]; TILE]; U];
            for (u, acc) in acc.iter_mut().enumerate() {
                for (t, acc) in acc.iter_mut().enumerate() {
                    let half = |h: usize| _mm512_set1_epi32(word(u, 8 + h, t).read() as i32);
                    let zero = _mm512_set1_epi16(-ZERO);
                    let both = _mm512_add_epi16(half(0), half(1));
                    *acc = [_mm512_dpwssd_epi32(_mm512_setzero_si512(), both, zero); V];
                }
            }
            for i in 0..lines {
                let codes: [__m512i; V] = std::array::from_fn(|v| _mm512_load_si512(line(i, v).cast()));
                for (u, acc) in acc.iter_mut().enumerate() {
                    for (t, acc) in acc.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32(word(u, i, t).read() as i32);
                        for (acc, codes) in acc.iter_mut().zip(codes) {
                            *acc = _mm512_dpbusd_epi32(*acc, codes, x);
                        }
                    }
                }
            }
            for v in 0..V {
                let scale = _mm512_load_ps(line(lines, v).cast());
                for u in 0..U {
                    for t in 0..TILE {
                        let scale = _mm512_mul_ps(scale, _mm512_set1_ps(word(u, 10, t).cast::<f32>().read()));
                        let sum = &mut sums[u][t][v];
                        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[u][t][v]), scale, *sum);
                    }
                }
            }
            line_at += lines + 1;
        }
        for (u, sums) in sums.iter_mut().enumerate() {
            lone(p, data, x, to.tile + u, sums);
            for (v, first) in (to.panel * ROWS..p.rows).step_by(ROWS).take(V).enumerate() {
                put(
                    y,
                    (to.tile + u) * TILE,
                    to.column,
                    first,
                    ROWS.min(p.rows - first),
                    how,
                    &sums.map(|s| s[v]),
                );
            }
        }
    }
    U
}

/// Stores, or adds, the sums that exist: rows `first..first + n` of the matrix, tokens from `token` on.
///
/// # Safety
/// These columns of y are ours.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn put(y: Out, token: usize, column: usize, first: usize, n: usize, how: How, sums: &[__m512; TILE]) {
    let mask = lanes(n);
    // SAFETY: masked lanes are not touched, the others are in slices of n.
    let load = |x: &[f32]| unsafe { _mm512_maskz_loadu_ps(mask, x[..n].as_ptr()) };
    for (t, sum) in sums.iter().enumerate().take(y.m() - token) {
        // SAFETY: the caller's promise.
        let out = unsafe { y.at(token + t, column + first, n) };
        let sum = match how {
            How::Set => *sum,
            How::Add => _mm512_add_ps(load(out), *sum),
            How::Scaled(f) => _mm512_fmadd_ps(*sum, load(&f[first..]), load(out)),
        };
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, sum) };
    }
}

/// sums += the columns of the panels at `data` times the outliers of tile `tile`.
///
/// # Safety
/// As [`block`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn lone<const V: usize>(p: &Codes, data: *const u8, x: &Records, tile: usize, sums: &mut [[__m512; V]; TILE]) {
    let mut outliers = x.acts.tile_outliers(tile);
    if outliers.is_empty() {
        return;
    }
    let bytes = panel_bytes(p.cols);
    // They come by token, so that a token's sums can stay in registers.
    for (t, sums) in sums.iter_mut().enumerate() {
        let mut f = *sums;
        for (place, value) in Place::of_token(&mut outliers, t, x.group, p.cols) {
            let shift = _mm_cvtsi32_si128(8 * place.byte as i32);
            for (v, f) in f.iter_mut().enumerate() {
                // SAFETY: a column that the panel has.
                let (line, scale) = unsafe {
                    let panel = data.add(v * bytes);
                    let line = _mm512_load_si512(panel.add(place.line).cast());
                    (line, _mm512_load_ps(panel.add(place.scales).cast()))
                };
                let code = _mm512_and_si512(_mm512_srl_epi32(line, shift), _mm512_set1_epi32(255));
                let code = _mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(f32::from(ZERO)));
                *f = _mm512_fmadd_ps(_mm512_mul_ps(code, scale), _mm512_set1_ps(value), *f);
            }
        }
        *sums = f;
    }
}
