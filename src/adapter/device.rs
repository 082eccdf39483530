//! Forms on the device: what runs at a site, and how an adapter's weight changes it.

use std::collections::HashMap;
use std::sync::Arc;

use super::forms::{Form, LowRank};
use super::matrix::Matrix;
use crate::error::{Error, Result};
use crate::kernels::Precision;
use crate::model::backend::{Affine, Backend, GatherOn, LowRankOn};

/// One operation on a site's input or output.
pub enum Action<B: Backend> {
    /// y += scale * the update of x.
    LowRank(LowRankOn<B>),
    /// The same on the embedding.
    Gather(GatherOn<B>),
    /// y += scale * D x.
    Dense(Arc<B::Weight>),
    /// y += scale * (W1 ⊗ W2) x.
    Kron(Arc<B::Weight>, Arc<B::Weight>),
    /// y := factors ⊙ y + shift.
    Affine(Affine<B>),
    /// y += scale * bias.
    Bias(B::Vector),
    /// See [`Pairs`](super::forms::Pairs).
    Pairs(B::Pairs),
    /// See [`Blocks`](super::forms::Blocks).
    Blocks(B::Blocks),
    /// Rows of a table: of the embedding y is the row itself, of the head the products with x.
    Rows(B::Ids, Arc<B::Weight>),
}

/// An action as a session runs it.
pub struct Step<B: Backend> {
    /// What.
    pub action: Arc<Action<B>>,
    /// How much of it, where it is a sum.
    pub scale: f32,
    /// Which of the session's gates it waits for (aLoRA).
    pub gate: Option<usize>,
}

impl<B: Backend> Clone for Step<B> {
    fn clone(&self) -> Self {
        Step {
            action: self.action.clone(),
            scale: self.scale,
            gate: self.gate,
        }
    }
}

impl<B: Backend> Step<B> {
    /// The operation on the embeddings x of tokens `ids`, before the model scales them, from row `from` on.
    pub fn on_embeddings(&self, b: &B, from: usize, ids: &[u32], x: &mut B::Buf) {
        match &*self.action {
            Action::Gather(l) => b.gather_low_rank(l, self.scale, from, ids, x),
            Action::Affine(affine) => b.affine(x, affine),
            Action::Blocks(blocks) => b.blocks(x, blocks),
            Action::Rows(of, rows) => b.replace_rows(rows, of, ids, x),
            _ => unreachable!("an operation that `attach` does not put on an embedding"),
        }
    }
}

fn step<B: Backend>(action: Action<B>, scale: f32) -> Step<B> {
    Step {
        action: Arc::new(action),
        scale,
        gate: None,
    }
}

/// How an adapter's weight changes a form's steps.
pub(super) enum ByWeight {
    /// Not at all.
    Fixed,
    /// It multiplies the sums.
    Scaled,
    /// Factors l become 1 + weight (l - 1).
    Factors(Vec<f32>),
    /// DoRA's factors m / n have another n.
    Dora(Box<Dora>),
}

/// What DoRA's factors are computed from: n_j² = ‖W_j‖² + 2 w W_j·U_j + w² ‖U_j‖² for the update U at weight w.
pub(super) struct Dora {
    pub(super) magnitude: Vec<f32>,
    /// ‖W_j‖², W_j·U_j, ‖U_j‖².
    pub(super) squares: [Vec<f64>; 3],
    pub(super) bias: Option<Vec<f32>>,
}

/// A form on the device.
pub struct Op<B: Backend> {
    /// What runs at weight 1.
    pub(super) steps: Vec<Step<B>>,
    pub(super) by_weight: ByWeight,
}

/// Where an output form stands.
pub struct On<'a, B: Backend> {
    /// The embedding: x is a token.
    pub embedding: bool,
    /// The bias that the module's output holds.
    pub bias: Option<Vec<f32>>,
    /// The module's weights, of the embedding the table.
    pub weight: Option<&'a B::Weight>,
}

