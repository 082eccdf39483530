//! Which layers run on a GPU.

use crate::error::{Error, Result};
use crate::format::{Gguf, TensorInfo};
use crate::kernels::Precision;
use crate::kernels::cpu::KvBuf;
use crate::kernels::cuda::{Gpu, device_bytes};
use crate::model::cache::ring_capacity;
use crate::model::spec::Spec;

/// The layers from `first` on, and with them the head. The embedding stays on the CPU, which only looks a row up, unless it is the head's own
/// matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    first: usize,
    layers: usize,
    tied: bool,
}

/// Positions of a conversation for which a layer's cache is counted, where the model has so many: nobody knows yet what sessions there will be.
const POSITIONS: usize = 4096;
/// What is left free for activations and the driver: this or a sixteenth.
const SPARE: usize = 256 << 20;

impl Plan {
    /// The last `wanted` layers; without a number as many as the GPU has memory for, beside what a training on sequences of so many tokens
    /// needs.
    ///
    /// # Errors
    /// `Unsupported`: a model whose heads the kernels cannot do; `Limit`: not even one layer fits.
    pub fn new(
        gpu: &Gpu,
        spec: &Spec,
        gguf: &Gguf,
        wanted: Option<usize>,
        training: Option<(usize, Precision)>,
    ) -> Result<Self> {
        if !spec.head_dim.is_multiple_of(8) || spec.head_dim > 256 {
            let e = Error::unsupported("this model's heads cannot be done on a GPU").file(gguf.path());
            return Err(e.expected("a multiple of 8 up to 256").found(spec.head_dim));
        }
        let tied = gguf.tensor("output.weight").is_none();
        let mut plan = Plan {
            first: spec.n_layers,
            layers: spec.n_layers,
            tied,
        };
        if let Some(wanted) = wanted {
            plan.first = spec.n_layers.saturating_sub(wanted);
            return Ok(plan);
        }
        let free = gpu.memory()?.0;
        let room = free.saturating_sub(SPARE.max(free / 16));
        let of = |t: &TensorInfo| device_bytes(t.format, t.range.len());
        let layer = |i: usize| {
            let name = format!("blk.{i}.");
            let weights = gguf
                .tensors()
                .iter()
                .filter(|t| t.name.starts_with(&name))
                .map(of)
                .sum::<usize>();
            let positions = ring_capacity(spec.windows[i], POSITIONS.min(spec.context_length), 512);
            let cache = 2 * positions * spec.kv_width() * KvBuf::value_bytes(Precision::Fast);
            weights + training.map_or(cache, |(seq, precision)| kept(spec, seq, precision))
        };
        let head = gguf.tensor(if tied { "token_embd.weight" } else { "output.weight" });
        let mut takes = head.map_or(0, of) + training.map_or(0, |(seq, _)| workspace(spec, seq));
        while plan.first > 0 && takes + layer(plan.first - 1) <= room {
            plan.first -= 1;
            takes += layer(plan.first);
        }
        if plan.first == spec.n_layers {
            let needs = takes + spec.n_layers.checked_sub(1).map_or(0, layer) + free - room;
            let e = Error::limit("not enough memory on the GPU for one layer").item(gpu.name());
            return Err(e
                .expected(format_args!("{needs} bytes free, or a number of layers (gpu_layers)"))
                .found(format_args!("{free} bytes")));
        }
        Ok(plan)
    }

    /// How many layers are on the GPU, and how many there are.
    pub fn layers(&self) -> (usize, usize) {
        (self.layers - self.first, self.layers)
    }

    /// Whether the matrix of this name is on the GPU.
    pub(super) fn has(&self, name: &str) -> bool {
        let layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split('.').next()?.parse().ok());
        match layer {
            Some(layer) => (self.first..self.layers).contains(&layer),
            None if self.first == self.layers => false,
            None => name == "output.weight" || self.tied && name == "token_embd.weight",
        }
    }
}

/// Bytes that a layer keeps of a sequence for its way back: its cache, its input, and what attention makes.
fn kept(spec: &Spec, seq: usize, precision: Precision) -> usize {
    let row = 2 * spec.hidden_size + 2 * spec.q_width() + 3 * spec.kv_width();
    seq.min(spec.context_length) * row * KvBuf::value_bytes(precision)
}

/// Bytes of what lies between the operations of a training's pass and its way back, of one layer and of the head: see `State`, `Tape`, `Way`.
fn workspace(spec: &Spec, seq: usize) -> usize {
    /// Unpacked weights; logits and what becomes of them.
    const ONCE: usize = (64 << 20) + (64 << 20);
    let (hidden, q, kv, ffn) = (spec.hidden_size, spec.q_width(), spec.kv_width(), spec.ffn_size);
    let row = 14 * hidden + 7 * q + 8 * kv + 9 * ffn;
    seq.min(spec.context_length) * row * size_of::<f32>() + ONCE
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn the_last_layers_and_the_head_are_on_the_gpu() {
        let plan = |first, tied| Plan { first, layers: 3, tied };
        let on = |plan: Plan| {
            let names = [
                "token_embd.weight",
                "blk.0.attn_q.weight",
                "blk.2.ffn_up.weight",
                "output.weight",
            ];
            names.map(|name| plan.has(name))
        };
        assert_eq!(on(plan(1, false)), [false, false, true, true]);
        assert_eq!(on(plan(1, true)), [true, false, true, true]);
        assert_eq!(on(plan(3, true)), [false; 4]);
        assert_eq!(plan(1, true).layers(), (2, 3));
    }
}
