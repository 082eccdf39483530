//! The AVX2 level (AVX2, FMA, F16C: Intel since Haswell, AMD since Excavator).
//!
//! Every function here has `#[target_feature]` with exactly what [`available`] asks the CPU for; the table holds them as
//! `unsafe fn` and [`isa::choose`](super::isa::choose) hands it out only if the CPU has them.

pub(super) mod attention;
mod backward;
pub(super) mod decode;
mod dense;
mod elementwise;
mod expand;
pub(super) mod lanes;
pub(super) mod matmul;
mod norm;
mod pack;
pub(super) mod panels;
pub(super) mod prefill;
mod rope;
pub(super) mod unpack;
pub(super) mod words;

use super::isa::Isa;

pub(crate) static ISA: Isa = Isa {
    name: "avx2",
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
    matmul_int: matmul::matmul_int,
    panel: panels::panel,
    codes: panels::codes,
    fetch: panels::fetch,
    attention: attention::attention,
    product: backward::product,
    pack_words: words::pack_words,
    word_panels: words::word_panels,
    word_rows: words::word_rows,
    word_products: words::word_products,
    gated_back: backward::gated_back,
    exps: backward::exps,
};

fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}
