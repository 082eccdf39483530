//! The arm64 levels. They share everything but the products of bytes ([`dot`]):
//!
//! * `neon`: what every arm64 CPU has (ARMv8.0, as Cortex-A53 and A72);
//! * `neon-dotprod`: with `sdot` (from Cortex-A55 and A76 on, all Apple silicon);
//! * `neon-i8mm`: with `smmla` besides (from Cortex-A510 and X2, Apple M2).
//!
//! NEON itself belongs to the target, so its intrinsics need no `#[target_feature]`. Instructions that stable Rust has no
//! intrinsics for (f16 conversion, `sdot`, `smmla`, prefetch) are one line of assembly each, in [`lanes`] and [`dot`].

mod attention;
mod backward;
mod decode;
mod dense;
pub(super) mod dot;
mod elementwise;
mod lanes;
mod matmul;
mod norm;
mod pack;
mod panels;
mod prefill;
mod rope;
mod unpack;
mod words;

use std::arch::is_aarch64_feature_detected;

use super::isa::{CodesOf, Isa, MatmulInt};
use dot::{I8mm, Sdot, Widening};

pub(crate) static NEON: Isa = isa(
    "neon",
    || true,
    matmul::matmul_int::<Widening>,
    panels::codes::<Widening>,
);

pub(crate) static DOTPROD: Isa = isa(
    "neon-dotprod",
    || is_aarch64_feature_detected!("dotprod"),
    matmul::matmul_int::<Sdot>,
    panels::codes::<Sdot>,
);

pub(crate) static I8MM: Isa = isa(
    "neon-i8mm",
    || is_aarch64_feature_detected!("dotprod") && is_aarch64_feature_detected!("i8mm"),
    matmul::matmul_int::<I8mm>,
    panels::codes::<Sdot>,
);

const fn isa(name: &'static str, available: fn() -> bool, matmul_int: MatmulInt, codes: CodesOf) -> Isa {
    Isa {
        name,
        available,
        panel_rows: 16,
        rms_norm: norm::rms_norm,
        rope: rope::rope,
        gated: elementwise::gated,
        add: elementwise::add,
        softcap: elementwise::softcap,
        to_f16: elementwise::to_f16,
        pack_i8: pack::pack_i8,
        pack_i16: pack::pack_i16,
        matmul_f32: dense::matmul_f32,
        matmul_int,
        panel: panels::panel,
        codes,
        fetch: lanes::fetch,
        attention: attention::attention,
        product: backward::product,
        pack_words: words::pack_words,
        word_panels: words::word_panels,
        word_rows: words::word_rows,
        word_products: words::word_products,
        gated_back: backward::gated_back,
        exps: backward::exps,
    }
}
