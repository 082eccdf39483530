//! The table of integer kernels, and which one a call takes.

use std::ops::Range;

use super::{decode, prefill, unpack};
use crate::kernels::cpu::acts::Acts;
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

pub(in crate::kernels::cpu) type Run = unsafe fn(w: Weight, acts: &Acts, y: Out, rows: Range<usize>);

/// A format's kernels.
pub(in crate::kernels::cpu) struct Kernels {
    pub format: BlockFormat,
    /// For 1, 2 and 3 tokens: in the blocks, some rows at a time.
    pub decode: [Run; 3],
    /// From [`PANELS_FROM`](crate::kernels::cpu::crossovers::PANELS_FROM) tokens on: through a panel.
    pub prefill: Run,
}

impl Kernels {
    /// Runs what a level's tables have for the format and the number of tokens.
    ///
    /// # Safety
    /// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), for that level.
    pub unsafe fn run(tables: [&[Kernels]; 2], w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
        let kernels = tables.into_iter().flatten().find(|k| k.format == w.format);
        let kernels = kernels.unwrap_or_else(|| panic!("{} has no integer kernel", w.format.name()));
        let run = kernels.decode.get(acts.m.wrapping_sub(1)).unwrap_or(&kernels.prefill);
        // SAFETY: the caller's promises are theirs.
        unsafe { run(w, acts, y, rows) }
    }
}

/// The kernels of formats whose decode goes through strips, from the modules `decode`, `prefill` and `unpack` in scope.
macro_rules! kernels {
    ($($name:ident)*) => {
        &[$(Kernels {
            format: BlockFormat::$name,
            decode: [
                decode::blocks::<unpack::$name, 1>,
                decode::blocks::<unpack::$name, 2>,
                decode::blocks::<unpack::$name, 3>,
            ],
            prefill: prefill::prefill::<unpack::$name>,
        }),*]
    };
}
pub(in crate::kernels::cpu) use kernels;

/// Q8_0 with a level's prefill. Decode is the same for all: columns are lanes, so there is nothing to unpack, and it reads as fast as
/// the memory gives.
pub(in crate::kernels::cpu) const fn q8_0(prefill: Run) -> Kernels {
    Kernels {
        format: BlockFormat::Q8_0,
        decode: [decode::q8_0::<1>, decode::q8_0::<2>, decode::q8_0::<3>],
        prefill,
    }
}

/// Of turned weights ([`Isa::turned`](crate::kernels::cpu::isa::Isa::turned)) on levels that multiply bytes, from the modules in scope.
macro_rules! turned {
    () => {
        &[Kernels {
            format: BlockFormat::Q8_0,
            decode: [
                decode::blocks::<unpack::Q8_0Bytes, 1>,
                decode::blocks::<unpack::Q8_0Bytes, 2>,
                decode::blocks::<unpack::Q8_0Bytes, 3>,
            ],
            prefill: prefill::prefill::<unpack::Q8_0Bytes>,
        }]
    };
}
pub(in crate::kernels::cpu) use turned;

static Q8_0: &[Kernels] = &[q8_0(prefill::prefill::<unpack::Q8_0>)];
static OTHERS: &[Kernels] = unpack::formats!(kernels);

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int).
pub(super) unsafe fn matmul_int(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promises.
    unsafe { Kernels::run([Q8_0, OTHERS], w, acts, y, rows) }
}
