//! Q5_0: 32 codes of 5 bits around 16, one half scale. `y = d (q - 16)`.
//!
//! The low four bits lie as in Q4_0; bit `j` of `qh` (little-endian u32) is the fifth bit of element `j`.

use super::fit::{Codes, Spread, scaled};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

block! {
    /// 32 elements.
    22 bytes {
        /// Scale (half).
        d: 2,
        /// Fifth bits.
        qh: 4,
        /// Low four bits.
        qs: 16,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q5_0,
    name: "Q5_0",
    block_len: 32,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: Some(quantize),
};

/// `y = d (q - 16)`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 32]| {
        let b = Block::read(b);
        let d = half(b.d);
        for (y, q) in out.iter_mut().zip(join(b.qs, b.qh)) {
            *y = f32::from(i16::from(q) - 16) * d;
        }
    });
}

/// Scales of either sign around the one that maps the largest magnitude to the last code.
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let codes = Codes { lo: -16.0, hi: 15.0 };
    let spread = Spread {
        from: 0.8,
        to: 1.15,
        steps: 12,
    };
    pack_blocks(values, importance, out, |x: &[f32; 32], w| {
        let (d, q) = scaled(x, w, codes, spread);
        let (qs, qh) = split(q.map(|q| (q + 16.0) as u8));
        Block {
            d: d.to_le_bytes(),
            qh,
            qs,
        }
        .to_bytes()
    });
}

/// The 5-bit codes of a block, in element order.
pub(super) fn join(qs: [u8; 16], qh: [u8; 4]) -> [u8; 32] {
    let high = u32::from_le_bytes(qh);
    std::array::from_fn(|j| {
        let low = if j < 16 { qs[j] & 15 } else { qs[j - 16] >> 4 };
        low | (if high >> j & 1 == 1 { 16 } else { 0 })
    })
}

/// The reverse of [`join`].
pub(super) fn split(codes: [u8; 32]) -> ([u8; 16], [u8; 4]) {
    let qs = std::array::from_fn(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4);
    let high = codes.iter().rev().fold(0, |bits, &q| bits << 1 | u32::from(q >> 4 & 1));
    (qs, high.to_le_bytes())
}
