//! Back through the embedding under its adapter.

use crate::adapter::device::{Action, Step};
use crate::adapter::forms::{Form, LowRank};
use crate::adapter::trained::{Role, Tensor, Trained, TrainedForm};
use crate::model::backprop::Backprop;
use crate::model::decoder::Pass;
use crate::model::sites::Site;

use super::Way;
use super::forms::{Room, factors_back, magnitudes_back};
use super::map::{by_form, run_again};

/// The tokens that were looked up.
struct Looked<'a> {
    tokens: &'a [u32],
    /// See [`Trained::padding`].
    padding: Option<u32>,
    /// The first that updates change.
    from: usize,
}

impl Looked<'_> {
    /// (row, row of the table) of the tokens that learn.
    fn rows(&self) -> Vec<(usize, usize)> {
        self.rows_of(&|token| Some(token as usize))
    }

    /// The same of those for which there is a row.
    fn rows_of(&self, row: &dyn Fn(u32) -> Option<usize>) -> Vec<(usize, usize)> {
        let learns = |token: u32| Some(token) != self.padding;
        let tokens = self.tokens.iter().enumerate().filter(|t| learns(*t.1));
        tokens.filter_map(|(t, token)| Some((t, row(*token)?))).collect()
    }
}

impl<B: Backprop> Pass<'_, B> {
    /// Of the embeddings of `tokens`: by them, as the model scales them, is `dx`, which is changed.
    pub(super) fn embed_back(&self, tokens: &[u32], dx: &mut B::Buf, trained: &mut Trained<B>, way: &mut Way<B>) {
        let (b, hidden) = (self.backend, self.spec.hidden_size);
        let looked = Looked {
            tokens,
            padding: trained.padding,
            from: self.first_updated(tokens.len()),
        };
        let forms = trained.at(Site::Embed);
        if !forms.iter().any(TrainedForm::learns) {
            return;
        }
        if self.spec.embed_scale != 1.0 {
            b.scale(dx, self.spec.embed_scale);
        }
        let program = self.active.program(Site::Embed);
        let outs = program.levels.first().map_or(&[][..], |level| &level.outs);
        let steps = by_form(forms, 0, outs);
        let (before, y, room) = (&mut way.map.before, &mut way.map.y, &mut way.map.room);
        before.resize_with(before.len().max(forms.len()), B::Buf::default);
        if forms.iter().any(TrainedForm::reads_output) {
            let table = program.weight.as_deref().unwrap_or(&self.weights.embed);
            b.resize(y, tokens.len() * hidden);
            b.embed(table, tokens, 1.0, y);
            run_again(b, forms, &steps, y, before, &mut |step, y| {
                step.on_embeddings(b, looked.from, tokens, y);
            });
        }
        for (i, form) in forms.iter_mut().enumerate().rev() {
            let TrainedForm { form, tensors, factors } = form;
            match form {
                Form::LowRank(l) => low_rank_back(b, l, tensors, factors.1.as_ref(), steps[i], &looked, dx, room),
                Form::Dora(l, _) => {
                    let magnitude = tensors.iter_mut().find(|t| t.role == Role::Magnitude);
                    if let Some(magnitude) = magnitude {
                        magnitudes_back(b, magnitude, steps[i], &before[i], dx, room);
                    }
                    low_rank_back(b, l, tensors, factors.1.as_ref(), steps[i], &looked, dx, room);
                }
                Form::OutBlocks(blocks) => b.blocks_back(&before[i], blocks, dx, &mut tensors[0].grad),
                Form::Weight(..) if tensors[0].wanted => {
                    b.scatter_rows(dx, hidden, &looked.rows(), &mut tensors[0].grad);
                }
                Form::Weight(..) => {}
                Form::Rows(ids, _) => {
                    let row = |token: u32| ids.iter().position(|id| *id == token);
                    b.scatter_rows(dx, hidden, &looked.rows_of(&row), &mut tensors[0].grad);
                    // The rows below them are not looked up.
                    let replaced = tokens.iter().enumerate().filter(|t| row(*t.1).is_some());
                    b.zero_rows(dx, hidden, replaced.map(|t| t.0));
                }
                other => unreachable!("{} on an embedding", other.name()),
            }
        }
    }
}

/// Back through y += scale out ⊙ B (mid ⊙ a) for the rows a of A^T that the tokens have.
#[allow(clippy::too_many_arguments)] // those of the operation and their gradients
fn low_rank_back<B: Backprop>(
    b: &B,
    l: &LowRank,
    tensors: &mut [Tensor<B>],
    factor: Option<&B::Factor>,
    steps: &[Step<B>],
    looked: &Looked,
    dy: &B::Buf,
    room: &mut Room<B>,
) {
    let (Some(Action::Gather(on)), Some(factor)) = (steps.first().map(|step| &*step.action), factor) else {
        unreachable!("an update of the embedding without its table")
    };
    let m = looked.tokens.len();
    b.resize(&mut room.u, m * l.rank());
    b.embed(&on.table, looked.tokens, 1.0, &mut room.u);
    factors_back(b, l, tensors, factor, m, looked.from, dy, room);
    if let Some(a) = tensors.iter_mut().find(|t| t.role == Role::A && t.wanted) {
        b.scatter_rows(&room.du, l.rank(), &looked.rows(), &mut a.grad);
    }
}
