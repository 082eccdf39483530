//! Putting an adapter on a model: paths become sites, rows take the model's order, factors go to the device.

use super::AdapterFile;
use super::forms::Form;
use crate::error::{Error, Result};
use crate::model::backend::Backend;
use crate::model::spec::Spec;
use crate::model::{Part, Site};

/// A form on the device.
enum Op<B: Backend> {
    LowRank { factors: B::LowRank, scale: f32 },
}

/// An adapter on a model: immutable, shared by sessions.
pub struct Attached<B: Backend> {
    /// Ops of each site, by [`Site::index`].
    sites: Vec<Vec<Op<B>>>,
    n_layers: usize,
}

impl<B: Backend> Attached<B> {
    /// Puts `file` on the model that `spec` describes.
    ///
    /// # Errors
    /// A module that the model does not have, or one of another shape.
    pub fn new(backend: &B, spec: &Spec, file: &AdapterFile) -> Result<Self> {
        let mut sites: Vec<_> = std::iter::repeat_with(Vec::new)
            .take(Site::count(spec.n_layers))
            .collect();
        for module in file.sites() {
            let fault = |message: &str| Error::mismatch(message).file(file.path()).item(&module.path);
            let site = match Site::from_hf_path(&module.path) {
                Some(Site::Layer(i, _)) if i >= spec.n_layers => {
                    return Err(fault("the model has no such layer")
                        .expected(format!("layers 0 to {}", spec.n_layers - 1))
                        .found(i));
                }
                Some(site) => site,
                None => {
                    return Err(fault("the model has no such linear module").expected(
                        "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj of a layer, or lm_head",
                    ));
                }
            };
            let (cols, rows) = site_shape(spec, site);
            let ops = &mut sites[site.index(spec.n_layers)];
            if !ops.is_empty() {
                return Err(fault("two modules of the adapter are the same module of the model"));
            }
            for form in &module.forms {
                if form.shape() != (cols, rows) {
                    let (found_cols, found_rows) = form.shape();
                    return Err(fault("shape does not fit the model")
                        .expected(format!("{cols} inputs, {rows} outputs"))
                        .found(format!("{found_cols} inputs, {found_rows} outputs")));
                }
                let mut form = form.clone();
                if let (true, Site::Layer(_, Part::Q | Part::K)) = (spec.permuted_qk, site) {
                    form.permute_rows(|row| interleaved_row(row, spec.head_dim));
                }
                let Form::LowRank(l) = form;
                ops.push(Op::LowRank {
                    factors: backend.low_rank_factors(&l)?,
                    scale: l.scale,
                });
            }
        }
        Ok(Attached {
            sites,
            n_layers: spec.n_layers,
        })
    }

    /// y += weight * update(x) at `site`; x is packed in `acts`, `tmp` is room for what lies between.
    #[allow(clippy::too_many_arguments)] // those of a product, twice
    pub fn apply(
        &self,
        backend: &B,
        site: Site,
        weight: f32,
        x: &B::Buf,
        acts: &mut B::Acts,
        tmp: &mut B::Acts,
        y: &mut B::Buf,
    ) {
        for op in &self.sites[site.index(self.n_layers)] {
            match op {
                Op::LowRank { factors, scale } => backend.low_rank(factors, scale * weight, x, acts, tmp, y),
            }
        }
    }
}

/// (input, output) features of a site.
fn site_shape(spec: &Spec, site: Site) -> (usize, usize) {
    let (hidden, q, kv, ffn) = (spec.hidden_size, spec.q_width(), spec.kv_width(), spec.ffn_size);
    match site {
        Site::Layer(_, Part::Q) => (hidden, q),
        Site::Layer(_, Part::K | Part::V) => (hidden, kv),
        Site::Layer(_, Part::O) => (q, hidden),
        Site::Layer(_, Part::Gate | Part::Up) => (hidden, ffn),
        Site::Layer(_, Part::Down) => (ffn, hidden),
        Site::Head => (hidden, spec.vocab_size),
    }
}

/// Where the converter of llama-family files (`LlamaModel.permute` in convert_hf_to_gguf.py) puts a row of q or k: the two
/// halves of a head become neighbours, so that RoPE on (2i, 2i+1) does what the checkpoint's RoPE on (i, i + half) did.
fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, within, half) = (row / head_dim, row % head_dim, head_dim / 2);
    head * head_dim
        + if within < half {
            2 * within
        } else {
            2 * (within - half) + 1
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_is_the_converters_reshape() {
        // reshape(heads, 2, half).swapaxes(1, 2): element (h, j, i) goes to (h, i, j).
        let (heads, head_dim) = (3, 8);
        let half = head_dim / 2;
        for h in 0..heads {
            for j in 0..2 {
                for i in 0..half {
                    let from = h * head_dim + j * half + i;
                    assert_eq!(interleaved_row(from, head_dim), h * head_dim + i * 2 + j);
                }
            }
        }
    }
}
