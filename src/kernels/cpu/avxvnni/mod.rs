//! The AVX-VNNI level (Intel since Alder Lake, the small cores of the N series among them; AMD since Zen 5): AVX2 with `vpdpbusd`,
//! which does in one instruction what `maddubs` and `paddw` do in two, and widens besides. Everything but the integer products is
//! AVX2's; they are AVX2's loops with the arithmetic of [`Vnni`].
//!
//! AVX-512 has the same instructions on 256 bits in another encoding. The tests run this level's loops in that one too (`twin`),
//! so that they are checked on CPUs that have only AVX-512.

use std::arch::x86_64::*;

use super::avx2;
use super::avx2::decode::Dot;
use super::avx2::unpack::plain_operations;
use super::isa::Isa;

pub(crate) static ISA: Isa = Isa {
    name: "avxvnni",
    available: || (avx2::ISA.available)() && std::arch::is_x86_feature_detected!("avxvnni"),
    matmul_int: level::matmul_int,
    codes: level::codes,
    word_products: level::word_products,
    ..avx2::ISA
};

/// Products of bytes in fours, added in 32 bits: no bound is near.
struct Vnni;

// SAFETY: AVX-VNNI.
unsafe impl Dot for Vnni {
    plain_operations! {
        start(half: __m256i, times: i16) -> __m256i {
            _mm256_dpwssd_avx_epi32(_mm256_setzero_si256(), half, _mm256_set1_epi16(times))
        }
        step(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i { _mm256_dpbusd_avx_epi32(sums, codes, x) }
        join(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        finish(sums: __m256i) -> __m256 { _mm256_cvtepi32_ps(sums) }
        step_words(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i { _mm256_dpwssd_avx_epi32(sums, codes, x) }
        start_wide(sums: __m256i) -> __m256i {
            _mm256_dpwssd_avx_epi32(_mm256_setzero_si256(), sums, _mm256_set1_epi16(-128))
        }
        step_wide(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i { _mm256_dpbusd_avx_epi32(sums, codes, x) }
    }
}

/// The integer kernels with the arithmetic `$dot`, for CPUs with `$features`.
macro_rules! level {
    ($features:literal, $dot:path) => {
        use std::ops::Range;

        use crate::kernels::cpu::acts::Acts;
        use crate::kernels::cpu::avx2;
        use crate::kernels::cpu::avx2::matmul::{Kernels, kernels, q8_0};
        use crate::kernels::cpu::avx2::unpack::{self, Unpack};
        use crate::kernels::cpu::isa::Words;
        use crate::kernels::cpu::panels::{Codes, How, Records};
        use crate::kernels::cpu::scratch;
        use crate::kernels::cpu::types::{Out, Weight};
        use crate::quant::BlockFormat;

        mod decode {
            use super::*;

            /// # Safety
            /// As `avx2::decode::blocks`.
            #[target_feature(enable = $features)]
            pub unsafe fn blocks<F: Unpack, const T: usize>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
                // SAFETY: the caller's promise.
                unsafe { avx2::decode::by_eight_rows::<F, $dot, T>(w, acts, y, rows) }
            }
        }

        mod prefill {
            use super::*;

            /// # Safety
            /// As `avx2::prefill::prefill`.
            #[target_feature(enable = $features)]
            pub unsafe fn prefill<F: Unpack>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
                let len = avx2::prefill::panel_len::<F>(&w);
                // SAFETY: the caller's promise.
                scratch::with_f32(len, |panel| unsafe {
                    avx2::prefill::panels::<F, $dot>(w, acts, y, rows, panel)
                });
            }
        }

        static Q8_0: &[Kernels] = &[q8_0(prefill::prefill::<unpack::Q8_0>)];
        static OTHERS: &[Kernels] = unpack::formats!(kernels);

        /// # Safety
        /// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int).
        pub(in crate::kernels::cpu) unsafe fn matmul_int(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
            // SAFETY: the caller's promises.
            unsafe { Kernels::run([Q8_0, OTHERS], w, acts, y, rows) }
        }

        /// # Safety
        /// As [`Isa::codes`](crate::kernels::cpu::isa::Isa::codes).
        #[target_feature(enable = $features)]
        pub(in crate::kernels::cpu) unsafe fn codes(
            p: Codes,
            panels: Range<usize>,
            x: Records,
            y: Out,
            column: usize,
            how: How,
        ) {
            // SAFETY: the caller's promise.
            unsafe { avx2::panels::products::<$dot>(p, panels, x, y, column, how) }
        }

        /// # Safety
        /// As [`Isa::word_products`](crate::kernels::cpu::isa::Isa::word_products).
        #[target_feature(enable = $features)]
        pub(in crate::kernels::cpu) unsafe fn word_products(p: Words) {
            // SAFETY: the caller's promise.
            unsafe { avx2::words::products::<$dot>(p) }
        }
    };
}

mod level {
    level!("avx2,fma,f16c,avxvnni", crate::kernels::cpu::avxvnni::Vnni);
}

/// See the head.
#[cfg(test)]
pub(super) mod twin {
    level!(
        "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni",
        crate::kernels::cpu::avx512::Vnni
    );

    pub(crate) static ISA: crate::kernels::cpu::isa::Isa = crate::kernels::cpu::isa::Isa {
        name: "avxvnni-twin",
        available: crate::kernels::cpu::avx512::ISA.available,
        matmul_int,
        codes,
        word_products,
        ..avx2::ISA
    };
}
