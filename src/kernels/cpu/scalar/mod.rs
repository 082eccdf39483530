//! The scalar level: what every kernel means, in plain loops. The oracle of all other levels.

mod attention;
mod backward;
mod elementwise;
mod matmul;
mod norm;
mod pack;
mod rope;

use super::acts::Partner;
use super::isa::Isa;
use super::panels;
#[cfg(target_arch = "aarch64")]
pub(super) use backward::turn;
#[cfg(test)]
pub(super) use matmul::unpack;

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
    turn: backward::turn,
    turned: (Partner::I16, matmul::matmul_int),
    gated_back: backward::gated_back,
    exps: backward::exps,
};
