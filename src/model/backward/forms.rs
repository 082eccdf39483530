//! Back through one form at a time.

use crate::adapter::device::{Action, Step};
use crate::adapter::forms::{Form, LowRank};
use crate::adapter::trained::{Role, Tensor, TrainedForm};
use crate::model::backend::Backend;
use crate::model::backprop::Backprop;
use crate::model::dropout::Dropout;

/// Buffers of a form.
pub(super) struct Room<B: Backend> {
    /// A x.
    pub u: B::Buf,
    /// What is behind it, and what comes back to it.
    scaled: B::Buf,
    pub du: B::Buf,
    /// A changed dy.
    changed: B::Buf,
    /// The numbers of a factor.
    factor: B::Buf,
    /// An input that lost numbers, and by it.
    dropped: B::Buf,
    d_dropped: B::Buf,
}

impl<B: Backend> Default for Room<B> {
    fn default() -> Self {
        Room {
            u: B::Buf::default(),
            scaled: B::Buf::default(),
            du: B::Buf::default(),
            changed: B::Buf::default(),
            factor: B::Buf::default(),
            dropped: B::Buf::default(),
            d_dropped: B::Buf::default(),
        }
    }
}

/// Where a form on an output stands.
pub(super) struct Behind<'a, B: Backend> {
    /// The module's input: m rows of `cols`.
    pub x: &'a B::Buf,
    /// The same as forms on the input made it: what the matrix multiplied.
    pub input: &'a B::Buf,
    pub m: usize,
    pub cols: usize,
    /// What the module gives, in the order of a row: so many.
    pub rows: usize,
    /// The first row that updates change.
    pub from: usize,
    /// On the input of low-rank updates.
    pub dropout: Option<Dropout>,
    /// What the module's output holds beside the product.
    pub bias: Option<&'a B::Vector>,
    /// The form's last steps.
    pub steps: &'a [Step<B>],
}

/// The numbers and the gradient of what is `role` to a form.
fn tensor<B: Backend>(tensors: &mut [Tensor<B>], role: Role) -> &mut Tensor<B> {
    let found = tensors.iter_mut().find(|t| t.role == role);
    found.unwrap_or_else(|| unreachable!("a form without its {role:?}"))
}

/// Back through a form on the input: `d` is that by what it gave, and becomes that by x, which it was given.
pub(super) fn input_back<B: Backprop>(
    b: &B,
    form: &mut TrainedForm<B>,
    x: &B::Buf,
    m: usize,
    d: &mut B::Buf,
    room: &mut Room<B>,
) {
    let TrainedForm { form, tensors, factors } = form;
    match form {
        Form::InScale(_) => scale_back(b, tensor(tensors, Role::Factors), x, d),
        Form::InBlocks(blocks) => b.blocks_back(x, blocks, d, &mut tensor(tensors, Role::Blocks).grad),
        Form::InLowRank(l) => {
            let mut dy = std::mem::take(&mut room.changed);
            b.copy(d, &mut dy);
            low_rank_back(b, l, tensors, factors, x, m, 0, None, &dy, d, room);
            room.changed = dy;
        }
        _ => unreachable!("no form on an input"),
    }
}

