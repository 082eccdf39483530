//! Products of small matrices: LoHa, LoKr, MiSS.

use super::{Module, Pulled};
use crate::adapter::forms::Form;
use crate::adapter::trained::Role;
use crate::error::Result;
use crate::linalg;
use crate::train::parameters::Parameters;

/// y (`[rows][cols]`) = a b for a `[rows][depth]`.
fn product(a: &[f32], b: &[f32], depth: usize) -> Vec<f32> {
    let cols = b.len() / depth.max(1);
    let mut y = vec![0.0; a.len() / depth.max(1) * cols];
    for (y, a) in y.chunks_exact_mut(cols.max(1)).zip(a.chunks_exact(depth.max(1))) {
        for (a, b) in a.iter().zip(b.chunks_exact(cols)) {
            y.iter_mut().zip(b).for_each(|(y, b)| *y += a * b);
        }
    }
    y
}

/// Of p = a b for a `[rows][depth]` the gradients by a and b, from d by p.
fn product_back(a: &[f32], b: &[f32], depth: usize, d: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (rows, cols) = (a.len() / depth.max(1), b.len() / depth.max(1));
    let d_a = product(d, &linalg::transpose(depth, cols, b), cols);
    let d_b = product(&linalg::transpose(rows, depth, a), d, rows);
    (d_a, d_b)
}

const HADA: [&str; 4] = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"];

/// The update is (W1a W1b) ⊙ (W2a W2b). As factors of a rank r², rows of A are products of rows of the two right ones, columns of B of
/// columns of the two left ones.
pub(super) fn loha(m: &Module, to: &mut Parameters) -> Result<()> {
    let own = |form: &&Pulled| matches!(form.form, Form::LowRank(_) | Form::Dense(..));
    for form in m.forms.iter().filter(own) {
        let mut w = Vec::new();
        for name in HADA {
            w.push(m.values(name, to)?);
        }
        let [w1a, w1b, w2a, w2b] = w[..] else { continue };
        let d = match form.form {
            Form::LowRank(l) => {
                let cols = l.a.cols();
                let r = w1b.len() / cols;
                let mut d = [w1a, w1b, w2a, w2b].map(|w| vec![0.0f32; w.len()]);
                for (kl, d_a) in form.of(Role::A).chunks_exact(cols).enumerate() {
                    let (k, l) = (kl / r * cols, kl % r * cols);
                    for (c, g) in d_a.iter().enumerate() {
                        d[1][k + c] += g * w2b[l + c];
                        d[3][l + c] += g * w1b[k + c];
                    }
                }
                for (row, d_b) in form.of(Role::B).chunks_exact(r * r).enumerate() {
                    for (kl, g) in d_b.iter().enumerate() {
                        let (k, l) = (row * r + kl / r, row * r + kl % r);
                        d[0][k] += g * w2a[l];
                        d[2][l] += g * w1a[k];
                    }
                }
                d
            }
            Form::Dense(dense, _) => {
                let r = w1b.len() / dense.cols();
                let (first, second) = (product(w1a, w1b, r), product(w2a, w2b, r));
                let times = |other: &[f32]| -> Vec<f32> {
                    let d = form.of(Role::Dense).iter().zip(other);
                    d.map(|(d, other)| d * other).collect()
                };
                let (d1a, d1b) = product_back(w1a, w1b, r, &times(&second));
                let (d2a, d2b) = product_back(w2a, w2b, r, &times(&first));
                [d1a, d1b, d2a, d2b]
            }
            _ => continue,
        };
        for (name, d) in HADA.into_iter().zip(d) {
            m.add(name, &d, to)?;
        }
    }
    Ok(())
}

/// Each factor is whole or a product.
pub(super) fn lokr(m: &Module, to: &mut Parameters) -> Result<()> {
    for form in &m.forms {
        let (d1, d2) = match form.form {
            Form::Kron(_) => (form.of(Role::W1).to_vec(), form.of(Role::W2).to_vec()),
            // Rows in another order made one matrix of it.
            Form::Dense(dense, _) => kron_back(m, form.of(Role::Dense), dense.cols(), to)?,
            _ => continue,
        };
        for (names, d) in [(W1, d1), (W2, d2)] {
            match factor(m, names, to)? {
                Factor::Whole => m.add(names[0], &d, to)?,
                Factor::Product(a, b, rank) => {
                    let (d_a, d_b) = product_back(a, b, rank, &d);
                    m.add(names[1], &d_a, to)?;
                    m.add(names[2], &d_b, to)?;
                }
            }
        }
    }
    Ok(())
}

