//! The AVX-512 level with VNNI (Intel since Cascade Lake, AMD since Zen 4): integer products of its own, all else from AVX2.
//!
//! `vpdpbusd` multiplies bytes and adds four products to an i32 lane in one instruction where AVX2 needs two or three, twice as
//! wide. The unpackers are those of [`avx2::unpack`](super::avx2::unpack), on vectors of 16 rows.

mod attention;
mod backward;
mod decode;
mod matmul;
mod panels;
mod prefill;
mod rows;
mod word_panels;
mod words;

#[cfg(test)]
pub(super) use decode::Vnni;

use super::avx2;
use super::isa::Isa;

pub(crate) static ISA: Isa = Isa {
    name: "avx512",
    available,
    panel_rows: prefill::ROWS,
    matmul_int: matmul::matmul_int,
    codes: panels::codes,
    attention: attention::attention,
    product: backward::product,
    pack_words: words::pack_words,
    word_panels: word_panels::word_panels,
    word_rows: word_panels::word_rows,
    word_products: words::word_products,
    exps: backward::exps,
    ..avx2::ISA
};

fn available() -> bool {
    (avx2::ISA.available)()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}
