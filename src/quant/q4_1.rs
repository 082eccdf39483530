//! Q4_1: 32 codes of 4 bits, half scale and half minimum. `y = d q + m`.
//!
//! Byte `j` of `qs` holds element `j` in its low and element `j + 16` in its high half.

use super::block::{inverse, min_max};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, to_half, unpack_blocks};

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

/// The least element gets code 0 and the greatest 15; rounds half up.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, out, |x: &[f32; 32]| {
        let (min, max) = min_max(x);
        let d = (max - min) / 15.0;
        let id = inverse(d);
        let code = |x: f32| (((x - min) * id + 0.5) as u8).min(15);
        let qs = std::array::from_fn(|j| code(x[j]) | code(x[j + 16]) << 4);
        Block {
            d: to_half(d),
            m: to_half(min),
            qs,
        }
        .to_bytes()
    });
}
