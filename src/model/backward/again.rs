//! A layer run again, for what its way back reads.

use crate::model::backprop::Backprop;
use crate::model::decoder::Pass;
use crate::model::sites::Part;
use crate::model::state::{LOUD, State};

use super::Way;
use super::prefix::Run;

impl<B: Backprop> Pass<'_, B> {
    /// Leaves in `st` and on its tape what layer `index` made of its input, with what was kept of its attention if anything was.
    pub(super) fn again(&self, st: &mut State<B>, index: usize, run: Run, way: &mut Way<B>) {
        let (b, spec) = (self.backend, self.spec);
        b.kv_read(&way.kept[index].input, run.m * spec.hidden_size, &mut way.input);
        b.scale(&mut way.input, LOUD);
        b.copy(&way.input, &mut st.x);
        let Some(kept) = &way.kept[index].attention else {
            return self.layer(st, index, run.m, run.pos);
        };
        let layer = self.layer_of(index);
        let Some(tape) = &mut st.tape else {
            unreachable!("a layer runs again for its tape")
        };
        b.resize(&mut tape.attn_normed, run.m * spec.hidden_size);
        let norm = self.norm(index, Part::AttnNorm, &layer.attn_norm);
        b.rms_norm(&st.x, norm, spec.norm_eps, &mut tape.attn_normed);
        b.kv_read(&kept.q, run.m * spec.q_width(), &mut st.q);
        if let (Some(norm), Some(k)) = (&layer.q_norm, &kept.k) {
            b.copy(&st.q, &mut tape.q_raw);
            b.kv_read(k, run.m * spec.kv_width(), &mut tape.k_raw);
            b.rms_norm_inplace(&mut st.q, self.norm(index, Part::QNorm, norm), spec.norm_eps);
        }
        let rope = self.rope_of(index, &st.rope, &st.rope_local);
        b.rope(&mut st.q, spec.n_heads, spec.head_dim, rope);
        b.kv_read(&kept.attended, run.m * spec.q_width(), &mut st.attended);
        b.kv_read(&kept.attn_out, run.m * spec.hidden_size, &mut st.projected);
        self.add_attended(st, layer, index);
        self.mlp(st, layer, index, run.m);
    }
}
