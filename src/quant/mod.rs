//! Block formats: layout, ids and scalar truth. Speed lives in [`crate::kernels`].
//!
//! To add a format: write `quant/<name>.rs` with its `repr(C)` block, a size assert and `dequantize`
//! (plus `quantize` if Graft writes it), then add its line to [`FORMATS`] and its variant to [`BlockFormat`].
//! It works at once through the generic kernels; an unpacker in `kernels/cpu/<isa>` makes it fast.

/// A block format that Graft reads. The discriminant is the ggml type id in the file.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum BlockFormat {
    /// IEEE 754 single.
    F32 = 0,
    /// IEEE 754 half.
    F16 = 1,
    /// 32 x 4 bit, f16 scale.
    Q4_0 = 2,
    /// 32 x 4 bit, f16 scale and min.
    Q4_1 = 3,
    /// 32 x 5 bit, f16 scale.
    Q5_0 = 6,
    /// 32 x 5 bit, f16 scale and min.
    Q5_1 = 7,
    /// 32 x 8 bit, f16 scale.
    Q8_0 = 8,
    /// 256 x 2 bit, 4-bit sub-scales and sub-mins per 16.
    Q2_K = 10,
    /// 256 x 3 bit, 6-bit sub-scales per 16.
    Q3_K = 11,
    /// 256 x 4 bit, 6-bit sub-scales and sub-mins per 32.
    Q4_K = 12,
    /// 256 x 5 bit, 6-bit sub-scales and sub-mins per 32.
    Q5_K = 13,
    /// 256 x 6 bit, 8-bit sub-scales per 16.
    Q6_K = 14,
    /// 32 x 4 bit through a non-linear table, f16 scale.
    IQ4_NL = 20,
    /// 256 x 4 bit through the same table, 6-bit sub-scales per 32.
    IQ4_XS = 23,
    /// bfloat16.
    BF16 = 30,
    /// 32 x 4 bit e2m1, e8m0 shared scale.
    MXFP4 = 39,
}

/// What one format is: a line of [`FORMATS`].
pub struct FormatInfo {
    /// Which format.
    pub format: BlockFormat,
    /// Its name as ggml and users spell it, e.g. `Q4_K`.
    pub name: &'static str,
    /// Elements in a block.
    pub block_len: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Exact expansion, bit for bit as ggml: `bytes` holds whole blocks, `out` their elements.
    /// Panics only if the lengths do not belong together (checked by [`BlockFormat::dequantize`]).
    pub dequantize: fn(bytes: &[u8], out: &mut [f32]),
}

/// The table of formats.
pub static FORMATS: &[FormatInfo] = &[];

impl BlockFormat {
    /// The format with this ggml type id, if Graft reads it.
    pub fn from_id(_id: u32) -> Option<Self> {
        todo!()
    }
    /// Its line in the table.
    pub fn info(self) -> &'static FormatInfo {
        todo!()
    }
    /// Its name, e.g. `Q4_K`.
    pub fn name(self) -> &'static str {
        self.info().name
    }
    /// Bytes that `len` elements take; `None` if `len` is no multiple of the block or the product overflows.
    pub fn bytes_for(self, len: usize) -> Option<usize> {
        let i = self.info();
        if len % i.block_len != 0 {
            None
        } else {
            (len / i.block_len).checked_mul(i.block_bytes)
        }
    }
    /// Expands whole blocks. Panics if `out.len()` elements are not exactly `bytes`.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(
            self.bytes_for(out.len()),
            Some(bytes.len()),
            "{}: lengths differ",
            self.name()
        );
        (self.info().dequantize)(bytes, out);
    }
}

/// The name of any ggml type id, read or not, for error messages; `None` if unknown.
pub fn ggml_type_name(_id: u32) -> Option<&'static str> {
    todo!()
}
