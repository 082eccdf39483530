//! The way back through the forward pass: read [`Pass::learn`] top to bottom, then [`super::decoder`] bottom to top.
//!
//! Of the forward pass only each layer's input is kept. On the way back a layer runs again, leaving what its gradients need; base weights
//! stay in their blocks. Formulas of the operations are at [`Backprop`].

use crate::adapter::forms::{Form, LowRank};
use crate::adapter::trained::{Role, Tensor, Trained, TrainedForm};
use crate::kernels::Precision;

use super::backend::Backend;
use super::backprop::Backprop;
use super::decoder::{Pass, State, Tape};
use super::sites::{Part, Site};
use super::weights::{Layer, Linear};

/// Numbers of logits that are in memory at once.
const LOGITS: usize = 4 << 20;

/// The buffers of a way back, which grow to the largest example and are reused.
pub struct Way<B: Backend> {
    /// The input of each layer.
    inputs: Vec<B::Buf>,
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

/// Those of a linear map.
struct MapWay<B: Backend> {
    precision: Precision,
    /// A x, what is behind it, and by that.
    u: B::Buf,
    scaled: B::Buf,
    du: B::Buf,
    /// The input as adapters change it, and by it.
    changed: B::Buf,
    d_changed: B::Buf,
    /// What the map gives, before what multiplies it.
    y: B::Buf,
    acts: B::Acts,
}

impl<B: Backend> Way<B> {
    /// Empty buffers.
    pub fn new(precision: Precision) -> Self {
        let buf = B::Buf::default;
        Way {
            inputs: Vec::new(),
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
            map: MapWay {
                precision,
                u: buf(),
                scaled: buf(),
                du: buf(),
                changed: buf(),
                d_changed: buf(),
                y: buf(),
                acts: B::Acts::default(),
            },
        }
    }
}

/// What is to be said after which rows: `(row, token)`, rows ascending.
pub type Targets<'a> = &'a [(usize, u32)];

impl<B: Backprop> Pass<'_, B> {
    /// Runs `tokens` from position 0 on and returns the sum of the losses at `targets`.
    pub fn loss(&self, st: &mut State<B>, tokens: &[u32], targets: Targets, way: &mut Way<B>) -> f64 {
        self.forward(st, tokens, 0);
        let mut sum = 0.0;
        self.at_targets(st, targets, way, &mut |pass, st, way, chunk| {
            let ids: Vec<u32> = chunk.iter().map(|t| t.1).collect();
            pass.backend
                .cross_entropy(&mut st.logits, &ids, pass.spec.logit_softcap, 1.0, &mut way.losses);
            sum += way.losses.iter().map(|l| f64::from(*l)).sum::<f64>();
        });
        sum
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
        let (b, m, layers) = (self.backend, tokens.len(), self.active.layers.len());
        let lowest = trained.lowest_layer();
        // Forward.
        way.inputs.resize_with(layers, B::Buf::default);
        self.embed(st, tokens);
        self.rope_tables(st, m, 0);
        for index in 0..layers {
            if lowest.is_none_or(|lowest| index >= lowest) {
                b.copy(&st.x, &mut way.inputs[index]);
            }
            self.layer(st, index, m, 0);
        }
        self.output_norm(st, m);
        // The head and the loss.
        let mut sum = 0.0;
        let hidden = self.spec.hidden_size;
        b.zeros(&mut way.d_normed, m * hidden);
        let mut d_normed = std::mem::take(&mut way.d_normed);
        self.at_targets(st, targets, way, &mut |pass, st, way, chunk| {
            let ids: Vec<u32> = chunk.iter().map(|t| t.1).collect();
            b.cross_entropy(&mut st.logits, &ids, pass.spec.logit_softcap, scale, &mut way.losses);
            sum += way.losses.iter().map(|l| f64::from(*l)).sum::<f64>();
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
                &mut way.map,
            );
            scatter(b, &way.d_rows, chunk, hidden, &mut d_normed);
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
            b.copy(&way.inputs[index], &mut st.x);
            self.layer(st, index, m, 0);
            if let Some(tape) = st.tape.take() {
                self.mlp_back(st, &tape, index, m, trained, way);
                self.attention_back(st, &tape, index, m, trained, way);
                st.tape = Some(tape);
            }
        }
        st.tape = None;
        sum
    }

