//! Q2_K: 256 codes of 2 bits; per 16 a 4-bit scale and a 4-bit minimum. `y = (d s) q - (dmin m)`.
//!
//! Each half of the block (128 elements) takes 32 bytes of `qs`; bits `2k, 2k+1` of byte `l` are element `32 k + l` of the
//! half. Byte `g` of `scales` belongs to elements `16 g ..`: scale in its low, minimum in its high half.

use super::{BlockFormat, FormatInfo, block, half, unpack_blocks};

block! {
    /// 256 elements.
    84 bytes {
        /// Sub-scales (low) and sub-mins (high), per 16 elements.
        scales: 16,
        /// Codes.
        qs: 64,
        /// Scale of the sub-scales (half).
        d: 2,
        /// Scale of the sub-mins (half).
        dmin: 2,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q2_K,
    name: "Q2_K",
    block_len: 256,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: None,
};

/// `y = (d s) q - (dmin m)`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 256]| {
        let b = Block::read(b);
        let (d, dmin) = (half(b.d), half(b.dmin));
        for (g, (out, s)) in out.as_chunks_mut::<16>().0.iter_mut().zip(b.scales).enumerate() {
            let (scale, min) = (d * f32::from(s & 15), dmin * f32::from(s >> 4));
            let (first, shift) = (g / 8 * 32 + g % 2 * 16, g % 8 / 2 * 2);
            for (y, q) in out.iter_mut().zip(&b.qs[first..]) {
                *y = scale * f32::from(q >> shift & 3) - min;
            }
        }
    });
}