/// Back through a form on the output: dx +=, and dy, by what it gave, becomes that by what it was given, `before` (which is there where
/// [`TrainedForm::reads_output`]; it is changed).
pub(super) fn output_back<B: Backprop>(
    b: &B,
    form: &mut TrainedForm<B>,
    at: &Behind<B>,
    before: &mut B::Buf,
    dy: &mut B::Buf,
    dx: &mut B::Buf,
    room: &mut Room<B>,
) {
    let TrainedForm { form, tensors, factors } = form;
    match form {
        Form::LowRank(l) => low_rank_back(b, l, tensors, factors, at.x, at.m, at.from, at.dropout, dy, dx, room),
        Form::Dora(l, _) => {
            // y = bias + m / n ⊙ v; the norms n count as constants, as in PEFT.
            if let Some(bias) = at.bias {
                b.add_bias(before, bias, -1.0);
            }
            magnitudes_back(b, tensor(tensors, Role::Magnitude), at.steps, before, dy, room);
            low_rank_back(b, l, tensors, factors, at.x, at.m, at.from, at.dropout, dy, dx, room);
        }
        Form::Dense(_, scale) => {
            b.copy(dy, &mut room.changed);
            b.scale(&mut room.changed, *scale);
            let grad = &mut tensor(tensors, Role::Dense).grad;
            b.multiply(&room.changed, true, at.m, at.x, at.cols, grad, true);
            // In f32, whatever the base is in.
            let [Step { action, .. }] = at.steps else {
                unreachable!("an update without its step")
            };
            let Action::Dense(w) = &**action else {
                unreachable!("an update without its matrix")
            };
            b.matmul_back(w, &room.changed, dx, crate::kernels::Precision::Exact);
        }
        Form::Kron(k) => {
            let [w1, w2] = &mut tensors[..] else {
                unreachable!("a product without its factors")
            };
            b.kron_back(k, &w1.values, &w2.values, at.x, dy, dx, &mut w1.grad, &mut w2.grad);
        }
        Form::OutBias(_) | Form::Bias(_) => b.sum_rows(dy, &mut tensor(tensors, Role::Bias).grad),
        Form::Weight(..) => {
            let t = tensor(tensors, Role::Weight);
            if t.wanted {
                b.multiply(dy, true, at.m, at.input, at.cols, &mut t.grad, true);
            }
        }
        Form::Rows(ids, _) => {
            // The products with these rows stand in place of others.
            b.take_columns(dy, at.rows, ids, &mut room.changed);
            let Tensor { values, grad, .. } = tensor(tensors, Role::Rows);
            b.multiply(&room.changed, true, at.m, at.x, at.cols, grad, true);
            b.multiply(&room.changed, false, ids.len(), values, at.cols, dx, true);
        }
        Form::OutScale(_) => scale_back(b, tensor(tensors, Role::Factors), before, dy),
        Form::OutScaleNoBias(_) => {
            if let Some(bias) = at.bias {
                b.add_bias(before, bias, -1.0);
            }
            scale_back(b, tensor(tensors, Role::Factors), before, dy);
        }
        Form::OutPairs(pairs) => {
            let [f, h] = &mut tensors[..] else {
                unreachable!("pairs without their factors")
            };
            b.pairs_back(before, pairs, dy, &mut f.grad, &mut h.grad);
        }
        Form::OutBlocks(blocks) => b.blocks_back(before, blocks, dy, &mut tensor(tensors, Role::Blocks).grad),
        Form::InScale(_) | Form::InBlocks(_) | Form::InLowRank(_) | Form::FromBase(_) => {
            unreachable!("no form on an output")
        }
    }
}

/// Of y = factors ⊙ x: dy becomes dx.
fn scale_back<B: Backprop>(b: &B, factors: &mut Tensor<B>, x: &B::Buf, dy: &mut B::Buf) {
    b.affine_back(x, dy, &mut factors.grad);
    b.scale_columns(dy, &factors.values);
}

/// Of y = m / n ⊙ v by the magnitudes m: dy becomes dv.
pub(super) fn magnitudes_back<B: Backprop>(
    b: &B,
    magnitude: &mut Tensor<B>,
    steps: &[Step<B>],
    v: &B::Buf,
    dy: &mut B::Buf,
    room: &mut Room<B>,
) {
    let Some(Action::Affine((factors, _))) = steps.last().map(|step| &*step.action) else {
        unreachable!("DoRA without its factors")
    };
    let factors = b.read_vector(factors).to_vec();
    if magnitude.wanted {
        b.zeros(&mut room.scaled, factors.len());
        b.affine_back(v, dy, &mut room.scaled);
        let sums = b.read(&room.scaled).into_owned();
        let mut grad = b.read(&magnitude.grad).into_owned();
        for (((grad, sum), f), m) in grad
            .iter_mut()
            .zip(&sums)
            .zip(&factors)
            .zip(b.read(&magnitude.values).iter())
        {
            *grad += if *m == 0.0 { 0.0 } else { sum * f / m };
        }
        b.write(&grad, &mut magnitude.grad);
    }
    b.write(&factors, &mut room.scaled);
    b.scale_columns(dy, &room.scaled);
}

