//! The way back through the forward pass: read [`Pass::learn`] top to bottom, then [`super::decoder`] bottom to top.
//!
//! Of the forward pass each layer's input is kept and, where memory allows, what its attention made of that. On the way back the rest of a
//! layer runs again, leaving what its gradients need; base weights stay in their blocks. Formulas of the operations are at [`Backprop`].

mod again;
mod embed;
mod forms;
mod map;
mod prefix;

use crate::adapter::trained::Trained;
use crate::error::Result;
use crate::kernels::Precision;

use super::backend::Backend;
use super::backprop::Backprop;
use super::decoder::Pass;
use super::sites::{Part, Site};
use super::spec::Spec;
use super::state::{Kept, LOUD, State, Tape};
use super::weights::{Layer, Weights};

use map::MapWay;
use prefix::Run;

/// Numbers of logits that are in memory at once.
const LOGITS: usize = 4 << 20;

/// Rows of so many logits that are in memory at once.
pub fn rows_of_logits(vocab: usize) -> usize {
    (LOGITS / vocab.max(1)).clamp(4, 256)
}

/// The buffers of a way back, which grow to the largest example and are reused.
pub struct Way<B: Backend> {
    /// What is kept of each layer.
    kept: Vec<Kept<B>>,
    /// The input of one.
    input: B::Buf,
    /// By the residual stream.
    dx: B::Buf,
    /// By what a norm gave.
    d_normed: B::Buf,
    /// By what stands before a norm.
    d_raw: B::Buf,
    d_attended: B::Buf,
    dq: B::Buf,
    dk: B::Buf,
    dv: B::Buf,
    dh: B::Buf,
    d_gate: B::Buf,
    d_up: B::Buf,
    /// Rows of hidden states before a target, and by them.
    rows: B::Buf,
    d_rows: B::Buf,
    losses: Vec<f32>,
    map: MapWay<B>,
}

impl<B: Backprop> Way<B> {
    /// A way back through `layers` for passes of at most `capacity` rows. Of each row and layer `hidden_size` numbers are kept; with `attention`
    /// besides what attention makes, which then need not run again: 2 `q_width` + `hidden_size`, and with a norm of k `kv_width` more.
    ///
    /// # Errors
    /// Memory.
    pub fn new(
        b: &B,
        spec: &Spec,
        weights: &Weights<B>,
        layers: &[usize],
        capacity: usize,
        attention: bool,
        precision: Precision,
    ) -> Result<Self> {
        let layers = layers.iter().map(|layer| &weights.layers[*layer]);
        let kept = layers.map(|layer| Kept::new(b, spec, layer, capacity, attention, precision));
        let kept = kept.collect::<Result<_>>()?;
        let buf = B::Buf::default;
        Ok(Way {
            kept,
            input: buf(),
            dx: buf(),
            d_normed: buf(),
            d_raw: buf(),
            d_attended: buf(),
            dq: buf(),
            dk: buf(),
            dv: buf(),
            dh: buf(),
            d_gate: buf(),
            d_up: buf(),
            rows: buf(),
            d_rows: buf(),
            losses: Vec::new(),
            map: MapWay::default(),
        })
    }
}

/// What is to be said after which rows: `(row, token)`, rows ascending.
pub type Targets<'a> = &'a [(usize, u32)];

