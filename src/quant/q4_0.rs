//! Q4_0: 32 codes of 4 bits around 8, one half scale. `y = d (q - 8)`.
//!
//! Byte `j` of `qs` holds element `j` in its low and element `j + 16` in its high half.

use super::block::{extreme, inverse};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, to_half, unpack_blocks};

block! {
    /// 32 elements.
    18 bytes {
        /// Scale (half).
        d: 2,
        /// Codes.
        qs: 16,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q4_0,
    name: "Q4_0",
    block_len: 32,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: Some(quantize),
};

/// `y = d (q - 8)`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 32]| {
        let b = Block::read(b);
        let d = half(b.d);
        for (j, q) in b.qs.into_iter().enumerate() {
            out[j] = f32::from(i16::from(q & 15) - 8) * d;
            out[j + 16] = f32::from(i16::from(q >> 4) - 8) * d;
        }
    });
}

/// The element of largest magnitude gets code 0 (that is, -8); the others round half up, capped at 15.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, out, |x: &[f32; 32]| {
        let d = extreme(x) / -8.0;
        let id = inverse(d);
        let code = |x: f32| ((x * id + 8.5) as u8).min(15);
        Block {
            d: to_half(d),
            qs: std::array::from_fn(|j| code(x[j]) | code(x[j + 16]) << 4),
        }
        .to_bytes()
    });
}