/// What is on the device, by the address of the matrix, which is kept so that the address stays its own.
type Known<T> = HashMap<usize, (Matrix, T)>;

/// What is known of `m`, or else `make`s of it.
fn once<T: Clone>(known: &mut Known<T>, m: &Matrix, make: impl FnOnce(&Matrix) -> Result<T>) -> Result<T> {
    let address = m.bytes().as_ptr() as usize;
    if let Some((_, there)) = known.get(&address).filter(|(known, _)| known == m) {
        return Ok(there.clone());
    }
    let made = make(m)?;
    known.insert(address, (m.clone(), made.clone()));
    Ok(made)
}

/// Matrices that several sites share go to the device once.
pub struct Uploads<B: Backend> {
    matrices: Known<Arc<B::Weight>>,
    factors: Known<B::Factor>,
}

impl<B: Backend> Default for Uploads<B> {
    fn default() -> Self {
        Uploads {
            matrices: HashMap::new(),
            factors: HashMap::new(),
        }
    }
}

impl<B: Backend> Uploads<B> {
    /// `m` on the device.
    pub fn matrix(&mut self, b: &B, m: &Matrix) -> Result<Arc<B::Weight>> {
        once(&mut self.matrices, m, |m| b.matrix(m).map(Arc::new))
    }

    /// A factor on the device.
    fn factor(&mut self, b: &B, m: &Matrix) -> Result<B::Factor> {
        once(&mut self.factors, m, |m| b.factor(m))
    }

    /// The action of an update.
    fn low_rank(&mut self, b: &B, l: &LowRank, embedding: bool) -> Result<Action<B>> {
        let vector = |v: &Option<Vec<f32>>| v.as_ref().map(|v| b.vector_of(v).map(Arc::new)).transpose();
        let (mid, out) = (vector(&l.mid)?, vector(&l.out)?);
        let factor_b = self.factor(b, &l.b)?;
        if embedding {
            let table = self.matrix(b, &l.a.transposed())?;
            return Ok(Action::Gather(GatherOn {
                table,
                b: factor_b,
                mid,
                out,
            }));
        }
        Ok(Action::LowRank(LowRankOn {
            a: self.factor(b, &l.a)?,
            b: factor_b,
            mid,
            out,
        }))
    }
}

impl<B: Backend> Op<B> {
    /// `form` on the device; `on` where it acts on an output.
    ///
    /// # Errors
    /// Memory; a DoRA whose norms are no positive numbers.
    pub fn new(b: &B, form: Form, uploads: &mut Uploads<B>, on: Option<&On<B>>) -> Result<Self> {
        let embedding = on.is_some_and(|on| on.embedding);
        let bias = on.and_then(|on| on.bias.as_deref());
        let one = |action, scale, by_weight| {
            Ok(Op {
                steps: vec![step(action, scale)],
                by_weight,
            })
        };
        match form {
            Form::LowRank(l) => {
                let by_weight = if l.fixed { ByWeight::Fixed } else { ByWeight::Scaled };
                one(uploads.low_rank(b, &l, embedding)?, l.scale, by_weight)
            }
            Form::InLowRank(l) => one(uploads.low_rank(b, &l, false)?, l.scale, ByWeight::Fixed),
            Form::Dense(d, scale) => one(Action::Dense(uploads.matrix(b, &d)?), scale, ByWeight::Scaled),
            Form::Kron(k) => {
                let (w1, w2) = (uploads.matrix(b, &k.w1)?, uploads.matrix(b, &k.w2)?);
                one(Action::Kron(w1, w2), k.scale, ByWeight::Scaled)
            }
            Form::OutBias(v) => one(Action::Bias(b.vector_of(&v)?), 1.0, ByWeight::Scaled),
            Form::InScale(l) | Form::OutScale(l) => one(affine(b, &l, None)?, 1.0, ByWeight::Factors(l)),
            Form::OutScaleNoBias(l) => one(affine(b, &l, bias)?, 1.0, ByWeight::Fixed),
            Form::OutPairs(p) => one(Action::Pairs(b.pairs_of(p)?), 1.0, ByWeight::Fixed),
            Form::InBlocks(blocks) | Form::OutBlocks(blocks) => {
                one(Action::Blocks(b.blocks_of(blocks)?), 1.0, ByWeight::Fixed)
            }
            Form::Rows(ids, m) => {
                let rows = uploads.matrix(b, &m)?;
                one(Action::Rows(b.ids_of(ids)?, rows), 1.0, ByWeight::Fixed)
            }
            Form::Dora(update, magnitude) => {
                let on = on.ok_or_else(|| Error::internal("DoRA on an input"))?;
                let weight = on
                    .weight
                    .ok_or_else(|| Error::unsupported("DoRA on this kind of module"))?;
                if magnitude.len() != update.b.rows() {
                    let e = Error::mismatch("as many magnitudes as outputs are needed");
                    return Err(e.expected(update.b.rows()).found(magnitude.len()));
                }
                let update_step = step(uploads.low_rank(b, &update, embedding)?, update.scale);
                let dora = Dora {
                    squares: squares(b, &update, weight, embedding)?,
                    magnitude,
                    bias: on.bias.clone(),
                };
                Ok(Op {
                    steps: vec![update_step, dora.factors(b, 1.0)?],
                    by_weight: ByWeight::Dora(Box::new(dora)),
                })
            }
            Form::Weight(..) | Form::Bias(_) | Form::FromBase(_) => {
                Err(Error::internal("no operation on a site's values"))
            }
        }
    }

