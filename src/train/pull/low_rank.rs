//! LoRA and what has its factors.

use super::{Module, Pulled};
use crate::adapter::forms::{Form, LowRank};
use crate::adapter::trained::Role;
use crate::error::Result;
use crate::linalg;
use crate::train::parameters::Parameters;

pub(super) fn lora(m: &Module, to: &mut Parameters) -> Result<()> {
    let updates = m.forms.iter().filter_map(|form| match form.form {
        Form::LowRank(l) | Form::Dora(l, _) if !l.fixed => Some((form, l)),
        _ => None,
    });
    // A bias of B stands there times the scale of the update.
    let mut scale = 1.0;
    for (form, l) in updates {
        factors(m, form, l, to)?;
        scale = l.scale;
    }
    for form in &m.forms {
        if matches!(form.form, Form::OutBias(_)) {
            let bias: Vec<f32> = form.of(Role::Bias).iter().map(|g| g * scale).collect();
            m.add("lora_B.bias", &bias, to)?;
        }
    }
    Ok(())
}

/// A, B and the magnitudes of one update.
fn factors(m: &Module, form: &Pulled, l: &LowRank, to: &mut Parameters) -> Result<()> {
    let (rank, a, b) = (l.rank(), form.of(Role::A), form.of(Role::B));
    let name_a = m.first(&["lora_A.weight", "lora_embedding_A"], to)?;
    if name_a == "lora_embedding_A" {
        // It has a row for each token.
        m.add(name_a, &linalg::transpose(a.len() / rank, rank, a), to)?;
        m.add("lora_embedding_B", b, to)?;
    } else {
        for (name, grad, rows) in [(name_a, a, rank), ("lora_B.weight", b, l.b.rows())] {
            let stored = m.values(name, to)?.len();
            let grad = match to.start_of(&m.key(name)) {
                // What the update began with is behind what is trained.
                Some(_) if name == name_a => grad[..stored].to_vec(),
                Some(_) => first_columns(grad, rank, rank / 2),
                None => diagonal_blocks(grad, rows, stored),
            };
            m.add(name, &grad, to)?;
        }
    }
    if matches!(form.form, Form::Dora(..)) {
        let name = m.first(&["lora_magnitude_vector.weight", "lora_magnitude_vector"], to)?;
        m.add(name, form.of(Role::Magnitude), to)?;
    }
    Ok(())
}

/// The first of so many columns.
fn first_columns(matrix: &[f32], cols: usize, first: usize) -> Vec<f32> {
    let rows = matrix.chunks_exact(cols);
    rows.flat_map(|row| &row[..first]).copied().collect()
}

/// Of a matrix with so many `rows` the blocks on its diagonal, one under the other, as BD-LoRA saves them in `stored` numbers; the matrix
/// itself, if these are all.
fn diagonal_blocks(matrix: &[f32], rows: usize, stored: usize) -> Vec<f32> {
    let blocks = matrix.len() / stored.max(1);
    if blocks <= 1 || !rows.is_multiple_of(blocks) {
        return matrix.to_vec();
    }
    let (width, of) = (stored / rows, rows / blocks);
    let rows = matrix.chunks_exact(width * blocks).enumerate();
    rows.flat_map(|(i, row)| &row[i / of * width..][..width])
        .copied()
        .collect()
}

/// a_k = E_k A_k. A module that lost all its ranks has no form.
pub(super) fn adalora(m: &Module, to: &mut Parameters) -> Result<()> {
    for form in m.forms.iter().filter(|f| matches!(f.form, Form::LowRank(_))) {
        let (a, e) = (m.values("lora_A", to)?, m.values("lora_E", to)?);
        let cols = a.len() / e.len().max(1);
        let (mut d_a, mut d_e) = (form.of(Role::A).to_vec(), Vec::with_capacity(e.len()));
        for ((d, a), e) in d_a.chunks_exact_mut(cols).zip(a.chunks_exact(cols)).zip(e) {
            d_e.push(d.iter().zip(a).map(|(d, a)| d * a).sum());
            d.iter_mut().for_each(|d| *d *= e);
        }
        m.add("lora_A", &d_a, to)?;
        m.add("lora_E", &d_e, to)?;
        m.add("lora_B", form.of(Role::B), to)?;
    }
    Ok(())
}

/// The projections are not trained.
pub(super) fn vera(m: &Module, to: &mut Parameters) -> Result<()> {
    m.hand(Role::Mid, "vera_lambda_d", to)?;
    m.hand(Role::Out, "vera_lambda_b", to)
}
