//! IQ4_NL: 32 codes of 4 bits into a fixed table of signed bytes, one half scale. `y = d table[q]`.
//!
//! Byte `j` of `qs` holds element `j` in its low and element `j + 16` in its high half.

use super::{BlockFormat, FormatInfo, block, half, unpack_blocks};

/// The values that the 16 codes stand for: denser around zero, as weights are.
pub const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

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
    format: BlockFormat::IQ4_NL,
    name: "IQ4_NL",
    block_len: 32,
    block_bytes: size_of::<Block>(),
    dequantize,
    quantize: None,
};

/// `y = d table[q]`.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |b, out: &mut [f32; 32]| {
        let b = Block::read(b);
        expand(half(b.d), &VALUES, &b.qs, out);
    });
}

/// `y = scale table[q]` for 16 bytes of codes, low halves first.
pub(super) fn expand(scale: f32, table: &[i8; 16], qs: &[u8; 16], out: &mut [f32; 32]) {
    for (j, q) in qs.iter().enumerate() {
        out[j] = scale * f32::from(table[usize::from(q & 15)]);
        out[j + 16] = scale * f32::from(table[usize::from(q >> 4)]);
    }
}
