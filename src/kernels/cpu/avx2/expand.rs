//! Blocks to f32, 8 rows at a time, for the f32 products.
//!
//! Strips hold a column of 8 rows in one vector already, so there is nothing to transpose. Each weight is made with the operations of
//! [`BlockFormat::dequantize`] in its order, so it is the same to the last bit.

use std::arch::x86_64::*;

use super::unpack::{self, LINE, Unpack, formats};
use crate::quant::BlockFormat;

/// `out[c * pitch + r]` = weight c of row r, for the columns of `blocks` blocks of 8 rows; row r's blocks begin at `p + r * stride`.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; the blocks are readable, the elements of `out` writable.
pub(super) type Expand = unsafe fn(p: *const u8, stride: usize, blocks: usize, out: *mut f32, pitch: usize);

/// What expands `format`; `None`: by rows, with `dequantize`. Where a strip has a zero point *and* a minimum (Q5_1, Q5_K), its minimum
/// makes up for the zero point and was rounded.
pub(super) fn of(format: BlockFormat) -> Option<Expand> {
    EXPAND
        .iter()
        .find(|(f, _)| *f == format)
        .and_then(|(_, expand)| *expand)
}

macro_rules! expand {
    ($($name:ident)*) => { &[(BlockFormat::Q8_0, entry::<unpack::Q8_0>()), $((BlockFormat::$name, entry::<unpack::$name>())),*] };
}
static EXPAND: &[(BlockFormat, Option<Expand>)] = formats!(expand);

const fn entry<F: Unpack>() -> Option<Expand> {
    if F::ZERO != 0 && F::MIN {
        None
    } else {
        Some(expand::<F>)
    }
}

/// See [`Expand`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn expand<F: Unpack>(p: *const u8, stride: usize, blocks: usize, out: *mut f32, pitch: usize) {
    // Room for the largest: 8 groups of 17 lines.
    let mut strip = std::mem::MaybeUninit::<[__m256i; 8 * 17]>::uninit();
    let strip = strip.as_mut_ptr().cast::<u8>();
    const { assert!(F::GROUPS * F::LINES <= 8 * 17) };
    for b in 0..blocks {
        // SAFETY: the caller's promise, and the strip has room for a block; `unpack` writes all lines that are read below.
        unsafe {
            F::unpack::<__m256i, 1>(p.add(b * F::BYTES), stride, strip);
            for g in 0..F::GROUPS {
                let group = strip.add(g * F::LINES * LINE);
                let line = |l: usize| _mm256_loadu_si256(group.add(l * LINE).cast());
                let real = |l: usize| _mm256_castsi256_ps(line(l));
                let out = out.add((b * F::GROUPS + g) * 32 * pitch);
                for i in 0..8 {
                    let half = if F::HALVES == 2 { i / 4 } else { 0 };
                    let codes = if F::WORDS {
                        words(line(i), line(8 + i))
                    } else {
                        bytes(line(i))
                    };
                    for (j, code) in codes.into_iter().enumerate() {
                        let code = _mm256_sub_ps(_mm256_cvtepi32_ps(code), _mm256_set1_ps(f32::from(F::ZERO)));
                        let mut weight = _mm256_mul_ps(code, real(F::CODES + half));
                        if F::MIN {
                            weight = _mm256_add_ps(weight, real(F::MINS + half));
                        }
                        _mm256_storeu_ps(out.add((4 * i + j) * pitch), weight);
                    }
                }
            }
        }
    }
}

/// The four bytes of each dword, unsigned.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn bytes(v: __m256i) -> [__m256i; 4] {
    let low = _mm256_set1_epi32(255);
    [
        _mm256_and_si256(v, low),
        _mm256_and_si256(_mm256_srli_epi32::<8>(v), low),
        _mm256_and_si256(_mm256_srli_epi32::<16>(v), low),
        _mm256_srli_epi32::<24>(v),
    ]
}

/// The words of a line of columns 0 and 2 and of one of columns 1 and 3, in the columns' order.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn words(even: __m256i, odd: __m256i) -> [__m256i; 4] {
    let low = |v| _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(v));
    [
        low(even),
        low(odd),
        _mm256_srai_epi32::<16>(even),
        _mm256_srai_epi32::<16>(odd),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::FORMATS;

    /// Oracle: `dequantize`, which is checked against ggml. All bit patterns, scales that are NaN or infinite included.
    #[test]
    fn expanded_weights_are_dequantized_ones_bit_for_bit() {
        if !(super::super::ISA.available)() {
            return;
        }
        let mut state = 7u64;
        for info in FORMATS {
            let Some(expand) = of(info.format) else { continue };
            let (blocks, pitch) = (3, 11);
            let (stride, cols) = (blocks * info.block_bytes, blocks * info.block_len);
            for _ in 0..200 {
                let data: Vec<u8> = std::iter::repeat_with(|| {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    (state >> 56) as u8
                })
                .take(8 * stride)
                .collect();
                let mut want = vec![0.0; 8 * cols];
                info.format.dequantize(&data, &mut want);
                let mut found = vec![0.0f32; cols * pitch];
                // SAFETY: the level is there; 8 rows of blocks, room for all columns.
                unsafe { expand(data.as_ptr(), stride, blocks, found.as_mut_ptr(), pitch) };
                for (i, want) in want.iter().enumerate() {
                    let found = found[i % cols * pitch + i / cols];
                    assert!(
                        found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan(),
                        "{} row {} column {}: {found} instead of {want}",
                        info.name,
                        i / cols,
                        i % cols
                    );
                }
            }
        }
    }
}
