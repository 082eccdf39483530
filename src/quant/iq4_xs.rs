//! IQ4_XS: 256 codes of 4 bits into the table of [`iq4_nl`](super::iq4_nl); per 32 a 6-bit scale around 32.
//! `y = (d (s - 32)) table[q]`.
//!
//! Each 32 elements take 16 bytes of `qs`, low halves first.

use super::iq4_nl::{VALUES, expand};
use super::{BlockFormat, FormatInfo, block, half, unpack_blocks};

block! {
    /// 256 elements.
    136 bytes {
        /// Scale of the sub-scales (half).
        d: 2,
        /// Upper two bits of the sub-scales (little-endian u16, scale 0 lowest).
        scales_h: 2,
        /// Low four bits of the sub-scales (even ones in the low half of a byte).
        scales_l: 4,
        /// Codes.
        qs: 128,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::IQ4_XS,
    name: "IQ4_XS",
    block_len: 256,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: None,
};

/// `y = (d (s - 32)) table[q]`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 256]| {
        let b = Block::read(b);
        let d = half(b.d);
        let groups = out.as_chunks_mut::<32>().0.iter_mut().zip(b.qs.as_chunks::<16>().0);
        for ((out, qs), s) in groups.zip(sub_scales(b.scales_l, b.scales_h)) {
            expand(d * f32::from(s), &VALUES, qs, out);
        }
    });
}

/// The 8 sub-scales, 32 taken off: -32 to 31.
pub fn sub_scales(low: [u8; 4], high: [u8; 2]) -> [i8; 8] {
    std::array::from_fn(|g| {
        let low = low[g / 2] >> (g % 2 * 4) & 15;
        let high = high[g / 4] >> (g % 4 * 2) & 3;
        (low | high << 4).cast_signed() - 32
    })
}
