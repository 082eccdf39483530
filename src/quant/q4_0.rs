//! Q4_0: 32 codes of 4 bits around 8, one half scale. `y = d (q - 8)`.
//!
//! Byte `j` of `qs` holds element `j` in its low and element `j + 16` in its high half.

use super::fit::{Codes, Spread, scaled};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

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

/// Scales of either sign around the one that maps the largest magnitude to the last code.
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let codes = Codes { lo: -8.0, hi: 7.0 };
    let spread = Spread {
        from: 0.7,
        to: 1.2,
        steps: 12,
    };
    pack_blocks(values, importance, out, |x: &[f32; 32], w| {
        let (d, q) = scaled(x, w, codes, spread);
        let code = |j: usize| (q[j] + 8.0) as u8;
        Block {
            d: d.to_le_bytes(),
            qs: std::array::from_fn(|j| code(j) | code(j + 16) << 4),
        }
        .to_bytes()
    });
}
