//! F32: little-endian IEEE singles, as they are.

use super::{BlockFormat, FormatInfo, pack_blocks, unpack_blocks};

/// Its line in the table.
pub const INFO: FormatInfo = FormatInfo {
    format: BlockFormat::F32,
    name: "F32",
    block_len: 1,
    block_bytes: 4,
    dequantize,
    quantize: Some(quantize),
};

/// Copies; every bit pattern survives.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    unpack_blocks(bytes, out, |&b, out: &mut [f32; 1]| out[0] = f32::from_le_bytes(b));
}

/// Copies.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, None, out, |&[x]: &[f32; 1], _| x.to_le_bytes());
}

/// The same behind what `out` holds.
pub fn append(values: &[f32], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + size_of_val(values), 0);
    quantize(values, None, &mut out[at..]);
}
