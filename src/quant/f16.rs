//! F16: little-endian IEEE halves.

use std::array::from_fn;

use half::slice::HalfFloatSliceExt;

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

/// Widens; exact. A slice at a time: one question to the CPU whether it converts by itself, and wide instructions if so.
pub fn dequantize(bytes: &[u8], out: &mut [f32]) {
    const SLICE: usize = 64;
    let whole = out.len() / SLICE * SLICE;
    let (slices, rest) = bytes.split_at(2 * whole);
    let (out, out_rest) = out.split_at_mut(whole);
    unpack_blocks(slices, out, |b: &[u8; 2 * SLICE], out: &mut [f32; SLICE]| {
        let halves: [half::f16; SLICE] = from_fn(|i| half::f16::from_le_bytes([b[2 * i], b[2 * i + 1]]));
        halves.convert_to_f32_slice(out);
    });
    unpack_blocks(rest, out_rest, |&b, out: &mut [f32; 1]| out[0] = half(b));
}

/// Rounds to nearest, ties to even.
pub fn quantize(values: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
    pack_blocks(values, None, out, |&[x]: &[f32; 1], _| to_half(x));
}