    /// Calls `each` for targets in chunks, whose hidden states are in `rows` and whose logits in the state.
    #[allow(clippy::type_complexity)]
    fn at_targets(
        &self,
        st: &mut State<B>,
        targets: Targets,
        way: &mut Way<B>,
        each: &mut dyn FnMut(&Self, &mut State<B>, &mut Way<B>, Targets),
    ) {
        let (b, hidden) = (self.backend, self.spec.hidden_size);
        let together = (LOGITS / self.active.vocab.1.max(1)).clamp(4, 256);
        for chunk in targets.chunks(together) {
            let mut rows = Vec::with_capacity(chunk.len() * hidden);
            {
                let all = b.read(&st.normed);
                for (row, _) in chunk {
                    rows.extend_from_slice(&all[row * hidden..][..hidden]);
                }
            }
            b.write(&rows, &mut way.rows);
            let head = &self.weights.head;
            self.linear([(head, &mut st.logits)], 0, &way.rows, chunk.len(), &mut st.work);
            if let Some(cap) = self.spec.logit_softcap {
                b.softcap(&mut st.logits, cap);
            }
            each(self, st, way, chunk);
        }
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
            .map(|t| &mut t.grad);
        let norm = self.active.norm(site, base);
        self.backend.rms_norm_back(x, norm, self.spec.norm_eps, dy, dx, dw);
    }

    /// The gradient by what a branch added to the residual stream: through the norm behind it, if there is one.
    fn added_back(
        &self,
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
                let len = self.backend.read(dx).len();
                self.backend.zeros(d_raw, len);
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
            map,
        );
        b.resize(&mut way.d_gate, m * spec.ffn_size);
        b.resize(&mut way.d_up, m * spec.ffn_size);
        b.gated_back(spec.act, &tape.gate, &st.up, &way.dh, &mut way.d_gate, &mut way.d_up);
        b.zeros(&mut way.d_normed, m * spec.hidden_size);
        for (linear, dy) in [(&layer.gate, &mut way.d_gate), (&layer.up, &mut way.d_up)] {
            self.map_back(linear, index, &st.normed, m, dy, &mut way.d_normed, trained, map);
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
        m: usize,
        trained: &mut Trained<B>,
        way: &mut Way<B>,
    ) {
        let (b, spec) = (self.backend, self.spec);
        let layer = self.layer_of(index);
        let site = |part| Site::Layer(index, part);
        self.added_back(
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
            &mut way.map,
        );
        let kv = &st.kv[index];
        let facts = self.attention_facts(index, kv.capacity, 0);
        b.resize(&mut way.dq, m * spec.q_width());
        b.resize(&mut way.dk, m * spec.kv_width());
        b.resize(&mut way.dv, m * spec.kv_width());
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
        let rope = if self.has_local_rope(index) {
            &st.rope_local
        } else {
            &st.rope
        };
        b.rope_back(&mut way.dq, 0, spec.n_heads, spec.head_dim, rope);
        b.rope_back(&mut way.dk, 0, spec.n_kv_heads, spec.head_dim, rope);
        let norms = [
            (&layer.q_norm, Part::QNorm, &tape.q_raw, &mut way.dq),
            (&layer.k_norm, Part::KNorm, &tape.k_raw, &mut way.dk),
        ];
        for (norm, part, raw, d) in norms {
            if let Some(norm) = norm {
                let len = b.read(d).len();
                b.zeros(&mut way.d_raw, len);
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
            let (dx, map) = (&mut way.d_normed, &mut way.map);
            self.map_back(linear, index, &tape.attn_normed, m, dy, dx, trained, map);
        }
        self.norm_back(
            site(Part::AttnNorm),
            &layer.attn_norm,
            &way.inputs[index],
            &way.d_normed,
            &mut way.dx,
            trained,
        );
    }

    fn layer_of(&self, index: usize) -> &Layer<B> {
        &self.weights.layers[self.active.layers[index]]
    }

    /// Back through a linear map of the `m` rows x under its adapter: dx +=; dy is changed.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    fn map_back(
        &self,
        linear: &Linear<B>,
        index: usize,
        x: &B::Buf,
        m: usize,
        dy: &mut B::Buf,
        dx: &mut B::Buf,
        trained: &mut Trained<B>,
        way: &mut MapWay<B>,
    ) {
        let b = self.backend;
        let site = match linear.site {
            Site::Layer(_, part) => Site::Layer(index, part),
            site => site,
        };
        let program = self.active.program(site);
        let weight = program.weight.as_deref().unwrap_or(&linear.weight);
        let (forms, precision) = (trained.at(site), way.precision);
        if forms.iter().all(TrainedForm::is_sum) {
            for form in forms.iter_mut() {
                sum_back(b, form, x, m, dy, dx, way);
            }
            return b.matmul_back(weight, dy, dx, precision);
        }
        // One factor before the map, or one behind it.
        let before = forms.iter().position(|f| matches!(f.form, Form::InScale(_)));
        if let Some(at) = before {
            b.copy(x, &mut way.changed);
            b.scale_columns(&mut way.changed, &forms[at].tensors[0].values);
        }
        let input = if before.is_some() { &way.changed } else { x };
        let behind = forms
            .iter()
            .position(|f| matches!(f.form, Form::OutScale(_) | Form::Dora(..)));
        if let Some(at) = behind {
            b.pack(input, linear.cols, [weight], false, precision, &mut way.acts);
            b.resize(&mut way.y, m * linear.rows);
            b.matmul([(weight, &mut way.y)], &way.acts, precision);
            let form = &mut forms[at];
            if let Form::Dora(l, _) = &form.form {
                // Its factors m / n are those of y without the bias; the norms n count as constants, as in PEFT.
                let scale = l.scale;
                let l = l.clone();
                add_low_rank(b, form, &l, scale, x, m, way);
                self.magnitudes_back(form, site, dy, way);
                low_rank_back(b, form, &l, x, m, dy, dx, way);
            } else {
                if let Some(bias) = program.bias.as_deref().or(linear.bias.as_ref()) {
                    b.add_bias(&mut way.y, bias, 1.0);
                }
                let Tensor { values, grad, .. } = &mut form.tensors[0];
                b.affine_back(&way.y, dy, grad);
                b.scale_columns(dy, values);
            }
        }
        for form in forms.iter_mut().filter(|f| f.is_sum()) {
            sum_back(b, form, x, m, dy, dx, way);
        }
        match before {
            None => b.matmul_back(weight, dy, dx, precision),
            Some(at) => {
                b.zeros(&mut way.d_changed, m * linear.cols);
                b.matmul_back(weight, dy, &mut way.d_changed, precision);
                let Tensor { values, grad, .. } = &mut forms[at].tensors[0];
                b.affine_back(x, &way.d_changed, grad);
                b.scale_columns(&mut way.d_changed, values);
                b.add(dx, &way.d_changed);
            }
        }
    }

