//! Activation quantisation: d = amax / top, q = round to nearest even (x * (top / amax)). Layout: [`acts`](crate::kernels::cpu::acts).

use crate::kernels::cpu::acts::{BLOCK, I8_LINES, I16_LINES, OUTLIERS, OUTLYING, Outlier, TINY};

/// The largest magnitude; NaN if there is a NaN, which `f32::max` would lose: as integers they are the largest.
fn largest(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0u32, |m, v| m.max(v.abs().to_bits())))
}

/// One block's integers and scale.
fn quantize(x: &[f32], top: f32) -> ([i32; BLOCK], f32) {
    let mut q = [0; BLOCK];
    let amax = largest(x);
    if !amax.is_finite() {
        return (q, f32::NAN);
    }
    if amax < TINY {
        return (q, 0.0);
    }
    let inverse = top / amax;
    for (q, x) in q.iter_mut().zip(x) {
        // |x * inverse| < top + 0.5, so -128 never appears.
        *q = (x * inverse).round_ties_even() as i32;
    }
    (q, amax / top)
}

fn pair(lo: i32, hi: i32) -> u32 {
    (lo as u16 as u32) | (hi as u16 as u32) << 16
}

pub(crate) fn pack_i8(x: &[f32], k: usize, tile: usize, out: &mut [u32], outliers: &mut [Outlier]) -> usize {
    out.fill(0);
    let (mut found, take_out) = (0, !outliers.is_empty());
    for (t, row) in x.chunks_exact(k).enumerate() {
        for (b, (x, record)) in row
            .chunks_exact(BLOCK)
            .zip(out.chunks_exact_mut(I8_LINES * tile))
            .enumerate()
        {
            let mut block = [0.0; BLOCK];
            block.copy_from_slice(x);
            let limit = OUTLYING * largest(x);
            let large = |v: &f32| v.abs() > limit;
            if take_out && (1..=OUTLIERS).contains(&x.iter().filter(|v| large(v)).count()) {
                for (i, v) in block.iter_mut().enumerate().filter(|(_, v)| large(v)) {
                    outliers[found] = Outlier {
                        at: (b * BLOCK + i) as u32,
                        token: t as u32,
                        x: std::mem::take(v),
                    };
                    found += 1;
                }
            }
            let x = &block;
            let (q, d) = quantize(x, 127.0);
            for (i, q) in q.chunks_exact(4).enumerate() {
                record[i * tile + t] = u32::from_le_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8]);
            }
            for (half, q) in q.chunks_exact(BLOCK / 2).enumerate() {
                let sum = |j: usize| q.chunks_exact(4).map(|q| q[j] + q[j + 1]).sum();
                record[(8 + half) * tile + t] = pair(sum(0), sum(2));
            }
            record[10 * tile + t] = d.to_bits();
            record[11 * tile + t] = (d * q.iter().sum::<i32>() as f32).to_bits();
        }
    }
    found
}

pub(crate) fn pack_i16(x: &[f32], k: usize, tile: usize, out: &mut [u32]) {
    out.fill(0);
    for (t, row) in x.chunks_exact(k).enumerate() {
        for (x, record) in row.chunks_exact(BLOCK).zip(out.chunks_exact_mut(I16_LINES * tile)) {
            let (q, d) = quantize(x, 32767.0);
            for (i, q) in q.chunks_exact(4).enumerate() {
                record[i * tile + t] = pair(q[0], q[2]);
                record[(8 + i) * tile + t] = pair(q[1], q[3]);
            }
            record[16 * tile + t] = d.to_bits();
        }
    }
}
