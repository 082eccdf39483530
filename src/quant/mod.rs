//! Block formats: layout, ids and scalar truth. Speed lives in [`crate::kernels`].
//!
//! To add a format: write `quant/<name>.rs` with its block layout (`block!`), `dequantize` and [`FormatInfo`]
//! (plus `quantize` if Graft writes it), then add its module and its line to [`FORMATS`] and its variant to
//! [`BlockFormat`]; the tests below and `tests/vs_ggml.rs` pick it up from the table.
//! It works at once through the generic kernels; an unpacker in `kernels/cpu/<isa>` makes it fast.
//!
//! Every formula here is the one that defines the format. Products of a half scale, a sub-scale and a code fit in the 24
//! bits of an f32 (11 + 8 + 5 at most), so the order of multiplications and FMA change nothing; subtractions round once.

pub mod bf16;
mod block;
pub mod f16;
pub mod f32;
pub mod feedback;
mod fit;
mod fit_k;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod mxfp4;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

pub use feedback::Feedback;

use crate::error::{Error, Result};
use block::{block, half, pack_blocks, to_half, unpack_blocks};

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
#[derive(Debug)]
pub struct FormatInfo {
    /// Which format.
    pub format: BlockFormat,
    /// Its name as ggml and users spell it, e.g. `Q4_K`.
    pub name: &'static str,
    /// Elements in a block.
    pub block_len: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Exact expansion, bit for bit as ggml: `bytes` holds whole blocks (at any alignment), `out` their elements.
    /// Panics only if the lengths do not belong together (checked by [`BlockFormat::dequantize`]).
    pub dequantize: fn(bytes: &[u8], out: &mut [f32]),
    /// Packing, where Graft writes the format; [`BlockFormat::quantize`] checks what goes in.
    pub quantize: Option<Quantize>,
}

/// Packs `values`, whole blocks, into their bytes, weighting squared errors by the importance of each column of a row.
/// Panics only if the lengths do not belong together.
pub type Quantize = fn(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]);

/// The table of formats, in the order of their ids.
pub static FORMATS: &[FormatInfo] = &[
    f32::INFO,
    f16::INFO,
    q4_0::INFO,
    q4_1::INFO,
    q5_0::INFO,
    q5_1::INFO,
    q8_0::INFO,
    q2_k::INFO,
    q3_k::INFO,
    q4_k::INFO,
    q5_k::INFO,
    q6_k::INFO,
    iq4_nl::INFO,
    iq4_xs::INFO,
    bf16::INFO,
    mxfp4::INFO,
];

impl BlockFormat {
    /// The format with this ggml type id, if Graft reads it.
    pub fn from_id(id: u32) -> Option<Self> {
        FORMATS
            .iter()
            .map(|info| info.format)
            .find(|&format| format as u32 == id)
    }

    /// Its ggml type id, as it stands in files.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Its line in the table.
    pub fn info(self) -> &'static FormatInfo {
        let Some(info) = FORMATS.iter().find(|info| info.format == self) else {
            unreachable!("{self:?} has no line in FORMATS")
        };
        info
    }

    /// Its name, e.g. `Q4_K`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Bytes that `len` elements take; `None` if `len` is no multiple of the block or the product overflows.
    pub fn bytes_for(self, len: usize) -> Option<usize> {
        let i = self.info();
        if !len.is_multiple_of(i.block_len) {
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

    /// Packs rows of whole blocks into their bytes, with the least squared error that a search finds.
    ///
    /// What was expanded from a block comes back as it was in the formats of 32 elements (Q4_1 and Q5_1: if code 0 is used);
    /// in those of 256 nearly always, but not always. To keep blocks that did not change, copy their bytes.
    ///
    /// `importance` has the weight of each column's squared error, finite and not negative; `values` are then whole rows of
    /// `importance.len()` columns. Without it all columns count alike. Panics if `values.len()` elements are not exactly
    /// `out`, or rows are not whole blocks.
    ///
    /// Errors: a format that Graft does not write; a value that is not finite, or beyond ±65504 in a format with half scales
    /// (in BF16: beyond what it holds); a wrong weight. The message says which element, `out` is then untouched.
    pub fn quantize(self, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<()> {
        let len = Some(out.len());
        assert_eq!(self.bytes_for(values.len()), len, "{}: lengths differ", self.name());
        let columns = importance.map_or(values.len(), <[f32]>::len).max(1);
        let whole = values.len().is_multiple_of(columns) && columns.is_multiple_of(self.info().block_len);
        assert!(whole || values.is_empty(), "{}: rows are not whole blocks", self.name());
        let Some(quantize) = self.info().quantize else {
            return Err(Error::unsupported("Graft does not write this block format").found(self.name()));
        };
        let largest = match self {
            BlockFormat::F32 | BlockFormat::MXFP4 => f32::MAX,
            BlockFormat::BF16 => half::bf16::MAX.to_f32(),
            _ => half::f16::MAX.to_f32(),
        };
        // No range holds NaN.
        if let Some((at, x)) = values
            .iter()
            .enumerate()
            .find(|(_, x)| !(-largest..=largest).contains(*x))
        {
            let e = match x.is_finite() {
                true => Error::limit(format!("element {at} is too large for {}", self.name())),
                false => Error::invalid(format!("element {at} is not finite")),
            };
            return Err(e.expected(format_args!("at most ±{largest:e}")).found(x));
        }
        let weights = importance.unwrap_or_default();
        if let Some((at, w)) = weights
            .iter()
            .enumerate()
            .find(|(_, w)| !(0.0..f32::INFINITY).contains(*w))
        {
            let e = Error::invalid(format!("the importance of column {at} is wrong"));
            return Err(e.expected("a finite number, not negative").found(w));
        }
        quantize(values, importance, out);
        Ok(())
    }
}

/// The name of any ggml type id, read or not, for error messages; `None` if unknown.
pub fn ggml_type_name(id: u32) -> Option<&'static str> {
    // Ids 4, 5, 31 to 33 and 36 to 38 were removed from ggml; old files still hold them.
    const NAMES: [&str; 43] = [
        "F32",
        "F16",
        "Q4_0",
        "Q4_1",
        "Q4_2",
        "Q4_3",
        "Q5_0",
        "Q5_1",
        "Q8_0",
        "Q8_1",
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "Q8_K",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ3_XXS",
        "IQ1_S",
        "IQ4_NL",
        "IQ3_S",
        "IQ2_S",
        "IQ4_XS",
        "I8",
        "I16",
        "I32",
        "I64",
        "F64",
        "IQ1_M",
        "BF16",
        "Q4_0_4_4",
        "Q4_0_4_8",
        "Q4_0_8_8",
        "TQ1_0",
        "TQ2_0",
        "IQ4_NL_4_4",
        "IQ4_NL_4_8",
        "IQ4_NL_8_8",
        "MXFP4",
        "NVFP4",
        "Q1_0",
        "Q2_0",
    ];
    NAMES.get(usize::try_from(id).ok()?).copied()
}

#[cfg(test)]
mod tests;