    /// The gradient of DoRA's magnitudes, of y = m / n ⊙ v with v in `way`; dy becomes that of v.
    fn magnitudes_back(&self, form: &mut TrainedForm<B>, site: Site, dy: &mut B::Buf, way: &mut MapWay<B>) {
        let b = self.backend;
        let Some((factors, _)) = self.active.program(site).outs().0 else {
            unreachable!("DoRA without its factors")
        };
        let factors = b.read_vector(factors).into_owned();
        let Some(magnitude) = form.tensors.iter_mut().find(|t| t.role == Role::Magnitude) else {
            unreachable!("DoRA without its magnitudes")
        };
        b.zeros(&mut way.scaled, factors.len());
        b.affine_back(&way.y, dy, &mut way.scaled);
        let mut grad = b.read(&magnitude.grad).into_owned();
        for (((grad, sum), f), m) in grad
            .iter_mut()
            .zip(b.read(&way.scaled).iter())
            .zip(&factors)
            .zip(b.read(&magnitude.values).iter())
        {
            *grad += if *m == 0.0 { 0.0 } else { sum * f / m };
        }
        b.write(&grad, &mut magnitude.grad);
        b.write(&factors, &mut way.scaled);
        b.scale_columns(dy, &way.scaled);
    }
}

/// Back through a form that adds to its module's output.
fn sum_back<B: Backprop>(
    b: &B,
    form: &mut TrainedForm<B>,
    x: &B::Buf,
    m: usize,
    dy: &mut B::Buf,
    dx: &mut B::Buf,
    way: &mut MapWay<B>,
) {
    match &form.form {
        Form::LowRank(l) => {
            let l = l.clone();
            low_rank_back(b, form, &l, x, m, dy, dx, way);
        }
        Form::OutBias(_) | Form::Bias(_) => b.sum_rows(dy, &mut form.tensors[0].grad),
        Form::Weight(w, _) => {
            let cols = w.cols();
            b.multiply(dy, true, m, x, cols, &mut form.tensors[0].grad, true);
        }
        _ => unreachable!("no sum"),
    }
}

