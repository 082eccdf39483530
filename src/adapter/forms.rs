//! The forms that every adapter method is lowered to: what kernels and runtime know of adapters.
//!
//! `y = W x + b + sum of Forms(x)` at a site. More forms (scales, transforms, deltas) join with the methods that need
//! them; the formulas are those of PEFT's tuners.

/// A low-rank update: y += scale * B (A x).
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Rank r, at least 1.
    pub rank: usize,
    /// Input features.
    pub cols: usize,
    /// Output features.
    pub rows: usize,
    /// A, `[rank][cols]`.
    pub a: Vec<f32>,
    /// B, `[rows][rank]`, rows in the order of the Hugging Face module.
    pub b: Vec<f32>,
    /// Multiplies the product; from the adapter's config.
    pub scale: f32,
}

/// One operation at a site.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// See [`LowRank`].
    LowRank(LowRank),
}

/// The operations at one module of the model, still by the module's Hugging Face path.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteForms {
    /// Path such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// In the order in which they apply.
    pub forms: Vec<Form>,
}

impl Form {
    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        match self {
            Form::LowRank(l) => l.a.len() + l.b.len(),
        }
    }

    /// (input, output) features that the module must have.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Form::LowRank(l) => (l.cols, l.rows),
        }
    }

    /// Moves output row `i` to row `to(i)`, for models whose rows are stored in another order.
    pub fn permute_rows(&mut self, to: impl Fn(usize) -> usize) {
        match self {
            Form::LowRank(l) => {
                let mut b = vec![0.0; l.b.len()];
                for (i, row) in l.b.chunks_exact(l.rank).enumerate() {
                    let to = to(i) * l.rank;
                    b[to..to + l.rank].copy_from_slice(row);
                }
                l.b = b;
            }
        }
    }
}