impl<B: Backprop> Pass<'_, B> {
    /// Runs `tokens` behind what the adapter has before them and returns the sum of the losses at `targets`, rows of which are tokens.
    pub fn loss(&self, st: &mut State<B>, tokens: &[u32], targets: Targets, way: &mut Way<B>) -> f64 {
        let run = self.begin(st, tokens);
        self.layers(st, run.m, run.pos);
        self.at_targets(st, run, targets, 1.0, way, &mut |_, _, _, _| ())
    }

    /// The same, and adds `scale` times the gradients of that sum to those of `trained`. The state was made for as many positions at once.
    pub fn learn(
        &self,
        st: &mut State<B>,
        tokens: &[u32],
        targets: Targets,
        scale: f32,
        trained: &mut Trained<B>,
        way: &mut Way<B>,
    ) -> f64 {
        let (b, layers) = (self.backend, self.active.layers.len());
        let lowest = trained.lowest_layer();
        // Forward.
        let run = self.begin(st, tokens);
        let m = run.m;
        self.rope_tables(st, m, run.pos);
        for index in 0..layers {
            let learns = lowest.is_none_or(|lowest| index >= lowest);
            if learns {
                b.copy(&st.x, &mut way.input);
                b.scale(&mut way.input, 1.0 / LOUD);
                let kept = &mut way.kept[index];
                b.kv_write(&way.input, self.spec.hidden_size, 0, kept.capacity, &mut kept.input);
                st.keep = Some(std::mem::take(&mut way.kept));
            }
            self.layer(st, index, m, run.pos);
            if let Some(kept) = st.keep.take() {
                way.kept = kept;
            }
        }
        self.output_norm(st, m);
        // The head and the loss.
        let hidden = self.spec.hidden_size;
        b.zeros(&mut way.d_normed, m * hidden);
        let mut d_normed = std::mem::take(&mut way.d_normed);
        let sum = self.at_targets(st, run, targets, scale, way, &mut |pass, st, way, chunk| {
            b.zeros(&mut way.d_rows, chunk.len() * hidden);
            let head = &pass.weights.head;
            pass.map_back(
                head,
                0,
                &way.rows,
                chunk.len(),
                &mut st.logits,
                &mut way.d_rows,
                trained,
                &mut st.work,
                &mut way.map,
            );
            let rows: Vec<_> = chunk.iter().enumerate().map(|(i, t)| (i, t.0)).collect();
            b.scatter_rows(&way.d_rows, hidden, &rows, &mut d_normed);
        });
        way.d_normed = d_normed;
        b.zeros(&mut way.dx, m * hidden);
        self.norm_back(
            Site::OutputNorm,
            &self.weights.output_norm,
            &st.x,
            &way.d_normed,
            &mut way.dx,
            trained,
        );
        // The layers, from the last to the lowest that learns.
        st.tape = Some(Tape::default());
        for index in (lowest.unwrap_or(0)..layers).rev() {
            self.again(st, index, run, way);
            if let Some(tape) = st.tape.take() {
                self.mlp_back(st, &tape, index, m, trained, way);
                self.attention_back(st, &tape, index, run, trained, way);
                st.tape = Some(tape);
            }
        }
        st.tape = None;
        if lowest.is_none() {
            self.begin_back(run, tokens, trained, way);
        }
        sum
    }

    /// The sum of the losses at targets. Calls `each` for them in chunks, whose hidden states are in `rows`, and in place of the state's logits
    /// the gradients of that sum by them times `scale`; their rows are those of the run, and the pass has the gates of the chunk.
    #[allow(clippy::type_complexity)]
    fn at_targets(
        &self,
        st: &mut State<B>,
        run: Run,
        targets: Targets,
        scale: f32,
        way: &mut Way<B>,
        each: &mut dyn FnMut(&Pass<B>, &mut State<B>, &mut Way<B>, Targets),
    ) -> f64 {
        let (b, hidden) = (self.backend, self.spec.hidden_size);
        let mut sum = 0.0;
        let together = rows_of_logits(self.active.vocab.1);
        let dropout = st.work.dropout;
        for (i, chunk) in targets.chunks(together).enumerate() {
            // Rows of the head are counted in each chunk.
            st.work.dropout = dropout.map(|d| d.part(i as u64));
            let chunk: Vec<_> = chunk.iter().map(|(row, id)| (run.text + row, *id)).collect();
            let gates: Vec<usize> = self
                .gates
                .iter()
                .map(|from| chunk.partition_point(|t| t.0 < *from))
                .collect();
            let pass = Pass { gates: &gates, ..*self };
            let rows: Vec<usize> = chunk.iter().map(|t| t.0).collect();
            b.take_rows(&st.normed, hidden, &rows, &mut way.rows);
            let head = &self.weights.head;
            pass.linear([(head, &mut st.logits)], 0, &way.rows, chunk.len(), &mut st.work);
            if let Some(cap) = self.spec.logit_softcap {
                b.softcap(&mut st.logits, cap);
            }
            let ids: Vec<u32> = chunk.iter().map(|t| t.1).collect();
            b.cross_entropy(&mut st.logits, &ids, self.spec.logit_softcap, scale, &mut way.losses);
            sum += way.losses.iter().map(|l| f64::from(*l)).sum::<f64>();
            each(&pass, st, way, &chunk);
        }
        st.work.dropout = dropout;
        sum
    }

    /// dx += by the input of a norm; its weights learn if they are trained.
    fn norm_back(
        &self,
        site: Site,
        base: &B::Vector,
        x: &B::Buf,
        dy: &B::Buf,
        dx: &mut B::Buf,
        trained: &mut Trained<B>,
    ) {
        let dw = trained
            .at(site)
            .first_mut()
            .and_then(|f| f.tensors.first_mut())
            .filter(|t| t.wanted)
            .map(|t| &mut t.grad);
        let norm = self.active.norm(site, base);
        self.backend.rms_norm_back(x, norm, self.spec.norm_eps, dy, dx, dw);
    }

    /// The gradient by what a branch added to the residual stream of `m` rows: through the norm behind it, if there is one.
    #[allow(clippy::too_many_arguments)] // those of the norm
    fn added_back(
        &self,
        m: usize,
        site: Site,
        norm: Option<&B::Vector>,
        raw: &B::Buf,
        dx: &B::Buf,
        d_raw: &mut B::Buf,
        trained: &mut Trained<B>,
    ) {
        match norm {
            None => self.backend.copy(dx, d_raw),
            Some(norm) => {
                self.backend.zeros(d_raw, m * self.spec.hidden_size);
                self.norm_back(site, norm, raw, dx, d_raw, trained);
            }
        }
    }

    /// Back through x += post_norm(down(act(gate h) * up h)), h = norm(x).
    fn mlp_back(
        &self,
        st: &mut State<B>,
        tape: &Tape<B>,
        index: usize,
        m: usize,
        trained: &mut Trained<B>,
        way: &mut Way<B>,
    ) {
        let (b, spec) = (self.backend, self.spec);
        let layer = self.layer_of(index);
        let site = |part| Site::Layer(index, part);
        self.added_back(
            m,
            site(Part::FfnPostNorm),
            layer.ffn_post_norm.as_ref(),
            &tape.mlp_out,
            &way.dx,
            &mut way.d_raw,
            trained,
        );
        b.zeros(&mut way.dh, m * spec.ffn_size);
        let map = &mut way.map;
        self.map_back(
            &layer.down,
            index,
            &st.gate,
            m,
            &mut way.d_raw,
            &mut way.dh,
            trained,
            &mut st.work,
            map,
        );
        b.resize(&mut way.d_gate, m * spec.ffn_size);
        b.resize(&mut way.d_up, m * spec.ffn_size);
        b.gated_back(spec.act, &tape.gate, &st.up, &way.dh, &mut way.d_gate, &mut way.d_up);
        b.zeros(&mut way.d_normed, m * spec.hidden_size);
        for (linear, dy) in [(&layer.gate, &mut way.d_gate), (&layer.up, &mut way.d_up)] {
            let (dx, work) = (&mut way.d_normed, &mut st.work);
            self.map_back(linear, index, &st.normed, m, dy, dx, trained, work, map);
        }
        self.norm_back(
            site(Part::FfnNorm),
            &layer.ffn_norm,
            &tape.mid,
            &way.d_normed,
            &mut way.dx,
            trained,
        );
    }

    /// Back through x += post_norm(O attention(rope(norm(Q h)), rope(norm(K h)), V h)), h = norm(x).
    fn attention_back(
        &self,
        st: &mut State<B>,
        tape: &Tape<B>,
        index: usize,
        run: Run,
        trained: &mut Trained<B>,
        way: &mut Way<B>,
    ) {
        let (b, spec, m) = (self.backend, self.spec, run.m);
        let layer = self.layer_of(index);
        let site = |part| Site::Layer(index, part);
        self.added_back(
            m,
            site(Part::AttnPostNorm),
            layer.attn_post_norm.as_ref(),
            &tape.attn_out,
            &way.dx,
            &mut way.d_raw,
            trained,
        );
        b.zeros(&mut way.d_attended, m * spec.q_width());
        let (d_raw, d_attended) = (&mut way.d_raw, &mut way.d_attended);
        self.map_back(
            &layer.o,
            index,
            &st.attended,
            m,
            d_raw,
            d_attended,
            trained,
            &mut st.work,
            &mut way.map,
        );
        let kv = &st.kv[index];
        let facts = self.attention_facts(index, kv.capacity, run.pos);
        b.resize(&mut way.dq, m * spec.q_width());
        b.resize(&mut way.dk, (run.pos + m) * spec.kv_width());
        b.resize(&mut way.dv, (run.pos + m) * spec.kv_width());
        b.attention_back(
            &facts,
            &st.q,
            &kv.k,
            &kv.v,
            &way.d_attended,
            &mut way.dq,
            &mut way.dk,
            &mut way.dv,
        );
        self.cached_back(run, index, trained, way);
        let rope = self.rope_of(index, &st.rope, &st.rope_local);
        b.rope_back(&mut way.dq, spec.n_heads, spec.head_dim, rope);
        b.rope_back(&mut way.dk, spec.n_kv_heads, spec.head_dim, rope);
        let norms = [
            (&layer.q_norm, Part::QNorm, spec.q_width(), &tape.q_raw, &mut way.dq),
            (&layer.k_norm, Part::KNorm, spec.kv_width(), &tape.k_raw, &mut way.dk),
        ];
        for (norm, part, width, raw, d) in norms {
            if let Some(norm) = norm {
                b.zeros(&mut way.d_raw, m * width);
                self.norm_back(site(part), norm, raw, d, &mut way.d_raw, trained);
                std::mem::swap(d, &mut way.d_raw);
            }
        }
        b.zeros(&mut way.d_normed, m * spec.hidden_size);
        let maps = [
            (&layer.q, &mut way.dq),
            (&layer.k, &mut way.dk),
            (&layer.v, &mut way.dv),
        ];
        for (linear, dy) in maps {
            let (dx, work, map) = (&mut way.d_normed, &mut st.work, &mut way.map);
            self.map_back(linear, index, &tape.attn_normed, m, dy, dx, trained, work, map);
        }
        self.norm_back(
            site(Part::AttnNorm),
            &layer.attn_norm,
            &way.input,
            &way.d_normed,
            &mut way.dx,
            trained,
        );
    }

    fn layer_of(&self, index: usize) -> &Layer<B> {
        &self.weights.layers[self.active.layers[index]]
    }
}