/// way.y += scale out ⊙ B (mid ⊙ (A x)).
fn add_low_rank<B: Backprop>(
    b: &B,
    form: &TrainedForm<B>,
    l: &LowRank,
    scale: f32,
    x: &B::Buf,
    m: usize,
    way: &mut MapWay<B>,
) {
    inner(b, form, l, x, m, way);
    b.scale(&mut way.scaled, scale);
    // y += u B^T: B turned is what a product reads.
    let (rank, out) = (l.rank(), l.b.rows());
    let turned = l.b.transposed().to_f32();
    let mut b_turned = B::Buf::default();
    b.write(&turned, &mut b_turned);
    match form.tensor(Role::Out) {
        None => b.multiply(&way.scaled, false, rank, &b_turned, out, &mut way.y, true),
        Some(factors) => {
            let mut update = B::Buf::default();
            b.zeros(&mut update, m * out);
            b.multiply(&way.scaled, false, rank, &b_turned, out, &mut update, false);
            b.scale_columns(&mut update, &factors.values);
            b.add(&mut way.y, &update);
        }
    }
}

/// way.u = A x and way.scaled = mid ⊙ (A x).
fn inner<B: Backprop>(b: &B, form: &TrainedForm<B>, l: &LowRank, x: &B::Buf, m: usize, way: &mut MapWay<B>) {
    let rank = l.rank();
    b.resize(&mut way.u, m * rank);
    b.multiply(x, false, l.a.cols(), &form.turned, rank, &mut way.u, false);
    b.copy(&way.u, &mut way.scaled);
    if let Some(mid) = form.tensor(Role::Mid) {
        b.scale_columns(&mut way.scaled, &mid.values);
    }
}

/// Back through y += scale out ⊙ B (mid ⊙ (A x)).
#[allow(clippy::too_many_arguments)] // those of the operation and their gradients
fn low_rank_back<B: Backprop>(
    b: &B,
    form: &mut TrainedForm<B>,
    l: &LowRank,
    x: &B::Buf,
    m: usize,
    dy: &B::Buf,
    dx: &mut B::Buf,
    way: &mut MapWay<B>,
) {
    let (rank, cols, out) = (l.rank(), l.a.cols(), l.b.rows());
    inner(b, form, l, x, m, way);
    let mut behind = None;
    if let Some(at) = form.tensors.iter().position(|t| t.role == Role::Out) {
        // By the factors behind: scale times what B gives.
        let mut update = B::Buf::default();
        let mut b_turned = B::Buf::default();
        b.write(&l.b.transposed().to_f32(), &mut b_turned);
        b.zeros(&mut update, m * out);
        b.multiply(&way.scaled, false, rank, &b_turned, out, &mut update, false);
        b.scale(&mut update, l.scale);
        let Tensor { values, grad, .. } = &mut form.tensors[at];
        b.affine_back(&update, dy, grad);
        b.copy(dy, &mut update);
        b.scale_columns(&mut update, values);
        behind = Some(update);
    }
    let dy = behind.as_ref().unwrap_or(dy);
    let of = |role| form.tensors.iter().position(|t| t.role == role);
    let (Some(a_at), Some(b_at), mid_at) = (of(Role::A), of(Role::B), of(Role::Mid)) else {
        unreachable!("a low-rank update without its factors")
    };
    // dB += scale dy^T (mid ⊙ A x).
    b.scale(&mut way.scaled, l.scale);
    b.multiply(dy, true, m, &way.scaled, rank, &mut form.tensors[b_at].grad, true);
    // By mid ⊙ A x.
    b.resize(&mut way.du, m * rank);
    b.multiply(dy, false, out, &form.tensors[b_at].values, rank, &mut way.du, false);
    b.scale(&mut way.du, l.scale);
    if let Some(mid_at) = mid_at {
        let Tensor { values, grad, .. } = &mut form.tensors[mid_at];
        b.affine_back(&way.u, &way.du, grad);
        b.scale_columns(&mut way.du, values);
    }
    // dA += du^T x, dx += du A.
    let Tensor { values, grad, .. } = &mut form.tensors[a_at];
    b.multiply(&way.du, true, m, x, cols, grad, true);
    b.multiply(&way.du, false, rank, values, cols, dx, true);
}

/// Adds row i of `rows` to row `targets[i].0` of `to`.
fn scatter<B: Backprop>(b: &B, rows: &B::Buf, targets: Targets, width: usize, to: &mut B::Buf) {
    let mut all = b.read(to).into_owned();
    for ((row, _), d) in targets.iter().zip(b.read(rows).chunks_exact(width)) {
        all[row * width..][..width].iter_mut().zip(d).for_each(|(a, d)| *a += d);
    }
    b.write(&all, to);
}