const W1: [&str; 3] = ["lokr_w1", "lokr_w1_a", "lokr_w1_b"];
const W2: [&str; 3] = ["lokr_w2", "lokr_w2_a", "lokr_w2_b"];

/// A factor as it is saved.
enum Factor<'a> {
    Whole,
    /// Two matrices, and the rank between them.
    Product(&'a [f32], &'a [f32], usize),
}

fn factor<'p>(m: &Module, [whole, a, b]: [&str; 3], parameters: &'p Parameters) -> Result<Factor<'p>> {
    if m.first(&[whole, a], parameters)? == whole {
        return Ok(Factor::Whole);
    }
    let rank = columns(m, a, parameters);
    Ok(Factor::Product(
        m.values(a, parameters)?,
        m.values(b, parameters)?,
        rank,
    ))
}

/// The last dimension of a tensor.
fn columns(m: &Module, name: &str, parameters: &Parameters) -> usize {
    let shape = parameters.get(&m.key(name)).map(|p| &p.shape[..]);
    shape.and_then(|shape| shape.last()).map_or(1, |n| *n)
}

/// From the gradient by W1 ⊗ W2, with so many columns, to those by W1 and W2.
fn kron_back(m: &Module, d: &[f32], cols: usize, parameters: &Parameters) -> Result<(Vec<f32>, Vec<f32>)> {
    // Rows' numbers, and how long a row is.
    let whole = |names: [&str; 3]| -> Result<(Vec<f32>, usize)> {
        Ok(match factor(m, names, parameters)? {
            Factor::Whole => (
                m.values(names[0], parameters)?.to_vec(),
                columns(m, names[0], parameters),
            ),
            Factor::Product(a, b, rank) => (product(a, b, rank), b.len() / rank),
        })
    };
    let ((w1, i1), (w2, i2)) = (whole(W1)?, whole(W2)?);
    let (mut d1, mut d2) = (vec![0.0; w1.len()], vec![0.0; w2.len()]);
    let o2 = w2.len() / i2;
    for (row, d) in d.chunks_exact(cols).enumerate() {
        let (r1, r2) = (row / o2 * i1, row % o2 * i2);
        for (c1, d) in d.chunks_exact(i2).enumerate() {
            for (c2, d) in d.iter().enumerate() {
                d1[r1 + c1] += d * w2[r2 + c2];
                d2[r2 + c2] += d * w1[r1 + c1];
            }
        }
    }
    Ok((d1, d2))
}

/// As factors, B is miss_block, turned and repeated; in the "bat" form the update is W M + M in blocks.
pub(super) fn miss(m: &Module, to: &mut Parameters) -> Result<()> {
    let name = "miss_block";
    let own = |form: &&Pulled| matches!(form.form, Form::LowRank(_) | Form::Dense(..));
    for form in m.forms.iter().filter(own) {
        let mut d = vec![0.0f32; m.values(name, to)?.len()];
        match form.form {
            Form::LowRank(l) => {
                let rank = l.rank();
                let period = d.len() / rank;
                for (row, d_b) in form.of(Role::B).chunks_exact(rank).enumerate() {
                    for (k, g) in d_b.iter().enumerate() {
                        d[k * period + row % period] += g;
                    }
                }
            }
            Form::Dense(dense, _) => {
                let (r, w) = (columns(m, name, to), (m.base)());
                let rows = form.of(Role::Dense).chunks_exact(dense.cols());
                for (row, (d_row, w)) in rows.zip(w.chunks_exact(dense.cols())).enumerate() {
                    let (block, within) = (&mut d[row / r * r * r..][..r * r], row % r);
                    for (g, w) in d_row.chunks_exact(r).zip(w.chunks_exact(r)) {
                        for (f, out) in block.chunks_exact_mut(r).enumerate() {
                            let factor = w[f] + if f == within { 1.0 } else { 0.0 };
                            out.iter_mut().zip(g).for_each(|(out, g)| *out += factor * g);
                        }
                    }
                }
            }
            _ => continue,
        }
        m.add(name, &d, to)?;
    }
    Ok(())
}
