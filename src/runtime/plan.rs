//! How much memory a model and a session will take, known before either is made.

use crate::error::{Error, Result};
use crate::format::Gguf;
use crate::kernels::Precision;
use crate::kernels::cpu::{ActsSize, KvBuf, Readers};
use crate::model::cache::ring_capacity;
use crate::model::spec::Spec;
use crate::model::{Part, Site, arch_of};

use super::session::SessionOptions;

/// Bytes that a model and a session with it take. What is not in it: the tokenizer, and adapters
/// ([`Adapter::bytes`](super::Adapter::bytes)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The tensors in the file. Mapped, they are shared between processes and the system may drop and read them again;
    /// with [`LoadMode::Read`](crate::format::LoadMode::Read) they are memory like any other.
    pub weights: usize,
    /// Norms and biases, of which each model has a copy in f32.
    pub vectors: usize,
    /// The KV cache when the context is full. The system gives the memory as the cache fills.
    pub kv: usize,
    /// What a session needs beside the cache while [`Session::eval`](super::Session::eval) runs its largest chunk.
    pub activations: usize,
    /// What each thread of the model keeps at most for its part of the work, whatever the number of sessions.
    pub per_thread: usize,
}

/// Bytes of unpacked weights that a thread of any level keeps at most.
const PANEL: usize = 128 << 10;

impl MemoryPlan {
    /// The plan for the model in `gguf`, of which only the directory is read, and one session.
    ///
    /// # Errors
    /// A model that Graft does not run, as far as its metadata and the shapes of its tensors tell; options that no session
    /// of it can have.
    pub fn of(gguf: &Gguf, options: &SessionOptions) -> Result<Self> {
        let spec = Spec::read(arch_of(gguf)?, gguf)?;
        let context = options.context_of(&spec)?;
        let is_vector = |dims: &[usize]| dims.len() == 1;
        let vectors = gguf
            .tensors()
            .iter()
            .filter(|t| is_vector(&t.dims))
            .map(|t| t.elements());
        let chunk = options.chunk.clamp(1, context);
        let (attention, per_thread) = attention(&spec, context, chunk);
        let layers = layers(gguf, &spec, chunk, options.precision).map_err(|e| e.file(gguf.path()))?;
        Ok(MemoryPlan {
            weights: gguf.tensors().iter().map(|t| t.range.len()).sum(),
            vectors: vectors
                .fold(0usize, usize::saturating_add)
                .saturating_mul(size_of::<f32>()),
            kv: kv_bytes(&spec, options),
            activations: layers.saturating_add(attention),
            per_thread: per_thread.saturating_add(PANEL),
        })
    }

    /// All of it together, with so many threads.
    pub fn total(&self, threads: usize) -> usize {
        let threads = self.per_thread.saturating_mul(threads);
        [self.vectors, self.kv, self.activations, threads]
            .into_iter()
            .fold(self.weights, usize::saturating_add)
    }
}

/// Bytes of a full KV cache.
pub(super) fn kv_bytes(spec: &Spec, options: &SessionOptions) -> usize {
    let context = options.context.unwrap_or(spec.context_length);
    let rows = spec
        .windows
        .iter()
        .map(|&w| ring_capacity(w, context, options.chunk.max(1)));
    let rows = rows.fold(0usize, usize::saturating_add);
    rows.saturating_mul(2 * KvBuf::value_bytes(options.precision))
        .saturating_mul(spec.kv_width())
}

/// Bytes that attention needs for a moment while the context fills in chunks of `m`, once and in each thread.
fn attention(spec: &Spec, context: usize, m: usize) -> (usize, usize) {
    let mut windows = spec.windows.clone();
    windows.sort_unstable();
    windows.dedup();
    windows.into_iter().fold((0, 0), |(once, each), window| {
        let facts = spec.attention(window, ring_capacity(window, context, m), context - m);
        let (more, more_each) = facts.scratch_bytes(m);
        (once.max(more), each.max(more_each))
    })
}

/// Bytes of the buffers of [`State`](crate::model::state::State) when `m` tokens have run through the layers and one row
/// through the head.
fn layers(gguf: &Gguf, spec: &Spec, m: usize, precision: Precision) -> Result<usize> {
    let (hidden, q, kv, ffn) = (spec.hidden_size, spec.q_width(), spec.kv_width(), spec.ffn_size);
    let mut acts = ActsSize::default();
    let mut read = |m: usize, cols: usize, names: &[String]| -> Result<()> {
        let mut formats = Vec::with_capacity(names.len());
        for name in names {
            let t = gguf
                .tensor(name)
                .ok_or_else(|| Error::invalid("tensor is missing").item(name))?;
            if t.dims.first() != Some(&cols) {
                let e = Error::invalid("shape does not fit").item(name);
                return Err(e
                    .expected(format_args!("{cols} columns"))
                    .found(format_args!("{:?}", t.dims)));
            }
            formats.push(t.format);
        }
        acts = acts.max(ActsSize::of(m, cols, Readers::weights(&formats, precision)));
        Ok(())
    };
    for layer in 0..spec.n_layers {
        for (parts, cols) in Part::PASS.iter().zip([hidden, q, hidden, ffn]) {
            let name = |part: &Part| format!("{}.weight", Site::Layer(layer, *part).gguf_name());
            read(m, cols, &parts.iter().map(name).collect::<Vec<_>>())?;
        }
    }
    let head = ["output.weight", "token_embd.weight"].map(str::to_owned);
    let head = if gguf.tensor(&head[0]).is_some() {
        &head[..1]
    } else {
        &head[1..]
    };
    read(1, hidden, head)?;

    // x, normed, projected; q, attended; k, v; gate, up; cos and sin of a position.
    let rotations = 2 * (spec.rope.inv_freq.len() + spec.rope_local.as_ref().map_or(0, |r| r.inv_freq.len()));
    let a_token = [3 * hidden, 2 * q, 2 * kv, 2 * ffn, rotations];
    let a_token = a_token.into_iter().fold(0, usize::saturating_add);
    // The row that the head reads; its logits.
    let once = hidden + spec.vocab_size;
    let floats = m.saturating_mul(a_token).saturating_add(once);
    Ok(floats.saturating_mul(size_of::<f32>()).saturating_add(acts.bytes()))
}