    /// What runs under an adapter of weight `w`, behind gate `gate`.
    ///
    /// # Errors
    /// As [`Op::new`].
    pub fn at(&self, b: &B, w: f32, gate: Option<usize>) -> Result<Vec<Step<B>>> {
        let mut steps = match &self.by_weight {
            ByWeight::Fixed => self.steps.clone(),
            _ if w == 1.0 => self.steps.clone(),
            ByWeight::Scaled if w == 0.0 => Vec::new(),
            ByWeight::Scaled => {
                let scaled = |s: &Step<B>| Step {
                    scale: s.scale * w,
                    ..s.clone()
                };
                self.steps.iter().map(scaled).collect()
            }
            ByWeight::Factors(l) => {
                let l: Vec<f32> = l.iter().map(|l| 1.0 + w * (l - 1.0)).collect();
                vec![step(affine(b, &l, None)?, 1.0)]
            }
            ByWeight::Dora(dora) => vec![
                Step {
                    scale: self.steps[0].scale * w,
                    ..self.steps[0].clone()
                },
                dora.factors(b, w)?,
            ],
        };
        steps.iter_mut().for_each(|s| s.gate = gate);
        Ok(steps)
    }
}

/// y := l ⊙ y, or l ⊙ (y - bias) + bias.
fn affine<B: Backend>(b: &B, l: &[f32], bias: Option<&[f32]>) -> Result<Action<B>> {
    let shift = bias.map(|bias| bias.iter().zip(l).map(|(b, l)| b * (1.0 - l)).collect::<Vec<_>>());
    Ok(Action::Affine((
        b.vector_of(l)?,
        shift.map(|s| b.vector_of(&s)).transpose()?,
    )))
}

impl Dora {
    /// What multiplies the sum of the module's output and the update at weight `w`.
    fn factors<B: Backend>(&self, b: &B, w: f32) -> Result<Step<B>> {
        let [ww, wu, uu] = &self.squares;
        let w64 = f64::from(w);
        let mut factors = Vec::with_capacity(ww.len());
        for (j, m) in self.magnitude.iter().enumerate() {
            let n = (ww[j] + 2.0 * w64 * wu[j] + w64 * w64 * uu[j]).sqrt();
            let factor = (f64::from(*m) / n) as f32;
            if !factor.is_finite() {
                let e = Error::invalid("a row of the weight and its update is zero: DoRA cannot norm it");
                return Err(e.found(format_args!("row {j}")));
            }
            factors.push(factor);
        }
        Ok(step(affine(b, &factors, self.bias.as_deref())?, 1.0))
    }
}

