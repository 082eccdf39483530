//! The scalar level: what every kernel means, in plain loops. The oracle of all other levels.

mod attention;
mod backward;
mod elementwise;
mod matmul;
mod norm;
mod pack;
mod rope;
mod words;

use super::isa::Isa;
use super::panels;
#[cfg(test)]
pub(super) use matmul::unpack;
#[cfg(target_arch = "aarch64")]
pub(super) use words::{word_panels, word_rows};

pub(crate) static ISA: Isa = Isa {
    name: "scalar",
    available: || true,
    panel_rows: 16,
    rms_norm: norm::rms_norm,
    rope: rope::rope,
    gated: elementwise::gated,
    add: elementwise::add,
    softcap: elementwise::softcap,
    to_f16: elementwise::to_f16,
    pack_i8: pack::pack_i8,
    pack_i16: pack::pack_i16,
    matmul_f32: matmul::matmul_f32,
    matmul_int: matmul::matmul_int,
    panel: panels::portable,
    codes: panels::portable_codes,
    fetch: |_, _| (),
    attention: attention::attention,
    product: backward::product,
    pack_words: words::pack_words,
    word_panels: words::word_panels,
    word_rows: words::word_rows,
    word_products: words::word_products,
    gated_back: backward::gated_back,
    exps: backward::exps,
};
