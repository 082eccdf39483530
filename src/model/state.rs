//! What a conversation, or a training, owns on the device, and what a pass leaves there for its way back.

use std::borrow::Cow;

use crate::error::Result;
use crate::kernels::{Draw, Precision};

use super::backend::Backend;
use super::cache::{LayerKv, ring_capacity};
use super::dropout::Dropout;
use super::moments::Moments;
use super::spec::Spec;
use super::weights::{Layer, Weights};

/// What linear maps need beside input and output.
pub(super) struct Work<B: Backend> {
    pub(super) precision: Precision,
    /// The input, packed for the weights.
    pub(super) acts: B::Acts,
    /// What lies between the matrices of an adapter.
    pub(super) between: B::Acts,
    /// An input before an adapter changed it.
    pub(super) before: B::Buf,
    /// Inputs that adapters changed, and their packed forms.
    pub(super) changed: Vec<(B::Buf, B::Acts)>,
    /// What the maps are given, where that is asked for.
    pub(super) moments: Option<Moments>,
    /// On the inputs of updates, while they are trained.
    pub(super) dropout: Option<Dropout>,
    /// Such an input.
    pub(super) dropped: B::Buf,
}

/// Everything a conversation owns on the device: the cache and the buffers of a pass, which grow to the largest chunk
/// and are reused.
pub struct State<B: Backend> {
    pub(super) kv: Vec<LayerKv<B>>,
    pub(super) x: B::Buf,
    pub(super) normed: B::Buf,
    pub(super) q: B::Buf,
    pub(super) k: B::Buf,
    pub(super) v: B::Buf,
    pub(super) attended: B::Buf,
    pub(super) projected: B::Buf,
    pub(super) gate: B::Buf,
    pub(super) up: B::Buf,
    pub(super) work: Work<B>,
    pub(super) rope: B::RopeTable,
    pub(super) rope_local: B::RopeTable,
    pub(super) rows: B::Buf,
    pub(super) logits: B::Buf,
    /// What a layer's way back needs and the layer would not leave behind, where that is asked for.
    pub(super) tape: Option<Tape<B>>,
    /// Where layers leave what is kept of them, where that is asked for.
    pub(super) keep: Option<Vec<Kept<B>>>,
}

/// What is kept of a layer's rows in a pass: f16 in `Fast`.
pub(super) struct Kept<B: Backend> {
    /// Rows that there is room for.
    pub capacity: usize,
    /// What goes into the layer, divided by [`LOUD`].
    pub input: B::Kv,
    /// What attention made of it, unless that is to run again.
    pub attention: Option<KeptAttention<B>>,
}

/// Residual streams of some models go beyond the largest f16, 65504, at single places; below 1/16384 f16 has few digits.
pub(super) const LOUD: f32 = 64.0;

/// What is kept of a layer's attention.
pub(super) struct KeptAttention<B: Backend> {
    /// q and k before their norms and rotations; of k only with a norm, else the cache has it.
    pub q: B::Kv,
    pub k: Option<B::Kv>,
    pub attended: B::Kv,
    /// What attention adds, before its norm.
    pub attn_out: B::Kv,
}

impl<B: Backend> Kept<B> {
    /// Room for `capacity` rows of a layer.
    pub fn new(
        b: &B,
        spec: &Spec,
        layer: &Layer<B>,
        capacity: usize,
        keeps: bool,
        precision: Precision,
    ) -> Result<Self> {
        let room = |width: usize| b.kv(&layer.k.weight, capacity, width, precision);
        let attention = || -> Result<KeptAttention<B>> {
            Ok(KeptAttention {
                q: room(spec.q_width())?,
                k: layer.k_norm.as_ref().map(|_| room(spec.kv_width())).transpose()?,
                attended: room(spec.q_width())?,
                attn_out: room(spec.hidden_size)?,
            })
        };
        Ok(Kept {
            capacity,
            input: room(spec.hidden_size)?,
            attention: keeps.then(attention).transpose()?,
        })
    }
}

