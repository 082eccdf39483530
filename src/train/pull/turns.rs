//! What turns inputs or outputs: OFT, BOFT, HRA, RoAd. In f64, as their lowering.

use super::Module;
use crate::adapter::forms::{Blocks, Form};
use crate::adapter::methods::{cayley, hra as reflections, oft as rotations};
use crate::adapter::trained::Role;
use crate::error::Result;
use crate::train::parameters::{Parameter, Parameters};

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

const OFT_R: [&str; 2] = ["oft_R.weight", "oft_embedding_R.weight"];

/// The largest norm of each Q of a tensor that the config allows.
fn norm_bound(parameters: &Parameters, tensor: &Parameter) -> Option<f64> {
    let eps = parameters.number("eps", 6e-5);
    let blocks = tensor.shape.first().copied().unwrap_or(1);
    parameters
        .flag("coft", false)
        .then(|| rotations::norm_bound(eps, blocks))
}

/// The numbers above the diagonals of skew-symmetric matrices.
pub(super) fn oft(m: &Module, to: &mut Parameters) -> Result<()> {
    let series = to.flag("use_cayley_neumann", true);
    let terms = to.number("num_cayley_neumann_terms", 5.0) as usize;
    for form in &m.forms {
        let (Form::InBlocks(blocks) | Form::OutBlocks(blocks)) = form.form else {
            continue;
        };
        let (n, size) = (blocks.size, blocks.size * blocks.size);
        let name = m.first(&OFT_R, to)?;
        let Some(tensor) = to.get(&m.key(name)) else { continue };
        let most = norm_bound(to, tensor);
        let width = n * (n - 1) / 2;
        let mut d = vec![0.0f32; tensor.values.len()];
        // A block that all share stands there once.
        let stored = (tensor.values.len() / width.max(1)).max(1);
        for (at, (g, r)) in form
            .of(Role::Blocks)
            .chunks_exact(size)
            .zip(blocks.blocks.chunks_exact(size))
            .enumerate()
        {
            let of = at % stored * width;
            // With coft the norm was cut before the step, outside of what gradients see, as in PEFT: see `settle_oft`.
            let q = rotations::skew(&tensor.values[of..][..width], n, most);
            let d_q = if series {
                cayley::neumann_back(&q, &wide(g), n, terms)
            } else {
                cayley::cayley_back(&wide(r), &wide(g), n)
            };
            let above = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
            for (d, (i, j)) in d[of..][..width].iter_mut().zip(above) {
                *d += (d_q[i * n + j] - d_q[j * n + i]) as f32;
            }
        }
        m.add(name, &d, to)?;
    }
    Ok(())
}

/// With coft PEFT cuts the norms of the stored matrices themselves, at each forward pass.
pub(super) fn settle_oft(parameters: &mut Parameters) -> bool {
    let bounds: Vec<_> = parameters.all().iter().map(|t| norm_bound(parameters, t)).collect();
    let mut any = false;
    for (tensor, most) in parameters.all_mut().iter_mut().zip(bounds) {
        if most.is_none() || !OFT_R.iter().any(|name| tensor.key.ends_with(name)) {
            continue;
        }
        any = true;
        let width = tensor.shape.last().map_or(1, |n| *n).max(1);
        let n = rotations::side(width);
        for numbers in tensor.values.chunks_exact_mut(width) {
            let q = rotations::skew(numbers, n, most);
            let above = (0..n).flat_map(|i| (i + 1..n).map(move |j| i * n + j));
            numbers.iter_mut().zip(above).for_each(|(v, at)| *v = q[at] as f32);
        }
    }
    any
}

/// Rotations of S = (R - R^T) / 2, and the factors behind the product.
pub(super) fn boft(m: &Module, to: &mut Parameters) -> Result<()> {
    let turn = |(form, blocks): (&super::Pulled, &Blocks)| -> Vec<f32> {
        let (n, size) = (blocks.size, blocks.size * blocks.size);
        let each = form
            .of(Role::Blocks)
            .chunks_exact(size)
            .zip(blocks.blocks.chunks_exact(size));
        each.flat_map(|(g, r)| {
            let d = cayley::cayley_back(&wide(r), &wide(g), n);
            (0..size).map(move |p| (0.5 * (d[p] - d[p % n * n + p / n])) as f32)
        })
        .collect()
    };
    let steps = m.forms.iter().filter_map(|form| match form.form {
        Form::InBlocks(blocks) => Some((form, blocks)),
        _ => None,
    });
    // The last step of the file turns x first.
    let d: Vec<f32> = steps.rev().flat_map(turn).collect();
    if !d.is_empty() {
        m.add("boft_R", &d, to)?;
    }
    m.hand(Role::Factors, "boft_s", to)
}

pub(super) fn hra(m: &Module, to: &mut Parameters) -> Result<()> {
    let orthogonal = to.flag("apply_GS", false);
    for form in &m.forms {
        if let Form::InLowRank(l) = form.form {
            let stored = m.values("hra_u", to)?;
            let d = reflections::back(stored, l.rank(), orthogonal, form.of(Role::A), form.of(Role::B));
            m.add("hra_u", &d, to)?;
        }
    }
    Ok(())
}

/// f = α cos θ and h = ±α sin θ: one α and one θ for a pair (road_1), for a feature (road_2), or for f and for h (road_4).
pub(super) fn road(m: &Module, to: &mut Parameters) -> Result<()> {
    let group = to.number("group_size", 64.0) as usize;
    let variant = to.text("variant").unwrap_or("road_1").to_owned();
    for form in &m.forms {
        let Form::OutPairs(_) = form.form else { continue };
        let (theta, alpha) = (m.values("road_theta", to)?, m.values("road_alpha", to)?);
        let (mut d_theta, mut d_alpha) = (vec![0.0f32; theta.len()], vec![0.0f32; alpha.len()]);
        let (f, h) = (form.of(Role::Factors), form.of(Role::PartnerFactors));
        for (j, (df, dh)) in f.iter().zip(h).enumerate() {
            let (at_f, at_h, sign) = crate::adapter::methods::road::places(&variant, group, j);
            let (sin, cos) = theta[at_f].sin_cos();
            d_alpha[at_f] += df * cos;
            d_theta[at_f] -= df * alpha[at_f] * sin;
            let (sin, cos) = theta[at_h].sin_cos();
            d_alpha[at_h] += sign * dh * sin;
            d_theta[at_h] += sign * dh * alpha[at_h] * cos;
        }
        m.add("road_theta", &d_theta, to)?;
        m.add("road_alpha", &d_alpha, to)?;
    }
    Ok(())
}
