//! Q8_0: 32 signed bytes, one half scale. `y = d q`.

use super::fit::{Codes, Spread, scaled};
use super::{BlockFormat, FormatInfo, block, half, pack_blocks, unpack_blocks};

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

/// Scales around the one that maps the largest magnitude to 127 (-128 is not used: the format is symmetric).
pub fn quantize(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let codes = Codes { lo: -127.0, hi: 127.0 };
    let spread = Spread {
        from: 0.976,
        to: 1.004,
        steps: 8,
    };
    pack_blocks(values, importance, out, |x: &[f32; 32], w| {
        let (d, q) = scaled(x, w, codes, spread);
        Block {
            d: d.to_le_bytes(),
            qs: q.map(|q| (q as i8).cast_unsigned()),
        }
        .to_bytes()
    });
}