/// ‖W_j‖², W_j·U_j and ‖U_j‖² of each output j, for the update U = scale * B A at weight 1: U_j·W_j = scale * B_j·(A W_j), and
/// ‖U_j‖² = scale² * B_j (A A^T) B_j^T. Of the embedding, W_j is column j of the table.
fn squares<B: Backend>(b: &B, l: &LowRank, weight: &B::Weight, embedding: bool) -> Result<[Vec<f64>; 3]> {
    /// Rows of W at a time: bounds the memory at a large vocabulary.
    const ROWS: usize = 512;
    let (rank, cols, outputs) = (l.rank(), l.a.cols(), l.b.rows());
    let (stored_rows, width) = if embedding { (cols, outputs) } else { (outputs, cols) };
    let (a, factors) = (l.a.to_f32(), l.b.to_f32());
    let mut ww = vec![0.0; outputs];
    // (A W_j)_k, at [j][k].
    let mut aw = vec![0.0f64; outputs * rank];
    let mut rows = Vec::new();
    let device_a = (!embedding).then(|| b.matrix(&l.a)).transpose()?;
    let (mut x, mut acts, mut u) = (B::Buf::default(), B::Acts::default(), B::Buf::default());
    for first in (0..stored_rows).step_by(ROWS) {
        let n = ROWS.min(stored_rows - first);
        rows.resize(n * width, 0.0);
        b.read_rows(weight, first, &mut rows);
        if let Some(device_a) = &device_a {
            b.write(&rows, &mut x);
            b.pack(&x, cols, [device_a], false, Precision::Exact, &mut acts);
            b.resize(&mut u, n * rank);
            b.matmul([(device_a, &mut u)], &acts, Precision::Exact);
            for (out, v) in aw[first * rank..].iter_mut().zip(b.read(&u).iter()) {
                *out = f64::from(*v);
            }
        }
        for (i, row) in rows.chunks_exact(width).enumerate() {
            if embedding {
                for (j, v) in row.iter().enumerate() {
                    ww[j] += f64::from(v * v);
                    for k in 0..rank {
                        aw[j * rank + k] += f64::from(v * a[k * cols + first + i]);
                    }
                }
            } else {
                ww[first + i] = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            }
        }
    }
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let pairs = if rank > cols { 0 } else { rank * rank };
    let aa: Vec<f64> = (0..pairs)
        .map(|p| dot(&a[p / rank * cols..][..cols], &a[p % rank * cols..][..cols]))
        .collect();
    let scale = f64::from(l.scale);
    let (mut wu, mut uu) = (Vec::with_capacity(outputs), Vec::with_capacity(outputs));
    for (row, aw) in factors.chunks_exact(rank).zip(aw.chunks_exact(rank)) {
        wu.push(scale * row.iter().zip(aw).map(|(b, v)| f64::from(*b) * v).sum::<f64>());
        if rank > cols {
            // A A^T is larger than A: row j of B A itself instead.
            let mut u = vec![0.0f64; cols];
            for (bk, a) in row.iter().zip(a.chunks_exact(cols)) {
                u.iter_mut()
                    .zip(a)
                    .for_each(|(u, a)| *u += f64::from(*bk) * f64::from(*a));
            }
            uu.push(scale * scale * u.iter().map(|u| u * u).sum::<f64>());
            continue;
        }
        let quadratic = |(k, bk): (usize, &f32)| {
            f64::from(*bk)
                * row
                    .iter()
                    .zip(&aa[k * rank..])
                    .map(|(bl, v)| f64::from(*bl) * v)
                    .sum::<f64>()
        };
        uu.push(scale * scale * row.iter().enumerate().map(quadratic).sum::<f64>());
    }
    Ok([ww, wu, uu])
}
