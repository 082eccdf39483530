//! MXFP4 (OCP microscaling): 32 codes of e2m1, one e8m0 scale. `y = 2^(e - 127) v(q)`.
//!
//! ggml keeps the codes' values doubled, as integers, and halves the scale: `y = 2^(e - 128) (2 v)`. The two agree but at
//! `e = 255`, which OCP calls NaN and ggml a number; Graft follows ggml, and code 8 is +0 here, not -0.
//! Byte `j` of `qs` holds element `j` in its low and element `j + 16` in its high half.

use super::fit::largest;
use super::iq4_nl::expand;
use super::{BlockFormat, FormatInfo, block, pack_blocks, unpack_blocks};

/// Twice the value of each e2m1 code.
pub const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

block! {
    /// 32 elements.
    17 bytes {
        /// Scale (e8m0).
        e: 1,
        /// Codes.
        qs: 16,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::MXFP4,
    name: "MXFP4",
    block_len: 32,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: Some(quantize),
};

/// `y = 2^(e - 128) VALUES[q]`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 32]| {
        let b = Block::read(b);
        expand(half_scale(b.e[0]), &VALUES, &b.qs, out);
    });
}

/// The scale puts the largest magnitude between 4 and 8 (6 is the largest value); each element gets the nearest value, the
/// lower code of two equally near.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, None, out, |x: &[f32; 32], _| {
        let largest = largest(x);
        let e = if largest > 0.0 {
            (largest.log2().floor() - 2.0 + 127.0) as u8
        } else {
            0
        };
        let scale = half_scale(e);
        let code = |x: f32| {
            let error = |code: u8| (f32::from(VALUES[usize::from(code)]) * scale - x).abs();
            (1..16).fold(0, |best, code| if error(code) < error(best) { code } else { best })
        };
        Block {
            e: [e],
            qs: std::array::from_fn(|j| code(x[j]) | code(x[j + 16]) << 4),
        }
        .to_bytes()
    });
}

/// `2^(e - 128)`: denormal for `e` 0 and 1.
pub fn half_scale(e: u8) -> f32 {
    f32::from_bits(match e {
        0..2 => 0x0020_0000 << e,
        _ => u32::from(e - 1) << 23,
    })
}
