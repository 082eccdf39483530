//! Q3_K: 256 codes of 3 bits around 4; per 16 a 6-bit scale around 32. `y = (d (s - 32)) (q - 4)`.
//!
//! The low two bits lie as in [`q2_k`](super::q2_k); bit `e / 32` of `hmask[e % 32]` is the third bit of element `e`.

use super::{BlockFormat, FormatInfo, block, half, unpack_blocks};

block! {
    /// 256 elements.
    110 bytes {
        /// Third bits.
        hmask: 32,
        /// Low two bits.
        qs: 64,
        /// 16 sub-scales of 6 bits, see [`sub_scales`].
        scales: 12,
        /// Scale of the sub-scales (half).
        d: 2,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q3_K,
    name: "Q3_K",
    block_len: 256,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: None,
};

/// `y = (d (s - 32)) (q - 4)`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 256]| {
        let b = Block::read(b);
        let d = half(b.d);
        for (g, (out, s)) in out
            .as_chunks_mut::<16>()
            .0
            .iter_mut()
            .zip(sub_scales(b.scales))
            .enumerate()
        {
            let scale = d * f32::from(s);
            let (first, shift) = (g / 8 * 32 + g % 2 * 16, g % 8 / 2 * 2);
            let high = &b.hmask[g % 2 * 16..];
            for ((y, q), h) in out.iter_mut().zip(&b.qs[first..]).zip(high) {
                let code = q >> shift & 3 | (h >> (g / 2) & 1) << 2;
                *y = scale * f32::from(i16::from(code) - 4);
            }
        }
    });
}

/// The 16 sub-scales, 32 taken off: -32 to 31.
///
/// The low four bits of scale `g` are the low half of byte `g` for `g < 8`, the high half of byte `g - 8` after that; its
/// upper two bits are bits `2 (g / 4), 2 (g / 4) + 1` of byte `8 + g % 4`.
pub fn sub_scales(packed: [u8; 12]) -> [i8; 16] {
    std::array::from_fn(|g| {
        let low = if g < 8 { packed[g] & 15 } else { packed[g - 8] >> 4 };
        let high = packed[8 + g % 4] >> (g / 4 * 2) & 3;
        (low | high << 4).cast_signed() - 32
    })
}
