//! Q8_0: 32 signed bytes, one half scale. `y = d q`.

use super::block::inverse;
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, to_half, unpack_blocks};

block! {
    /// 32 elements.
    34 bytes {
        /// Scale (half).
        d: 2,
        /// Codes (i8).
        qs: 32,
    }
}

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::Q8_0,
    name: "Q8_0",
    block_len: 32,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: Some(quantize),
};

/// `y = d q`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 32]| {
        let b = Block::read(b);
        let d = half(b.d);
        for (y, q) in out.iter_mut().zip(b.qs) {
            *y = f32::from(q.cast_signed()) * d;
        }
    });
}

/// The largest magnitude gets code 127 or -127; rounds half away from zero.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, out, |x: &[f32; 32]| {
        let d = x.iter().fold(0.0, |m: f32, x| m.max(x.abs())) / 127.0;
        let id = inverse(d);
        Block {
            d: to_half(d),
            qs: x.map(|x| ((x * id).round() as i8).cast_unsigned()),
        }
        .to_bytes()
    });
}