/// What a layer leaves for its way back, beside the buffers of [`State`] that nothing of the layer overwrites.
pub(super) struct Tape<B: Backend> {
    /// The norm of the layer's input.
    pub attn_normed: B::Buf,
    /// q and k before their norms.
    pub q_raw: B::Buf,
    pub k_raw: B::Buf,
    /// What attention adds, before its norm.
    pub attn_out: B::Buf,
    /// Behind attention.
    pub mid: B::Buf,
    /// The gate, before what makes it one.
    pub gate: B::Buf,
    /// What the MLP adds, before its norm.
    pub mlp_out: B::Buf,
}

impl<B: Backend> Default for Tape<B> {
    fn default() -> Self {
        Tape {
            attn_normed: B::Buf::default(),
            q_raw: B::Buf::default(),
            k_raw: B::Buf::default(),
            attn_out: B::Buf::default(),
            mid: B::Buf::default(),
            gate: B::Buf::default(),
            mlp_out: B::Buf::default(),
        }
    }
}

impl<B: Backend> State<B> {
    /// An empty cache for `context` positions, written at most `chunk` at a time, of layers that are these of the base.
    ///
    /// # Errors
    /// The cache does not fit in memory.
    pub fn new(
        backend: &B,
        spec: &Spec,
        weights: &Weights<B>,
        layers: &[usize],
        context: usize,
        chunk: usize,
        precision: Precision,
    ) -> Result<Self> {
        let width = spec.kv_width();
        let kv = layers
            .iter()
            .map(|&layer| {
                let capacity = ring_capacity(spec.windows[layer], context, chunk);
                LayerKv::new(backend, &weights.layers[layer].k.weight, capacity, width, precision)
            })
            .collect::<Result<_>>()?;
        Ok(State {
            kv,
            x: B::Buf::default(),
            normed: B::Buf::default(),
            q: B::Buf::default(),
            k: B::Buf::default(),
            v: B::Buf::default(),
            attended: B::Buf::default(),
            projected: B::Buf::default(),
            gate: B::Buf::default(),
            up: B::Buf::default(),
            work: Work {
                precision,
                acts: B::Acts::default(),
                between: B::Acts::default(),
                before: B::Buf::default(),
                changed: Vec::new(),
                moments: None,
                dropout: None,
                dropped: B::Buf::default(),
            },
            rope: B::RopeTable::default(),
            rope_local: B::RopeTable::default(),
            rows: B::Buf::default(),
            logits: B::Buf::default(),
            tape: None,
            keep: None,
        })
    }

    /// The cache of each layer.
    pub fn cache(&self) -> &[LayerKv<B>] {
        &self.kv
    }

    /// The same, to change it.
    pub fn cache_mut(&mut self) -> &mut [LayerKv<B>] {
        &mut self.kv
    }

    /// From now on records what the linear maps of a model with `n_layers` are given.
    pub fn record(&mut self, n_layers: usize) {
        self.work.moments = Some(Moments::new(n_layers));
    }

    /// From now on the inputs of updates lose numbers, or no longer.
    pub fn drop_out(&mut self, dropout: Option<Dropout>) {
        self.work.dropout = dropout;
    }

    /// The logits that were computed last; zeros after an error of the device, which [`Backend::check`] has.
    pub fn logits(&self, backend: &B) -> Cow<'_, [f32]> {
        backend.read(&self.logits)
    }

    /// Whether the device chooses by them: see [`Backend::draws`].
    pub fn draws(&self, backend: &B) -> bool {
        backend.draws(&self.logits)
    }

    /// The token that `draw` chooses by them, which must be one row: see [`Backend::draw`].
    ///
    /// # Errors
    /// What the device says.
    pub fn draw(&self, backend: &B, draw: &Draw) -> Result<Option<u32>> {
        backend.draw(&self.logits, draw)
    }

    /// What was recorded, if anything was to be; nothing more is.
    pub fn take_moments(&mut self) -> Option<Moments> {
        self.work.moments.take()
    }
}

/// Where the attention of layer `index` is kept, if it is, and rows that there is room for.
pub(super) fn kept_attention<B: Backend>(
    keep: &mut Option<Vec<Kept<B>>>,
    index: usize,
) -> Option<(&mut KeptAttention<B>, usize)> {
    let kept = keep.as_mut()?.get_mut(index)?;
    Some((kept.attention.as_mut()?, kept.capacity))
}
