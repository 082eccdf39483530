//! The only forward pass.
//!
//! `m` tokens enter at position `pos`; their K and V join the cache; the residual stream `x` (`[m][hidden_size]`) runs
//! through the layers. Read [`Pass::forward`] top to bottom.

use std::borrow::Cow;

use crate::adapter::Attached;
use crate::error::Result;
use crate::kernels::Precision;
use crate::kernels::cpu::Attention;

use super::backend::Backend;
use super::spec::Spec;
use super::weights::{Layer, Linear, Weights};

/// The adapters of a pass, each with its weight.
pub type Active<B> = [(std::sync::Arc<Attached<B>>, f32)];

/// One layer's cache: rings of K and V rows.
struct LayerKv<B: Backend> {
    k: B::Kv,
    v: B::Kv,
    capacity: usize,
}

/// What linear maps need beside input and output.
struct Work<B: Backend> {
    precision: Precision,
    /// The input, packed for the weights.
    acts: B::Acts,
    /// A x of an adapter, packed for its B.
    low_rank: B::Acts,
}

/// Everything a conversation owns on the device: the cache and the buffers of a pass, which grow to the largest chunk
/// and are reused.
pub struct State<B: Backend> {
    kv: Vec<LayerKv<B>>,
    x: B::Buf,
    normed: B::Buf,
    q: B::Buf,
    k: B::Buf,
    v: B::Buf,
    attended: B::Buf,
    projected: B::Buf,
    gate: B::Buf,
    up: B::Buf,
    work: Work<B>,
    rope: B::RopeTable,
    rope_local: B::RopeTable,
    rows: B::Buf,
    logits: B::Buf,
}

/// Slots of a layer's ring: all positions, or the window and what a chunk may write before it is read.
pub fn ring_capacity(window: Option<usize>, context: usize, chunk: usize) -> usize {
    window.map_or(context, |w| context.min(w.saturating_add(chunk)))
}

impl<B: Backend> State<B> {
    /// An empty cache for `context` positions, written at most `chunk` at a time.
    ///
    /// # Errors
    /// The cache does not fit in memory.
    pub fn new(backend: &B, spec: &Spec, context: usize, chunk: usize, precision: Precision) -> Result<Self> {
        let width = spec.kv_width();
        let kv = spec
            .windows
            .iter()
            .map(|&window| {
                let capacity = ring_capacity(window, context, chunk);
                let ring = || backend.kv(capacity, width, precision);
                Ok(LayerKv {
                    k: ring()?,
                    v: ring()?,
                    capacity,
                })
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
                low_rank: B::Acts::default(),
            },
            rope: B::RopeTable::default(),
            rope_local: B::RopeTable::default(),
            rows: B::Buf::default(),
            logits: B::Buf::default(),
        })
    }
}

/// A pass under way: what it reads.
pub struct Pass<'a, B: Backend> {
    /// The device.
    pub backend: &'a B,
    /// The facts.
    pub spec: &'a Spec,
    /// The weights.
    pub weights: &'a Weights<B>,
    /// The adapters.
    pub active: &'a Active<B>,
}

