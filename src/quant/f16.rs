//! F16: little-endian IEEE halves.

use super::{BlockFormat, FormatInfo, half, pack_blocks, to_half, unpack_blocks};

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::F16,
    name: "F16",
    block_len: 1,
    block_bytes: 2,
    dequantize,
    quantize: Some(quantize),
};

/// Widens; exact.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |&b, out: &mut [f32; 1]| out[0] = half(b));
}

/// Rounds to nearest, ties to even; what is too large becomes infinite.
pub fn quantize(values: &[f32], out: &mut [u8]) {
    pack_blocks(values, out, |&[x]: &[f32; 1]| to_half(x));
}