/// Back through y += scale out ⊙ B (mid ⊙ (A x)), which rows before `from` do not have; `dropout` is on x.
#[allow(clippy::too_many_arguments)] // those of the operation and their gradients
fn low_rank_back<B: Backprop>(
    b: &B,
    l: &LowRank,
    tensors: &mut [Tensor<B>],
    factors: &(Option<B::Factor>, Option<B::Factor>),
    x: &B::Buf,
    m: usize,
    from: usize,
    dropout: Option<Dropout>,
    dy: &B::Buf,
    dx: &mut B::Buf,
    room: &mut Room<B>,
) {
    let (rank, cols) = (l.rank(), l.a.cols());
    let (Some(factor_a), Some(factor_b)) = factors else {
        unreachable!("an update that does not run")
    };
    let mut dropped = std::mem::take(&mut room.dropped);
    let x = match &dropout {
        None => x,
        Some(dropout) => {
            b.copy(x, &mut dropped);
            b.drop_out(&mut dropped, cols, dropout);
            &dropped
        }
    };
    b.resize(&mut room.u, m * rank);
    b.factor_numbers(factor_a, true, &mut room.factor);
    b.multiply(x, false, cols, &room.factor, rank, &mut room.u, false);
    factors_back(b, l, tensors, factor_b, m, from, dy, room);
    // dA += du^T x, dx += du A.
    let Tensor { grad, wanted, .. } = tensor(tensors, Role::A);
    if *wanted {
        b.multiply(&room.du, true, m, x, cols, grad, true);
    }
    b.factor_numbers(factor_a, false, &mut room.factor);
    match &dropout {
        None => b.multiply(&room.du, false, rank, &room.factor, cols, dx, true),
        Some(dropout) => {
            b.resize(&mut room.d_dropped, m * cols);
            b.multiply(&room.du, false, rank, &room.factor, cols, &mut room.d_dropped, false);
            b.drop_out(&mut room.d_dropped, cols, dropout);
            b.add(dx, &room.d_dropped);
        }
    }
    room.dropped = dropped;
}

/// The same behind u = A x, which is in `room` as du then is.
#[allow(clippy::too_many_arguments)] // those of the operation and their gradients
pub(super) fn factors_back<B: Backprop>(
    b: &B,
    l: &LowRank,
    tensors: &mut [Tensor<B>],
    factor_b: &B::Factor,
    m: usize,
    from: usize,
    dy: &B::Buf,
    room: &mut Room<B>,
) {
    let (rank, out) = (l.rank(), l.b.rows());
    let of = |tensors: &[Tensor<B>], role| tensors.iter().position(|t| t.role == role);
    let (mid, behind) = (of(tensors, Role::Mid), of(tensors, Role::Out));
    let Room {
        u,
        scaled,
        du,
        changed,
        factor,
        ..
    } = room;
    b.factor_numbers(factor_b, false, factor);
    b.copy(u, scaled);
    if let Some(mid) = mid {
        b.scale_columns(scaled, &tensors[mid].values);
    }
    b.scale(scaled, l.scale);
    b.zero_rows(scaled, rank, 0..from.min(m));
    let mut dy = dy;
    if let Some(at) = behind {
        if tensors[at].wanted {
            // Σ dy (B s)_j is row j of B times row j of dy^T s: rank numbers instead of m.
            b.zeros(du, out * rank);
            b.multiply(dy, true, m, scaled, rank, du, false);
            b.row_dots(factor, du, &mut tensors[at].grad);
        }
        b.copy(dy, changed);
        b.scale_columns(changed, &tensors[at].values);
        dy = changed;
    }
    // dB += scale dy^T (mid ⊙ A x), and that by mid ⊙ A x.
    let Tensor { grad, wanted, .. } = tensor(tensors, Role::B);
    if *wanted {
        b.multiply(dy, true, m, scaled, rank, grad, true);
    }
    b.resize(du, m * rank);
    b.multiply(dy, false, out, factor, rank, du, false);
    b.scale(du, l.scale);
    b.zero_rows(du, rank, 0..from.min(m));
    if let Some(mid) = mid {
        let Tensor {
            values, grad, wanted, ..
        } = &mut tensors[mid];
        if *wanted {
            b.affine_back(u, du, grad);
        }
        b.scale_columns(du, values);
    }
}
