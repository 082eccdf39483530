//! The forms that every adapter method is lowered to: what kernels and runtime know of adapters.
//!
//! A module of the base is y = W x + b. Forms on it, in their order, change what goes in (`In…`), what comes out (`Out…`),
//! or add to what comes out a part that is computed from the unchanged x; all others stand in place of a parameter.
//! Everything is in the order of the Hugging Face module: [`super::attach`] moves rows where a model file has another.

use std::fmt;
use std::sync::Arc;

use super::matrix::Matrix;
use crate::error::Result;

/// A low-rank update: y += scale * out ⊙ B (mid ⊙ (A x)).
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// A, `[rank][in]`.
    pub a: Matrix,
    /// B, `[out][rank]`.
    pub b: Matrix,
    /// Factors between A and B, `[rank]`; kept apart where A and B are shared by many modules.
    pub mid: Option<Vec<f32>>,
    /// Factors behind B, `[out]`; as `mid`.
    pub out: Option<Vec<f32>>,
    /// Multiplies the update.
    pub scale: f32,
    /// It belongs to the base under the adapter: the adapter's weight does not multiply it.
    pub fixed: bool,
}

impl LowRank {
    /// scale * B (A x).
    pub fn new(a: Matrix, b: Matrix, scale: f32) -> Self {
        LowRank {
            a,
            b,
            mid: None,
            out: None,
            scale,
            fixed: false,
        }
    }

    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.rows()
    }
}

/// y += scale * (W1 ⊗ W2) x, without the product: x as a matrix X (i1, i2) gives W1 X W2^T.
#[derive(Clone, Debug, PartialEq)]
pub struct Kron {
    /// W1, `[o1][i1]`.
    pub w1: Matrix,
    /// W2, `[o2][i2]`.
    pub w2: Matrix,
    /// Multiplies the update.
    pub scale: f32,
}

/// A block-diagonal matrix on a vector whose elements may first be put in another order, and are put back.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    /// Rows (and columns) of a block.
    pub size: usize,
    /// `[blocks][size][size]`: element j of a block of the result is the sum over i of element i of the input times `[i][j]`.
    pub blocks: Vec<f32>,
    /// Element p in the order of the blocks is element `order[p]` of the vector.
    pub order: Option<Vec<u32>>,
}

/// y_j := f_j y_j + h_j y_partner(j).
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    /// f, `[out]`.
    pub f: Vec<f32>,
    /// h, `[out]`.
    pub h: Vec<f32>,
    /// `[out]`
    pub partner: Vec<u32>,
}

/// The module of the base that forms are computed from.
pub struct Base<'a> {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// The most input and output features of any module of the adapter.
    pub widest: (usize, usize),
    /// Reads the weights.
    pub read: &'a dyn Fn() -> Vec<f32>,
}

impl Base<'_> {
    /// The weights `[rows][cols]`, in the order of the Hugging Face module.
    pub fn weights(&self) -> Vec<f32> {
        (self.read)()
    }
}

/// Makes forms from the module of the base.
pub type Lower = Arc<dyn Fn(&Base) -> Result<Vec<Form>> + Send + Sync>;

/// Forms that depend on the base and are made when the adapter is put on a model.
#[derive(Clone)]
pub struct FromBase {
    /// What it computes, in a few words.
    pub what: &'static str,
    /// (input, output) features that the module must have; 0 where the tensors do not tell.
    pub shape: (usize, usize),
    /// See [`Form::scalable`].
    pub scalable: bool,
    /// Whether it can be on an embedding, whose weights it must not read.
    pub embedding: bool,
    /// Makes the forms.
    pub lower: Lower,
}

impl fmt::Debug for FromBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FromBase({})", self.what)
    }
}

/// One operation at a module.
#[derive(Clone, Debug)]
pub enum Form {
    /// y += what [`LowRank`] says. On the embedding, x is the one-hot token.
    LowRank(LowRank),
    /// y += scale * D x.
    Dense(Matrix, f32),
    /// y += what [`Kron`] says.
    Kron(Kron),
    /// y += bias.
    OutBias(Vec<f32>),
    /// x := l ⊙ x.
    InScale(Vec<f32>),
    /// x := x times the blocks.
    InBlocks(Blocks),
    /// x := x + the update of x.
    InLowRank(LowRank),
    /// y := l ⊙ y.
    OutScale(Vec<f32>),
    /// y := l ⊙ (y - b) + b.
    OutScaleNoBias(Vec<f32>),
    /// y := what [`Pairs`] says.
    OutPairs(Pairs),
    /// y := y times the blocks.
    OutBlocks(Blocks),
    /// DoRA (Liu et al. 2024, arXiv 2402.09353): y := b + m / n ⊙ (y - b + update), where n_j is the norm of row j of
    /// W + update, and m the magnitudes.
    Dora(LowRank, Vec<f32>),
    /// Instead of the module's weight (a norm's is one row). `true`: of the base's own tensor, which a tied head shares with the embedding;
    /// `false`: a module with a tensor of its own.
    Weight(Matrix, bool),
    /// Instead of the module's bias.
    Bias(Vec<f32>),
    /// Instead of these rows of the embedding (or of the head).
    Rows(Vec<u32>, Matrix),
    /// See [`FromBase`].
    FromBase(FromBase),
}

/// The operations at one module of the model, still by the module's Hugging Face path.
#[derive(Clone, Debug)]
pub struct SiteForms {
    /// Path such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// In the order in which they apply.
    pub forms: Vec<Form>,
}

