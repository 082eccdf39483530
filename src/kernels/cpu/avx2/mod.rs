//! The AVX2 level (AVX2, FMA, F16C: Intel since Haswell, AMD since Excavator).

use super::isa::Isa;
use super::scalar;

pub(crate) static ISA: Isa = Isa {
    name: "avx2",
    available: || false,
    ..scalar::ISA
};
