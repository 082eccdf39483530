//! Q6_K: 256 codes of 6 bits around 32; per 16 an i8 scale. `y = (d s) (q - 32)`.
//!
//! Each half of the block (128 elements) takes 64 bytes of `ql` and 32 of `qh`. Element `32 k + l` of the half has its low
//! four bits in byte `32 (k % 2) + l` of `ql` (low half of the byte for k < 2, else high) and its upper two in bits
//! `2 k, 2 k + 1` of byte `l` of `qh`.

use super::fit::{Codes, Spread};
use super::fit_k::signed;
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

block! {
    /// 256 elements.
    210 bytes {
        /// Low four bits.
        ql: 128,
        /// Upper two bits.
        qh: 64,
        /// Sub-scales (i8) per 16 elements.
        scales: 16,
        /// Scale of the sub-scales (half).
        d: 2,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q6_K,
    name: "Q6_K",
    block_len: 256,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: Some(quantize),
};

/// `y = (d s) (q - 32)`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 256]| {
        let b = Block::read(b);
        let d = half(b.d);
        for (g, (out, s)) in out.as_chunks_mut::<16>().0.iter_mut().zip(b.scales).enumerate() {
            let scale = d * f32::from(s.cast_signed());
            let (side, k, l) = (g / 8, g % 8 / 2, g % 2 * 16);
            let low = &b.ql[side * 64 + k % 2 * 32 + l..];
            let high = &b.qh[side * 32 + l..];
            for ((y, q), h) in out.iter_mut().zip(low).zip(high) {
                let code = q >> (k / 2 * 4) & 15 | (h >> (k * 2) & 3) << 4;
                *y = scale * f32::from(i16::from(code) - 32);
            }
        }
    });
}

/// Scales by least squares, see [`fit_k`](super::fit_k).
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let codes = Codes { lo: -32.0, hi: 31.0 };
    let spread = Spread {
        from: 0.88,
        to: 1.06,
        steps: 8,
    };
    pack_blocks(values, importance, out, |x: &[f32; 256], w| {
        let fit = signed(x, w, codes, spread);
        let code = |i: usize| (fit.codes[i / 16][i % 16] + 32.0) as u8;
        let (mut ql, mut qh) = ([0; 128], [0; 64]);
        for i in 0..256 {
            // Element i = 128 side + 32 k + l.
            let (side, k, l) = (i / 128, i / 32 % 4, i % 32);
            ql[side * 64 + k % 2 * 32 + l] |= (code(i) & 15) << (k / 2 * 4);
            qh[side * 32 + l] |= code(i) >> 4 << (k * 2);
        }
        Block {
            ql,
            qh,
            scales: fit.scales.map(i8::cast_unsigned),
            d: fit.d.to_le_bytes(),
        }
        .to_bytes()
    });
}
