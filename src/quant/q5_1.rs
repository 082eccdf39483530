//! Q5_1: 32 codes of 5 bits, half scale and half minimum. `y = d q + m`. The codes lie as in [`q5_0`](super::q5_0).

use super::block::{inverse, min_max};
use super::q5_0::{join, split};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, to_half, unpack_blocks};

block! {
    /// 32 elements.
    24 bytes {
        /// Scale (half).
        d: 2,
        /// Minimum (half).
        m: 2,
        /// Fifth bits.
        qh: 4,
        /// Low four bits.
        qs: 16,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q5_1,
    name: "Q5_1",
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
        for (y, q) in out.iter_mut().zip(join(b.qs, b.qh)) {
            *y = f32::from(q) * d + m;
        }
    });
}

/// The least element gets code 0 and the greatest 31; rounds half up.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, out, |x: &[f32; 32]| {
        let (min, max) = min_max(x);
        let d = (max - min) / 31.0;
        let id = inverse(d);
        let (qs, qh) = split(x.map(|x| ((x - min) * id + 0.5) as u8 & 31));
        Block {
            d: to_half(d),
            m: to_half(min),
            qh,
            qs,
        }
        .to_bytes()
    });
}
