//! BF16: the upper 16 bits of a single, little-endian.

use super::{BlockFormat, FormatInfo, pack_blocks, unpack_blocks};

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::BF16,
    name: "BF16",
    block_len: 1,
    block_bytes: 2,
    dequantize,
    quantize: Some(quantize),
};

/// Widens: the 16 bits become the upper half of the single, whatever they are.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |&b, out: &mut [f32; 1]| {
        out[0] = f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
    });
}

/// Rounds to nearest, ties to even; a NaN keeps its upper bits and becomes quiet.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, None, out, |&[x]: &[f32; 1], _| {
        half::bf16::from_f32(x).to_le_bytes()
    });
}
