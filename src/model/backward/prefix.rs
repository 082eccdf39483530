//! What stands before the text: rows that run with it, or keys and values in the cache.

use crate::adapter::attach::PrefixOn;
use crate::adapter::trained::{Trained, TrainedPrefix};
use crate::model::backprop::Backprop;
use crate::model::decoder::Pass;
use crate::model::state::State;

use super::Way;

/// The rows of a pass over a whole text.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// How many.
    pub m: usize,
    /// The position of the first.
    pub pos: usize,
    /// How many stand before the text.
    pub text: usize,
}

impl<B: Backprop> Pass<'_, B> {
    /// x = the text's embeddings, and before them what the adapter has there.
    pub(super) fn begin(&self, st: &mut State<B>, tokens: &[u32]) -> Run {
        let b = self.backend;
        let mut run = Run {
            m: tokens.len(),
            pos: 0,
            text: 0,
        };
        match self.active.prefix() {
            None => self.embed(st, tokens),
            Some((n, PrefixOn::KeysAndValues(_))) => {
                self.prefix(st, 0, n);
                self.embed(st, tokens);
                run.pos = n;
            }
            Some((n, PrefixOn::Embeddings(rows))) => {
                self.embed(st, tokens);
                let mut all = b.read(rows).into_owned();
                all.extend_from_slice(&b.read(&st.x));
                b.write(&all, &mut st.x);
                run = Run {
                    m: n + tokens.len(),
                    text: n,
                    ..run
                };
            }
        }
        run
    }

    /// Of what [`Pass::begin`] made of `tokens`: by x is `dx`.
    pub(super) fn begin_back(&self, run: Run, tokens: &[u32], trained: &mut Trained<B>, way: &mut Way<B>) {
        let (b, hidden) = (self.backend, self.spec.hidden_size);
        if let TrainedPrefix::Embeddings(grad) = &mut trained.prefix {
            b.copy_rows(&way.dx, hidden, 0, run.text, &mut way.d_raw);
            b.add(grad, &way.d_raw);
        }
        let mut dx = std::mem::take(&mut way.d_rows);
        b.copy_rows(&way.dx, hidden, run.text, tokens.len(), &mut dx);
        self.embed_back(tokens, &mut dx, trained, way);
        way.d_rows = dx;
    }

    /// Of dk and dv of layer `index`, which are of all positions, those before the text: they stay there. The others are left.
    pub(super) fn cached_back(&self, run: Run, index: usize, trained: &mut Trained<B>, way: &mut Way<B>) {
        let (TrainedPrefix::KeysAndValues(layers), true) = (&mut trained.prefix, run.pos > 0) else {
            return;
        };
        let (b, width) = (self.backend, self.spec.kv_width());
        for (d, grad) in [&mut way.dk, &mut way.dv].into_iter().zip(&mut layers[index]) {
            b.copy_rows(d, width, 0, run.pos, &mut way.d_raw);
            b.add(grad, &way.d_raw);
            b.copy_rows(d, width, run.pos, run.m, &mut way.d_raw);
            std::mem::swap(d, &mut way.d_raw);
        }
    }
}
