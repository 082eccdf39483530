//! Back through a linear map under its adapter.
//!
//! The map is what goes in, changed by some forms; the product; what comes out, changed by others. Where a form's way back reads what the
//! form was given, the map runs again up to there.

use crate::adapter::device::Step;
use crate::adapter::forms::Form;
use crate::adapter::trained::{Trained, TrainedForm};
use crate::model::backend::{Backend, Epilogue};
use crate::model::backprop::Backprop;
use crate::model::decoder::{Map, Pass};
use crate::model::state::Work;
use crate::model::weights::Linear;

use super::forms::{Behind, Room, input_back, output_back};

/// Buffers of a linear map.
pub(super) struct MapWay<B: Backend> {
    /// The input behind each form on it.
    inputs: Vec<B::Buf>,
    /// The output before each form that asks for it.
    pub before: Vec<B::Buf>,
    pub y: B::Buf,
    /// By the input that the matrix multiplies.
    d_input: B::Buf,
    /// The map's input, packed, and what forms made of it.
    acts: B::Acts,
    changed: B::Acts,
    pub room: Room<B>,
}

impl<B: Backend> Default for MapWay<B> {
    fn default() -> Self {
        MapWay {
            inputs: Vec::new(),
            before: Vec::new(),
            y: B::Buf::default(),
            d_input: B::Buf::default(),
            acts: B::Acts::default(),
            changed: B::Acts::default(),
            room: Room::default(),
        }
    }
}

/// The steps of `outs` that are those of each form; the first `skip` steps of the forms are elsewhere.
pub(super) fn by_form<'s, B: Backend>(
    forms: &[TrainedForm<B>],
    mut skip: usize,
    mut outs: &'s [Step<B>],
) -> Vec<&'s [Step<B>]> {
    let of = |form: &TrainedForm<B>| {
        let all = form.output_steps();
        let elsewhere = all.min(skip);
        skip -= elsewhere;
        let (mine, rest) = outs.split_at(all - elsewhere);
        outs = rest;
        mine
    };
    forms.iter().map(of).collect()
}

/// Runs the steps of `forms` on y as far as one of them reads what it is given, and leaves that in `before`.
pub(super) fn run_again<B: Backend>(
    b: &B,
    forms: &[TrainedForm<B>],
    steps: &[&[Step<B>]],
    y: &mut B::Buf,
    before: &mut [B::Buf],
    run: &mut dyn FnMut(&Step<B>, &mut B::Buf),
) {
    let Some(last) = forms.iter().rposition(TrainedForm::reads_output) else {
        return;
    };
    for (i, (form, steps)) in forms.iter().zip(steps).enumerate().take(last + 1) {
        let Some((end, first)) = steps.split_last() else {
            continue;
        };
        first.iter().for_each(|step| run(step, y));
        if form.reads_output() {
            b.copy(y, &mut before[i]);
        }
        if i < last {
            run(end, y);
        }
    }
}

impl<B: Backprop> Pass<'_, B> {
    /// Back through a linear map of the `m` rows x under its adapter: dx +=; dy is changed.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    pub(super) fn map_back(
        &self,
        linear: &Linear<B>,
        index: usize,
        x: &B::Buf,
        m: usize,
        dy: &mut B::Buf,
        dx: &mut B::Buf,
        trained: &mut Trained<B>,
        work: &mut Work<B>,
        way: &mut MapWay<B>,
    ) {
        let (b, precision) = (self.backend, work.precision);
        let MapWay {
            inputs,
            before,
            y,
            d_input,
            acts,
            changed,
            room,
        } = way;
        let Map {
            weight,
            bias,
            rows,
            program,
            y,
            ..
        } = self.map(linear, index, y);
        let forms = trained.at(linear.site.in_layer(index));
        if forms.is_empty() {
            return b.matmul_back(weight, dy, dx, precision);
        }
        // One adapter has one level.
        let (ins, outs) = match program.levels.first() {
            None => (&[][..], &[][..]),
            Some(level) => (&level.ins[..], &level.outs[..]),
        };
        let steps = by_form(forms, program.updates.len(), outs);
        inputs.resize_with(inputs.len().max(ins.len()), B::Buf::default);
        before.resize_with(before.len().max(forms.len()), B::Buf::default);
        // Forward.
        for (i, step) in ins.iter().enumerate() {
            let (done, rest) = inputs.split_at_mut(i);
            b.copy(done.last().unwrap_or(x), &mut rest[0]);
            self.input(step, &mut rest[0], work);
        }
        let given = |i: usize| if i == 0 { x } else { &inputs[i - 1] };
        let input = given(ins.len());
        if forms.iter().any(TrainedForm::reads_output) {
            let updates = &program.updates[..];
            let packed = if ins.is_empty() {
                b.pack(x, linear.cols, [weight], !updates.is_empty(), precision, acts);
                &*acts
            } else {
                b.pack(x, linear.cols, [], false, precision, acts);
                b.pack(input, linear.cols, [weight], false, precision, changed);
                &*changed
            };
            let epilogue = Epilogue {
                updates,
                bias,
                affine: None,
            };
            b.resize(y, m * rows);
            b.linear([(weight, &mut *y)], packed, precision, [epilogue], self.gates, &[]);
            run_again(b, forms, &steps, y, before, &mut |step, y| {
                self.output(step, x, acts, y, work);
            });
        }
        // Back.
        let mut at = Behind {
            x,
            input,
            m,
            cols: linear.cols,
            rows,
            from: self.first_updated(m),
            dropout: work.dropout.map(|d| d.at(linear.site.in_layer(index))),
            bias,
            steps: &[],
        };
        let bias_at = forms.iter().position(|form| matches!(form.form, Form::Bias(_)));
        for i in (0..forms.len()).rev() {
            if forms[i].is_input() {
                continue;
            }
            at.steps = steps[i];
            // What stands in place of the bias goes around a form that leaves it out: it has dy as it is, not as the form makes it.
            let around = bias_at.filter(|_| forms[i].leaves_bias());
            if let Some(bias) = around {
                b.sum_rows(dy, &mut forms[bias].tensors[0].grad);
            }
            output_back(b, &mut forms[i], &at, &mut before[i], dy, dx, room);
            if let Some(bias) = around {
                b.copy(dy, y);
                b.scale(y, -1.0);
                b.sum_rows(y, &mut forms[bias].tensors[0].grad);
            }
        }
        if ins.is_empty() {
            return b.matmul_back(weight, dy, dx, precision);
        }
        b.zeros(d_input, m * linear.cols);
        b.matmul_back(weight, dy, d_input, precision);
        let on_input = forms.iter_mut().filter(|form| form.is_input());
        for (i, form) in on_input.enumerate().collect::<Vec<_>>().into_iter().rev() {
            input_back(b, form, given(i), m, d_input, room);
        }
        b.add(dx, d_input);
    }

    /// The first of `m` rows that the adapter's updates change.
    pub(super) fn first_updated(&self, m: usize) -> usize {
        self.gates.first().map_or(0, |from| *from.min(&m))
    }
}
