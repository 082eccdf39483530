//! Q4_1: 32 codes of 4 bits, half scale and half minimum. `y = d q + m`.
//!
//! Byte `j` of `qs` holds element `j` in its low and element `j + 16` in its high half.

use super::fit::offset;
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

block! {
    /// 32 elements.
    20 bytes {
        /// Scale (half).
        d: 2,
        /// Minimum (half).
        m: 2,
        /// Codes.
        qs: 16,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q4_1,
    name: "Q4_1",
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
        for (j, q) in b.qs.into_iter().enumerate() {
            out[j] = f32::from(q & 15) * d + m;
            out[j + 16] = f32::from(q >> 4) * d + m;
        }
    });
}

/// Scale and minimum by least squares, see [`fit`](super::fit).
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, importance, out, |x: &[f32; 32], w| {
        let (d, m, q) = offset(x, w, 15.0);
        Block {
            d: d.to_le_bytes(),
            m: m.to_le_bytes(),
            qs: std::array::from_fn(|j| q[j] as u8 | (q[j + 16] as u8) << 4),
        }
        .to_bytes()
    });
}
