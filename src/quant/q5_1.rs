//! Q5_1: 32 codes of 5 bits, half scale and half minimum. `y = d q + m`. The codes lie as in [`q5_0`](super::q5_0).

use super::fit::offset;
use super::q5_0::{join, split};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

block! {
    /// 32 elements.
    24 bytes {
        /// Scale (half).
        d: 2,
        /// Minimum (half).
        m: 2,
        /// Fifth bits.
        qh: 4,
        /// Low four bits.
        qs: 16,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q5_1,
    name: "Q5_1",
    block_len: 32,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: Some(quantize),
};

/// `y = d q + m`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 32]| {
        let b = Block::read(b);
        let (d, m) = (half(b.d), half(b.m));
        for (y, q) in out.iter_mut().zip(join(b.qs, b.qh)) {
            *y = f32::from(q) * d + m;
        }
    });
}

/// Scale and minimum by least squares, see [`fit`](super::fit).
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, importance, out, |x: &[f32; 32], w| {
        let (d, m, q) = offset(x, w, 31.0);
        let (qs, qh) = split(q.map(|q| q as u8));
        Block {
            d: d.to_le_bytes(),
            m: m.to_le_bytes(),
            qh,
            qs,
        }
        .to_bytes()
    });
}
