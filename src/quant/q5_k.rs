//! Q5_K: 256 codes of 5 bits; per 32 a 6-bit scale and a 6-bit minimum. `y = (d s) q - (dmin m)`.
//!
//! The low four bits lie as in [`q4_k`](super::q4_k); bit `g` of `qh[l]` is the fifth bit of element `32 g + l`.

use super::fit_k::{WithMins, with_mins};
use super::q4_k::{low_halves, pack_sub_scales, sub_scales};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

block! {
    /// 256 elements.
    176 bytes {
        /// Scale of the sub-scales (half).
        d: 2,
        /// Scale of the sub-mins (half).
        dmin: 2,
        /// 8 sub-scales and 8 sub-mins of 6 bits, see [`sub_scales`].
        scales: 12,
        /// Fifth bits.
        qh: 32,
        /// Low four bits.
        qs: 128,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q5_K,
    name: "Q5_K",
    block_len: 256,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: Some(quantize),
};

/// `y = (d s) q - (dmin m)`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 256]| {
        let b = Block::read(b);
        let (d, dmin) = (half(b.d), half(b.dmin));
        for (g, (out, (s, m))) in out
            .as_chunks_mut::<32>()
            .0
            .iter_mut()
            .zip(sub_scales(b.scales))
            .enumerate()
        {
            let (scale, min) = (d * f32::from(s), dmin * f32::from(m));
            for ((y, q), h) in out.iter_mut().zip(&b.qs[g / 2 * 32..]).zip(b.qh) {
                let code = q >> (g % 2 * 4) & 15 | (h >> g & 1) << 4;
                *y = scale * f32::from(code) - min;
            }
        }
    });
}

/// Scales and minimums by least squares, see [`fit_k`](super::fit_k).
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, importance, out, |x: &[f32; 256], w| {
        let WithMins { d, dmin, subs, codes } = with_mins(x, w, 31.0);
        let fifth_bits = |l: usize| codes.iter().rev().fold(0, |bits, codes| bits << 1 | codes[l] >> 4);
        Block {
            d: d.to_le_bytes(),
            dmin: dmin.to_le_bytes(),
            scales: pack_sub_scales(subs),
            qh: std::array::from_fn(fifth_bits),
            qs: low_halves(&codes),
        }
        .to_bytes()
    });
}