impl<B: Backend> Pass<'_, B> {
    /// Runs `tokens` (ids below the vocabulary size, no more than the state's chunk) at positions `pos` on and leaves
    /// their final hidden states, normed, in the state for [`Pass::logits`].
    pub fn forward(&self, st: &mut State<B>, tokens: &[u32], pos: usize) {
        let (b, spec, m) = (self.backend, self.spec, tokens.len());
        b.resize(&mut st.x, m * spec.hidden_size);
        b.embed(&self.weights.embed, tokens, spec.embed_scale, &mut st.x);
        b.rope_table(&spec.rope, pos, m, &mut st.rope);
        if let Some(local) = &spec.rope_local {
            b.rope_table(local, pos, m, &mut st.rope_local);
        }
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.attention(st, layer, i, m, pos);
            self.mlp(st, layer, m);
        }
        b.resize(&mut st.normed, m * spec.hidden_size);
        b.rms_norm(&st.x, &self.weights.output_norm, spec.norm_eps, &mut st.normed);
    }

    /// Logits `[n][vocab]` of rows `first..first + n` of the last [`Pass::forward`].
    pub fn logits<'s>(&self, st: &'s mut State<B>, first: usize, n: usize) -> Cow<'s, [f32]> {
        let (b, spec) = (self.backend, self.spec);
        b.copy_rows(&st.normed, spec.hidden_size, first, n, &mut st.rows);
        let head = &self.weights.head;
        self.linear([(head, &mut st.logits)], &st.rows, n, &mut st.work);
        if let Some(cap) = spec.logit_softcap {
            b.softcap(&mut st.logits, cap);
        }
        b.read(&st.logits)
    }

    /// x += post_norm(O attention(rope(norm(Q h)), rope(norm(K h)), V h)), h = norm(x)
    fn attention(&self, st: &mut State<B>, layer: &Layer<B>, index: usize, m: usize, pos: usize) {
        let (b, spec) = (self.backend, self.spec);
        let to = [(&layer.q, &mut st.q), (&layer.k, &mut st.k), (&layer.v, &mut st.v)];
        self.normed_linear(to, &layer.attn_norm, &st.x, &mut st.normed, m, &mut st.work);
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            b.rms_norm_inplace(&mut st.q, q_norm, spec.norm_eps);
            b.rms_norm_inplace(&mut st.k, k_norm, spec.norm_eps);
        }
        let window = spec.windows[index];
        let rope = if spec.rope_local.is_some() && window.is_some() {
            &st.rope_local
        } else {
            &st.rope
        };
        b.rope(&mut st.q, spec.n_heads, spec.head_dim, rope);
        b.rope(&mut st.k, spec.n_kv_heads, spec.head_dim, rope);
        let kv = &mut st.kv[index];
        b.kv_write(&st.k, spec.kv_width(), pos, kv.capacity, &mut kv.k);
        b.kv_write(&st.v, spec.kv_width(), pos, kv.capacity, &mut kv.v);
        let facts = Attention {
            heads: spec.n_heads,
            kv_heads: spec.n_kv_heads,
            head_dim: spec.head_dim,
            scale: spec.attn_scale,
            softcap: spec.attn_softcap,
            window,
            capacity: kv.capacity,
            pos,
        };
        b.resize(&mut st.attended, m * spec.q_width());
        b.attention(&facts, &st.q, &kv.k, &kv.v, &mut st.attended);
        self.linear([(&layer.o, &mut st.projected)], &st.attended, m, &mut st.work);
        if let Some(norm) = &layer.attn_post_norm {
            b.rms_norm_inplace(&mut st.projected, norm, spec.norm_eps);
        }
        b.add(&mut st.x, &st.projected);
    }

    /// x += post_norm(down(act(gate h) * up h)), h = norm(x)
    fn mlp(&self, st: &mut State<B>, layer: &Layer<B>, m: usize) {
        let (b, spec) = (self.backend, self.spec);
        let to = [(&layer.gate, &mut st.gate), (&layer.up, &mut st.up)];
        self.normed_linear(to, &layer.ffn_norm, &st.x, &mut st.normed, m, &mut st.work);
        b.gated(spec.act, &mut st.gate, &st.up);
        self.linear([(&layer.down, &mut st.projected)], &st.gate, m, &mut st.work);
        if let Some(norm) = &layer.ffn_post_norm {
            b.rms_norm_inplace(&mut st.projected, norm, spec.norm_eps);
        }
        b.add(&mut st.x, &st.projected);
    }

    /// [`linear`](Self::linear) maps of `normed` = norm(x).
    fn normed_linear<const N: usize>(
        &self,
        to: [(&Linear<B>, &mut B::Buf); N],
        norm: &B::Vector,
        x: &B::Buf,
        normed: &mut B::Buf,
        m: usize,
        work: &mut Work<B>,
    ) {
        let (b, spec) = (self.backend, self.spec);
        b.resize(normed, m * spec.hidden_size);
        let weights = to.each_ref().map(|(linear, _)| &linear.weight);
        b.norm_pack(x, norm, spec.norm_eps, normed, weights, work.precision, &mut work.acts);
        self.packed_linear(to, normed, m, work);
    }

    /// Linear maps `to` of the `m` rows x.
    fn linear<const N: usize>(&self, to: [(&Linear<B>, &mut B::Buf); N], x: &B::Buf, m: usize, work: &mut Work<B>) {
        let weights = to.each_ref().map(|(linear, _)| &linear.weight);
        self.backend
            .pack(x, to[0].0.cols, weights, work.precision, &mut work.acts);
        self.packed_linear(to, x, m, work);
    }

    /// The one seam where adapters meet the model: y = x w^T + bias + sum of the active adapters' updates at this site, for all
    /// maps `to` of x, which is packed in `work`.
    fn packed_linear<const N: usize>(
        &self,
        mut to: [(&Linear<B>, &mut B::Buf); N],
        x: &B::Buf,
        m: usize,
        work: &mut Work<B>,
    ) {
        let b = self.backend;
        for (linear, y) in &mut to {
            b.resize(y, m * linear.rows);
        }
        let products = to.each_mut().map(|(linear, y)| (&linear.weight, &mut **y));
        b.matmul(products, &work.acts, work.precision);
        for (linear, y) in to {
            if let Some(bias) = &linear.bias {
                b.add_bias(y, bias);
            }
            for (adapter, weight) in self.active {
                adapter.apply(b, linear.site, *weight, x, &mut work.acts, &mut work.low_rank, y);
            }
        }
    }
}
