//! What tokens cost by arithmetic.

use graft::kernels::Precision;
use graft::kernels::cpu::{KvBuf, pairs};
use graft::{Model, SessionOptions};

use super::Phase;
use crate::machine::Limits;

/// What one token costs in weights.
pub struct Work {
    /// Bytes of weights that a generated token reads.
    pub bytes: usize,
    /// Multiply-adds with weights of the layers, for every token.
    pub layers: usize,
    /// Multiply-adds of the head, for tokens whose logits are asked for.
    pub head: usize,
}

impl Work {
    /// Counts the weights: matrices only, the embedding only where it is the head too.
    pub fn of(model: &Model) -> Self {
        let mut work = Work {
            bytes: 0,
            layers: 0,
            head: 0,
        };
        for t in model.gguf().tensors() {
            let head = match t.name.as_str() {
                "token_embd.weight" if !model.tied_head() => continue,
                "token_embd.weight" | "output.weight" => true,
                _ => false,
            };
            work.bytes += t.range.len();
            if t.dims.len() >= 2 {
                *(if head { &mut work.head } else { &mut work.layers }) += t.elements();
            }
        }
        work
    }
}

/// What attention costs beside the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attention {
    /// Multiply-adds in f32.
    pub macs: usize,
    /// Bytes of keys and values to read.
    pub bytes: usize,
}

impl Attention {
    /// Of `tokens` that come after `depth` others: all at once, or one by one.
    pub fn of(model: &Model, precision: Precision, phase: Phase, depth: usize, tokens: usize) -> Self {
        let spec = model.spec();
        let chunk = match phase {
            Phase::Prompt => SessionOptions::default().chunk,
            Phase::Generation => 1,
        };
        let row = 2 * spec.kv_width() * KvBuf::value_bytes(precision);
        let mut sum = Attention::default();
        for first in (0..tokens).step_by(chunk) {
            let (pos, rows) = (depth + first, chunk.min(tokens - first));
            for &window in &spec.windows {
                sum.macs += 2 * pairs(pos, rows, window) * spec.q_width();
                // Each key that one of the rows sees, once.
                sum.bytes += row * (pairs(pos, 1, window) + rows - 1);
            }
        }
        sum
    }

    /// What `self` has more.
    pub fn beyond(self, less: Self) -> Self {
        Attention {
            macs: self.macs.saturating_sub(less.macs),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }

    /// Seconds that it takes at least: the slower of multiplying and reading.
    pub fn seconds(self, limits: &Limits) -> f64 {
        let multiply = self.macs as f64 / (limits.attention_gmac_per_s() * 1e9);
        let read = self.bytes as f64 / (limits.read_gb_per_s * 1e9);
        multiply.max(read)
    }
}