impl Form {
    /// Its name in `inspect`.
    pub fn name(&self) -> &'static str {
        match self {
            Form::LowRank(_) => "low_rank",
            Form::Dense(..) => "dense",
            Form::Kron(_) => "kron",
            Form::OutBias(_) => "out_bias",
            Form::InScale(_) => "in_scale",
            Form::InBlocks(_) => "in_blocks",
            Form::InLowRank(_) => "in_low_rank",
            Form::OutScale(_) => "out_scale",
            Form::OutScaleNoBias(_) => "out_scale_no_bias",
            Form::OutPairs(_) => "out_pairs",
            Form::OutBlocks(_) => "out_blocks",
            Form::Dora(..) => "dora",
            Form::Weight(..) => "weight",
            Form::Bias(_) => "bias",
            Form::Rows(..) => "rows",
            Form::FromBase(_) => "from_base",
        }
    }

    /// (input, output) features that the module must have; 0 where it does not matter.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Form::LowRank(l) | Form::Dora(l, _) => (l.a.cols(), l.b.rows()),
            Form::Dense(d, _) | Form::Weight(d, _) => (d.cols(), d.rows()),
            Form::Kron(k) => (k.w1.cols() * k.w2.cols(), k.w1.rows() * k.w2.rows()),
            Form::OutBias(v) | Form::OutScale(v) | Form::OutScaleNoBias(v) | Form::Bias(v) => (0, v.len()),
            Form::InScale(v) => (v.len(), 0),
            Form::InBlocks(b) => (b.blocks.len() / b.size.max(1), 0),
            Form::OutBlocks(b) => (0, b.blocks.len() / b.size.max(1)),
            Form::InLowRank(l) => (l.a.cols(), 0),
            Form::OutPairs(p) => (0, p.f.len()),
            Form::Rows(_, m) => (m.cols(), 0),
            Form::FromBase(f) => f.shape,
        }
    }

    /// Whether an adapter's weight other than 1 has a meaning for it: an update is multiplied, a factor l becomes
    /// 1 + weight (l - 1). `None` for what stands in place of a parameter: it is there or not.
    pub fn scalable(&self) -> Option<bool> {
        match self {
            Form::LowRank(_) | Form::Dense(..) | Form::Kron(_) | Form::OutBias(_) | Form::Dora(..) => Some(true),
            Form::InScale(_) | Form::OutScale(_) => Some(true),
            Form::InBlocks(_) | Form::InLowRank(_) | Form::OutPairs(_) | Form::OutBlocks(_) => Some(false),
            // BOFT's, beside its blocks.
            Form::OutScaleNoBias(_) => Some(false),
            Form::FromBase(f) => Some(f.scalable),
            Form::Weight(..) | Form::Bias(_) | Form::Rows(..) => None,
        }
    }

    /// Moves output row `i` to row `to(i)`, for models whose rows are stored in another order.
    pub fn permute_rows(&mut self, to: &dyn Fn(usize) -> usize) {
        match self {
            Form::LowRank(l) => l.permute_rows(to),
            Form::Dora(l, m) => {
                l.permute_rows(to);
                *m = permuted(m, to);
            }
            Form::Dense(d, _) | Form::Weight(d, _) => *d = d.permute_rows(to),
            Form::OutBias(v) | Form::OutScale(v) | Form::OutScaleNoBias(v) | Form::Bias(v) => *v = permuted(v, to),
            Form::OutPairs(p) => {
                p.f = permuted(&p.f, to);
                p.h = permuted(&p.h, to);
                let partner: Vec<u32> = p.partner.iter().map(|&j| to(j as usize) as u32).collect();
                p.partner = permuted(&partner, to);
            }
            Form::OutBlocks(b) => {
                let n = b.blocks.len() / b.size.max(1);
                let order = b.order.take().unwrap_or_else(|| (0..n as u32).collect());
                b.order = Some(order.iter().map(|&j| to(j as usize) as u32).collect());
            }
            // A product of matrices has rows in one order only.
            Form::Kron(k) => {
                let mut dense = Form::Dense(k.dense(), k.scale);
                dense.permute_rows(to);
                *self = dense;
            }
            Form::InScale(_) | Form::InBlocks(_) | Form::InLowRank(_) | Form::Rows(..) => {}
            Form::FromBase(_) => unreachable!("made into other forms before rows are moved"),
        }
    }
}

impl LowRank {
    fn permute_rows(&mut self, to: &dyn Fn(usize) -> usize) {
        self.b = self.b.permute_rows(to);
        if let Some(out) = &mut self.out {
            *out = permuted(out, to);
        }
    }
}

impl Kron {
    /// W1 ⊗ W2.
    pub fn dense(&self) -> Matrix {
        let (w1, w2) = (self.w1.to_f32(), self.w2.to_f32());
        let (i1, o2, i2) = (self.w1.cols(), self.w2.rows(), self.w2.cols());
        let mut d = Vec::with_capacity(self.w1.len() * self.w2.len());
        for row in 0..self.w1.rows() * o2 {
            let (r1, r2) = (row / o2, row % o2);
            for a in &w1[r1 * i1..][..i1] {
                d.extend(w2[r2 * i2..][..i2].iter().map(|b| a * b));
            }
        }
        Matrix::from_f32(self.w1.rows() * o2, i1 * i2, &d)
    }
}

fn permuted<T: Copy>(v: &[T], to: &dyn Fn(usize) -> usize) -> Vec<T> {
    let mut out = v.to_vec();
    for (i, value) in v.iter().enumerate() {
        out[to(i)] = *value;
    }
    out
}
