//! What an adapter adds to the weights of its modules, for formats that hold nothing else: as one product of two small matrices where
//! its forms are such products, else as a whole matrix; and why other forms are no addition.

use super::AdapterFile;
use super::forms::{Form, LowRank};
use super::matrix::Matrix;
use crate::error::{Error, Result};
use crate::linalg;

/// scale * B A, with B `[rows][rank]` and A `[rank][cols]`.
#[derive(Clone, Debug)]
pub struct Product {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Columns of B and rows of A.
    pub rank: usize,
    /// B, `[rows][rank]`.
    pub b: Vec<f32>,
    /// A, `[rank][cols]`.
    pub a: Vec<f32>,
    /// Multiplies the product.
    pub scale: f32,
}

impl Product {
    /// The sum of `forms`, of one shape: the factors side by side. One that is a plain product keeps its factors and scale.
    pub fn sum(forms: &[LowRank]) -> Self {
        if let [
            l @ LowRank {
                mid: None, out: None, ..
            },
        ] = forms
        {
            return Product {
                rows: l.b.rows(),
                cols: l.a.cols(),
                rank: l.rank(),
                b: l.b.to_f32(),
                a: l.a.to_f32(),
                scale: l.scale,
            };
        }
        let (rows, cols) = forms.first().map_or((0, 0), |l| (l.b.rows(), l.a.cols()));
        let rank: usize = forms.iter().map(LowRank::rank).sum();
        let (mut a, mut b) = (Vec::with_capacity(rank * cols), vec![0.0; rows * rank]);
        let mut first = 0;
        for l in forms {
            a.extend(l.a.to_f32());
            let folded = l.b.map(|j, k, v| {
                let factor = |v: &Option<Vec<f32>>, i: usize| v.as_ref().map_or(1.0, |v| v[i]);
                l.scale * factor(&l.out, j) * v * factor(&l.mid, k)
            });
            for (row, from) in b
                .chunks_exact_mut(rank.max(1))
                .zip(folded.to_f32().chunks_exact(l.rank().max(1)))
            {
                row[first..][..l.rank()].copy_from_slice(from);
            }
            first += l.rank();
        }
        Product {
            rows,
            cols,
            rank,
            b,
            a,
            scale: 1.0,
        }
    }

    /// The product itself, `[rows][cols]`.
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub fn dense(&self) -> Result<Vec<f32>> {
        let mut d = linalg::product(self.rows, self.rank, self.cols, &self.b, &self.a)?;
        d.iter_mut().for_each(|v| *v *= self.scale);
        Ok(d)
    }
}

/// What is added to the weights of a module.
pub enum Update {
    /// Products, each of its own rank.
    LowRank(Vec<LowRank>),
    /// A matrix `[out][in]`.
    Dense(Matrix),
}

impl Update {
    /// The sum of `forms`, which are all that an adapter of `method` does to a module.
    ///
    /// # Errors
    /// A form that is no addition to the weights; numbers that are not finite.
    pub fn of(method: &str, forms: Vec<Form>) -> Result<Self> {
        forms.iter().try_for_each(|form| additive(method, form))?;
        let (mut products, mut dense) = (Vec::new(), Vec::new());
        for form in forms {
            match form {
                Form::LowRank(l) => products.push(l),
                Form::Dense(d, scale) => dense.push((d, scale)),
                Form::Kron(k) => dense.push((k.dense(), k.scale)),
                _ => {}
            }
        }
        let Some((first, _)) = dense.first() else {
            return Ok(Update::LowRank(products));
        };
        let (rows, cols) = (first.rows(), first.cols());
        let mut sum = match products.is_empty() {
            true => vec![0.0; rows * cols],
            false => Product::sum(&products).dense()?,
        };
        for (d, scale) in dense {
            sum.iter_mut().zip(d.to_f32()).for_each(|(s, v)| *s += scale * v);
        }
        Ok(Update::Dense(Matrix::from_f32(rows, cols, &sum)))
    }
}

/// Whether the adapter is nothing but changes of modules.
///
/// # Errors
/// A prompt before the text, repeated layers.
pub fn of_modules_only(file: &AdapterFile) -> Result<()> {
    let lowered = file.lowered();
    let what = match (&lowered.prefix, &lowered.layers) {
        (None, None) => return Ok(()),
        (Some(_), _) => "a prompt before the text, which is no change of the weights",
        (None, Some(_)) => "layers that are repeated (layer_replication)",
    };
    Err(Error::unsupported("the adapter cannot be written as a LoRA")
        .file(file.path())
        .item(file.method())
        .found(what))
}

/// Whether `form` adds a matrix to the module's weights.
fn additive(method: &str, form: &Form) -> Result<()> {
    let what = match form {
        Form::LowRank(_) | Form::Dense(..) | Form::Kron(_) => return Ok(()),
        Form::InScale(_) | Form::InBlocks(_) | Form::InLowRank(_) => "it multiplies the module's input",
        Form::OutScale(_) | Form::OutScaleNoBias(_) | Form::OutPairs(_) | Form::OutBlocks(_) => {
            "it multiplies the module's output"
        }
        Form::Dora(..) => "DoRA, which norms the rows of the weights and their update together",
        Form::OutBias(_) => "it adds a bias",
        Form::Weight(..) | Form::Bias(_) | Form::Rows(..) => "it replaces a parameter of the base",
        Form::FromBase(_) => "it depends on the base in another way",
    };
    Err(Error::unsupported(format!(
        "the adapter ({method}) cannot be written as a LoRA; graft merge can put it into the model"
    ))
    .expected("an update that is added to the weights")
    .found(format_args!("{what} ({})", form.name())))
}
