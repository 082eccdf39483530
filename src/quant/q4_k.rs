//! Q4_K: 256 codes of 4 bits; per 32 a 6-bit scale and a 6-bit minimum. `y = (d s) q - (dmin m)`.
//!
//! Each 64 elements take 32 bytes of `qs`: the low half of byte `l` is element `l`, the high half element `32 + l`.

use super::fit_k::{WithMins, with_mins};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

block! {
    /// 256 elements.
    144 bytes {
        /// Scale of the sub-scales (half).
        d: 2,
        /// Scale of the sub-mins (half).
        dmin: 2,
        /// 8 sub-scales and 8 sub-mins of 6 bits, see [`sub_scales`].
        scales: 12,
        /// Codes.
        qs: 128,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q4_K,
    name: "Q4_K",
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
            for (y, q) in out.iter_mut().zip(&b.qs[g / 2 * 32..]) {
                *y = scale * f32::from(q >> (g % 2 * 4) & 15) - min;
            }
        }
    });
}

/// Scales and minimums by least squares, see [`fit_k`](super::fit_k).
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, importance, out, |x: &[f32; 256], w| {
        let WithMins { d, dmin, subs, codes } = with_mins(x, w, 15.0);
        Block {
            d: d.to_le_bytes(),
            dmin: dmin.to_le_bytes(),
            scales: pack_sub_scales(subs),
            qs: low_halves(&codes),
        }
        .to_bytes()
    });
}

/// The low four bits of the codes of a block.
pub(super) fn low_halves(codes: &[[u8; 32]; 8]) -> [u8; 128] {
    std::array::from_fn(|i| {
        let (g, l) = (i / 32 * 2, i % 32);
        codes[g][l] & 15 | (codes[g + 1][l] & 15) << 4
    })
}

/// The reverse of [`sub_scales`].
pub(super) fn pack_sub_scales(subs: [(u8, u8); 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => subs[i].0 | subs[i + 4].0 >> 4 << 6,
        4..8 => subs[i - 4].1 | subs[i].1 >> 4 << 6,
        _ => subs[i - 4].0 & 15 | subs[i - 4].1 << 4,
    })
}

/// The 8 pairs (sub-scale, sub-min), each 0 to 63.
///
/// The first four lie in the low six bits of bytes 0 to 3 (scales) and 4 to 7 (mins). Of the last four the low four bits
/// are the halves of bytes 8 to 11 (scale low, min high), the upper two the top bits of the byte of the pair four before.
pub fn sub_scales(packed: [u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|g| match g {
        0..4 => (packed[g] & 63, packed[g + 4] & 63),
        _ => (
            packed[g + 4] & 15 | packed[g - 4] >> 6 << 4,
            packed[g + 4] >> 4 | packed[g] >> 6 << 4,
        ),
    })
}
