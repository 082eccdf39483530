//! The only forward pass.
//!
//! `m` tokens enter at position `pos`; their K and V join the cache; the residual stream `x` (`[m][hidden_size]`) runs
//! through the layers. Read [`Pass::forward`] top to bottom.

use std::borrow::Cow;

use crate::adapter::Active;
use crate::adapter::active::Program;
use crate::adapter::attach::PrefixOn;
use crate::adapter::device::{Action, Step};
use crate::error::Result;
use crate::kernels::cpu::Attention;

use super::backend::{Backend, Epilogue};
use super::dropout::Dropout;
use super::sites::{Part, Site};
use super::spec::Spec;
use super::state::{State, Work, kept_attention};
use super::weights::{Layer, Linear, Weights};

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
    /// For each gate of theirs the first row of the pass that it lets through.
    pub gates: &'a [usize],
}

impl<B: Backend> Pass<'_, B> {
    /// Runs `tokens` (ids below the vocabulary size, no more than the state's chunk) at positions `pos` on and leaves
    /// their final hidden states, normed, in the state for [`Pass::logits`].
    pub fn forward(&self, st: &mut State<B>, tokens: &[u32], pos: usize) {
        self.embed(st, tokens);
        self.layers(st, tokens.len(), pos);
    }

    /// Puts what the active prefix has at its positions `first..first + m` into the cache.
    pub fn prefix(&self, st: &mut State<B>, first: usize, m: usize) {
        let b = self.backend;
        match self.active.prefix() {
            None => {}
            Some((_, PrefixOn::Embeddings(rows))) => {
                b.copy_rows(rows, self.spec.hidden_size, first, m, &mut st.x);
                self.layers(st, m, first);
            }
            Some((_, PrefixOn::KeysAndValues(layers))) => {
                let width = self.spec.kv_width();
                for ((keys, values), kv) in layers.iter().zip(&mut st.kv) {
                    for (rows, ring) in [(keys, &mut kv.k), (values, &mut kv.v)] {
                        b.copy_rows(rows, width, first, m, &mut st.rows);
                        b.kv_write(&st.rows, width, first, kv.capacity, ring);
                    }
                }
            }
        }
    }

    /// x = the tokens' embeddings.
    pub(super) fn embed(&self, st: &mut State<B>, tokens: &[u32]) {
        let (b, spec, program) = (self.backend, self.spec, self.active.program(Site::Embed));
        b.resize(&mut st.x, tokens.len() * spec.hidden_size);
        let table = program.weight.as_deref().unwrap_or(&self.weights.embed);
        if program.levels.is_empty() {
            return b.embed(table, tokens, spec.embed_scale, &mut st.x);
        }
        b.embed(table, tokens, 1.0, &mut st.x);
        for step in program.levels.iter().rev().flat_map(|level| &level.outs) {
            step.on_embeddings(b, self.from(step), tokens, &mut st.x);
        }
        if spec.embed_scale != 1.0 {
            b.scale(&mut st.x, spec.embed_scale);
        }
    }

    /// Runs the `m` rows x through all layers.
    pub(super) fn layers(&self, st: &mut State<B>, m: usize, pos: usize) {
        self.rope_tables(st, m, pos);
        for index in 0..self.active.layers.len() {
            self.layer(st, index, m, pos);
        }
        self.output_norm(st, m);
    }

    /// The rotations of positions `pos..pos + m`.
    pub(super) fn rope_tables(&self, st: &mut State<B>, m: usize, pos: usize) {
        let (b, spec) = (self.backend, self.spec);
        b.rope_table(&spec.rope, pos, m, &mut st.rope);
        if let Some(local) = &spec.rope_local {
            b.rope_table(local, pos, m, &mut st.rope_local);
        }
    }

    /// Runs the `m` rows x through layer `index`.
    pub(super) fn layer(&self, st: &mut State<B>, index: usize, m: usize, pos: usize) {
        let layer = &self.weights.layers[self.active.layers[index]];
        self.attention(st, layer, index, m, pos);
        self.mlp(st, layer, index, m);
    }

    /// The final hidden states of the `m` rows x.
    pub(super) fn output_norm(&self, st: &mut State<B>, m: usize) {
        let (b, spec) = (self.backend, self.spec);
        b.resize(&mut st.normed, m * spec.hidden_size);
        let norm = self.active.norm(Site::OutputNorm, &self.weights.output_norm);
        b.rms_norm(&st.x, norm, spec.norm_eps, &mut st.normed);
    }

    /// The hidden states `[m][hidden_size]`, normed, of the last [`Pass::forward`].
    ///
    /// # Errors
    /// What the device says ([`Backend::check`]).
    pub fn hidden<'s>(&self, st: &'s State<B>) -> Result<Cow<'s, [f32]>> {
        let hidden = self.backend.read(&st.normed);
        self.backend.check().map(|()| hidden)
    }

    /// Logits `[n][vocab]` of rows `first..first + n` of the last [`Pass::forward`].
    ///
    /// # Errors
    /// What the device says ([`Backend::check`]).
    pub fn logits<'s>(&self, st: &'s mut State<B>, first: usize, n: usize) -> Result<Cow<'s, [f32]>> {
        self.head(st, first, n);
        let logits = st.logits(self.backend);
        self.backend.check().map(|()| logits)
    }

    /// The same, which stay where they are: [`State::logits`] reads them.
    pub fn head(&self, st: &mut State<B>, first: usize, n: usize) {
        let (b, spec) = (self.backend, self.spec);
        b.copy_rows(&st.normed, spec.hidden_size, first, n, &mut st.rows);
        let head = &self.weights.head;
        self.linear([(head, &mut st.logits)], 0, &st.rows, n, &mut st.work);
        if let Some(cap) = spec.logit_softcap {
            b.softcap(&mut st.logits, cap);
        }
    }

    /// x += post_norm(O attention(rope(norm(Q h)), rope(norm(K h)), V h)), h = norm(x)
    fn attention(&self, st: &mut State<B>, layer: &Layer<B>, index: usize, m: usize, pos: usize) {
        let (b, spec) = (self.backend, self.spec);
        let to = [(&layer.q, &mut st.q), (&layer.k, &mut st.k), (&layer.v, &mut st.v)];
        self.normed_linear(
            to,
            index,
            self.norm(index, Part::AttnNorm, &layer.attn_norm),
            &st.x,
            &mut st.normed,
            m,
            &mut st.work,
        );
        if let Some(tape) = &mut st.tape {
            b.copy(&st.normed, &mut tape.attn_normed);
        }
        if let Some((kept, capacity)) = kept_attention(&mut st.keep, index) {
            b.kv_write(&st.q, spec.q_width(), 0, capacity, &mut kept.q);
            if let Some(k) = &mut kept.k {
                b.kv_write(&st.k, spec.kv_width(), 0, capacity, k);
            }
        }
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            if let Some(tape) = &mut st.tape {
                b.copy(&st.q, &mut tape.q_raw);
                b.copy(&st.k, &mut tape.k_raw);
            }
            b.rms_norm_inplace(&mut st.q, self.norm(index, Part::QNorm, q_norm), spec.norm_eps);
            b.rms_norm_inplace(&mut st.k, self.norm(index, Part::KNorm, k_norm), spec.norm_eps);
        }
        let rope = self.rope_of(index, &st.rope, &st.rope_local);
        b.rope(&mut st.q, spec.n_heads, spec.head_dim, rope);
        b.rope(&mut st.k, spec.n_kv_heads, spec.head_dim, rope);
        let kv = &mut st.kv[index];
        b.kv_write(&st.k, spec.kv_width(), pos, kv.capacity, &mut kv.k);
        b.kv_write(&st.v, spec.kv_width(), pos, kv.capacity, &mut kv.v);
        let facts = self.attention_facts(index, kv.capacity, pos);
        b.resize(&mut st.attended, m * spec.q_width());
        b.attention(&facts, &st.q, &kv.k, &kv.v, &mut st.attended);
        self.linear([(&layer.o, &mut st.projected)], index, &st.attended, m, &mut st.work);
        if let Some((kept, capacity)) = kept_attention(&mut st.keep, index) {
            b.kv_write(&st.attended, spec.q_width(), 0, capacity, &mut kept.attended);
            b.kv_write(&st.projected, spec.hidden_size, 0, capacity, &mut kept.attn_out);
        }
        self.add_attended(st, layer, index);
    }

    /// x += post_norm(what is projected).
    pub(super) fn add_attended(&self, st: &mut State<B>, layer: &Layer<B>, index: usize) {
        let (b, spec) = (self.backend, self.spec);
        if let Some(norm) = &layer.attn_post_norm {
            if let Some(tape) = &mut st.tape {
                b.copy(&st.projected, &mut tape.attn_out);
            }
            b.rms_norm_inplace(
                &mut st.projected,
                self.norm(index, Part::AttnPostNorm, norm),
                spec.norm_eps,
            );
        }
        b.add(&mut st.x, &st.projected);
        if let Some(tape) = &mut st.tape {
            b.copy(&st.x, &mut tape.mid);
        }
    }

    /// The rotations of layer `index`: those of all, or those of local attention.
    pub(super) fn rope_of<'r>(
        &self,
        index: usize,
        rope: &'r B::RopeTable,
        local: &'r B::RopeTable,
    ) -> &'r B::RopeTable {
        match (&self.spec.rope_local, self.spec.windows[self.active.layers[index]]) {
            (Some(_), Some(_)) => local,
            _ => rope,
        }
    }

    /// The facts of attention in layer `index`, for queries from `pos` on.
    pub(super) fn attention_facts(&self, index: usize, capacity: usize, pos: usize) -> Attention {
        let window = self.spec.windows[self.active.layers[index]];
        self.spec.attention(window, capacity, pos)
    }

    /// x += post_norm(down(act(gate h) * up h)), h = norm(x)
    pub(super) fn mlp(&self, st: &mut State<B>, layer: &Layer<B>, index: usize, m: usize) {
        let (b, spec) = (self.backend, self.spec);
        let to = [(&layer.gate, &mut st.gate), (&layer.up, &mut st.up)];
        self.normed_linear(
            to,
            index,
            self.norm(index, Part::FfnNorm, &layer.ffn_norm),
            &st.x,
            &mut st.normed,
            m,
            &mut st.work,
        );
        if let Some(tape) = &mut st.tape {
            b.copy(&st.gate, &mut tape.gate);
            if layer.ffn_post_norm.is_none() {
                // Nobody asks for what comes out.
                return b.gated(spec.act, &mut st.gate, &st.up);
            }
        }
        b.gated(spec.act, &mut st.gate, &st.up);
        self.linear([(&layer.down, &mut st.projected)], index, &st.gate, m, &mut st.work);
        if let Some(norm) = &layer.ffn_post_norm {
            if let Some(tape) = &mut st.tape {
                return b.copy(&st.projected, &mut tape.mlp_out);
            }
            b.rms_norm_inplace(
                &mut st.projected,
                self.norm(index, Part::FfnPostNorm, norm),
                spec.norm_eps,
            );
        }
        b.add(&mut st.x, &st.projected);
    }

    /// A norm's weights in layer `index`, whose base has `base`.
    pub(super) fn norm<'s>(&'s self, index: usize, part: Part, base: &'s B::Vector) -> &'s B::Vector {
        self.active.norm(Site::Layer(index, part), base)
    }

    /// [`linear`](Self::linear) maps of `normed` = norm(x).
    #[allow(clippy::too_many_arguments)] // those of two operations
    fn normed_linear<const N: usize>(
        &self,
        to: [(&Linear<B>, &mut B::Buf); N],
        index: usize,
        norm: &B::Vector,
        x: &B::Buf,
        normed: &mut B::Buf,
        m: usize,
        work: &mut Work<B>,
    ) {
        let (b, spec) = (self.backend, self.spec);
        b.resize(normed, m * spec.hidden_size);
        let maps = to.map(|(linear, y)| self.map(linear, index, y));
        let weights = maps.each_ref().map(|map| map.weight);
        let updates = maps.iter().any(|map| !map.program.updates.is_empty());
        b.norm_pack(
            x,
            norm,
            spec.norm_eps,
            normed,
            weights,
            updates,
            work.precision,
            &mut work.acts,
        );
        self.packed_linear(maps, normed, m, work);
    }

    /// Linear maps `to`, of layer `index`, of the `m` rows x.
    pub(super) fn linear<const N: usize>(
        &self,
        to: [(&Linear<B>, &mut B::Buf); N],
        index: usize,
        x: &B::Buf,
        m: usize,
        work: &mut Work<B>,
    ) {
        let maps = to.map(|(linear, y)| self.map(linear, index, y));
        let weights = maps.each_ref().map(|map| map.weight);
        let updates = maps.iter().any(|map| !map.program.updates.is_empty());
        let (b, cols, precision) = (self.backend, maps[0].cols, work.precision);
        if maps.iter().all(|map| map.program.changes_input()) {
            // Each packs what it makes of x.
            b.pack(x, cols, [], false, precision, &mut work.acts);
        } else {
            b.pack(x, cols, weights, updates, precision, &mut work.acts);
        }
        self.packed_linear(maps, x, m, work);
    }

    /// What a linear map of layer `index` is under the active adapters.
    pub(super) fn map<'s>(&'s self, linear: &'s Linear<B>, index: usize, y: &'s mut B::Buf) -> Map<'s, B> {
        let program = self.active.program(linear.site.in_layer(index));
        Map {
            site: linear.site,
            place: linear.site.in_layer(index),
            weight: program.weight.as_deref().unwrap_or(&linear.weight),
            bias: program.bias.as_deref().or(linear.bias.as_ref()),
            rows: match linear.site {
                Site::Head => self.active.vocab.1,
                _ => linear.rows,
            },
            cols: linear.cols,
            program,
            y,
        }
    }

    /// The one seam where adapters meet the model: y = x w^T + bias, and the adapters' operations, for all maps of x, which is packed in
    /// `work`.
    fn packed_linear<const N: usize>(&self, mut maps: [Map<B>; N], x: &B::Buf, m: usize, work: &mut Work<B>) {
        let b = self.backend;
        for map in &mut maps {
            b.resize(map.y, m * map.rows);
        }
        if let Some(moments) = &mut work.moments {
            moments.add(maps.each_ref().map(|map| map.site), &b.read(x), maps[0].cols);
        }
        let mut acts = std::mem::take(&mut work.acts);
        if maps.iter().all(|map| map.program.keeps_input()) {
            // An input that loses numbers is another for each map: its updates come behind the products.
            let apart = work.dropout.is_some();
            let epilogues = maps.each_ref().map(|map| Epilogue {
                updates: if apart { &[] } else { &map.program.updates },
                bias: map.bias,
                affine: map.program.outs().0.filter(|_| !apart),
            });
            let next = &maps[0].program.next[..];
            let to = maps.each_mut().map(|map| (map.weight, &mut *map.y));
            b.linear(to, &acts, work.precision, epilogues, self.gates, next);
            for map in &mut maps {
                if let Some(dropout) = work.dropout {
                    self.dropped_updates(map, x, &dropout.at(map.place), work);
                }
                for step in map.program.outs().1 {
                    self.output(step, x, &mut acts, map.y, work);
                }
            }
        } else {
            for map in &mut maps {
                self.nested(map, 0, x, &mut acts, work);
            }
        }
        work.acts = acts;
    }

    /// The updates of a map, of x that loses numbers, and the factors behind them.
    fn dropped_updates(&self, map: &mut Map<B>, x: &B::Buf, dropout: &Dropout, work: &mut Work<B>) {
        let b = self.backend;
        if !map.program.updates.is_empty() {
            b.copy(x, &mut work.dropped);
            b.drop_out(&mut work.dropped, map.cols, dropout);
        }
        for update in &map.program.updates {
            let from = update.gate.map_or(0, |gate| self.gates[gate]);
            b.low_rank(
                &update.low_rank,
                update.scale,
                from,
                work.precision,
                &work.dropped,
                map.y,
            );
        }
        if let Some(affine) = map.program.outs().0 {
            b.affine(map.y, affine);
        }
    }

    /// The map without its levels outside of `level`, of x, which is packed in `acts`.
    fn nested(&self, map: &mut Map<B>, level: usize, x: &B::Buf, acts: &mut B::Acts, work: &mut Work<B>) {
        let b = self.backend;
        let Some(here) = map.program.levels.get(level) else {
            // Updates belong to programs that leave the input alone: this is their map, beside others that don't.
            let epilogue = Epilogue {
                updates: &map.program.updates,
                bias: map.bias,
                affine: None,
            };
            b.linear(
                [(map.weight, &mut *map.y)],
                acts,
                work.precision,
                [epilogue],
                self.gates,
                &[],
            );
            return;
        };
        if here.ins.is_empty() {
            self.nested(map, level + 1, x, acts, work);
        } else {
            let (mut changed, mut packed) = work.changed.pop().unwrap_or_default();
            if let [Step { action, .. }] = &here.ins[..]
                && let Action::Affine(affine) = &**action
                && level + 1 == map.program.levels.len()
            {
                // Nobody else sees the changed input.
                b.affine_pack(x, affine, [map.weight], work.precision, &mut packed);
            } else {
                b.copy(x, &mut changed);
                for step in &here.ins {
                    self.input(step, &mut changed, work);
                }
                b.pack(&changed, map.cols, [map.weight], false, work.precision, &mut packed);
            }
            self.nested(map, level + 1, &changed, &mut packed, work);
            work.changed.push((changed, packed));
        }
        for step in &here.outs {
            self.output(step, x, acts, map.y, work);
        }
    }

    /// The first row of the pass that `step` changes.
    fn from(&self, step: &Step<B>) -> usize {
        step.gate.map_or(0, |gate| self.gates[gate])
    }

    /// An operation on rows x.
    pub(super) fn input(&self, step: &Step<B>, x: &mut B::Buf, work: &mut Work<B>) {
        let b = self.backend;
        match &*step.action {
            Action::Affine(affine) => b.affine(x, affine),
            Action::Blocks(blocks) => b.blocks(x, blocks),
            Action::LowRank(l) => {
                b.copy(x, &mut work.before);
                b.low_rank(l, step.scale, 0, work.precision, &work.before, x);
            }
            _ => unreachable!("an operation that `attach` does not put on an input"),
        }
    }

    /// An operation on the rows y of a map of x, which is packed in `acts`.
    pub(super) fn output(&self, step: &Step<B>, x: &B::Buf, acts: &mut B::Acts, y: &mut B::Buf, work: &mut Work<B>) {
        let b = self.backend;
        if matches!(*step.action, Action::Dense(_) | Action::Rows(..)) {
            b.pack_f32(x, acts);
        }
        match &*step.action {
            Action::LowRank(l) => b.low_rank(l, step.scale, self.from(step), work.precision, x, y),
            Action::Dense(d) => b.dense(d, step.scale, acts, y),
            Action::Kron(w1, w2) => b.kron(w1, w2, step.scale, x, &mut work.between, y),
            Action::Affine(affine) => b.affine(y, affine),
            Action::Bias(bias) => b.add_bias(y, bias, step.scale),
            Action::Pairs(pairs) => b.pairs(y, pairs),
            Action::Blocks(blocks) => b.blocks(y, blocks),
            Action::Rows(ids, rows) => b.replace_products(rows, ids, acts, y),
            Action::Gather(_) => unreachable!("an operation of the embedding"),
        }
    }
}

/// A linear map under the active adapters.
pub(super) struct Map<'a, B: Backend> {
    /// That of the base's module.
    pub(super) site: Site,
    /// Where it runs: a layer may run several times.
    place: Site,
    pub(super) weight: &'a B::Weight,
    pub(super) bias: Option<&'a B::Vector>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) program: &'a Program<B>,
    pub(super) y: &'a mut B::Buf,
}
