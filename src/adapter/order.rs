//! The order of rows: llama-family files have those of q and k in another one than the checkpoints that adapters were made for.

use super::forms::Form;
use crate::model::spec::Spec;
use crate::model::{Part, Site};

/// Whether rows on `site` stand in two orders.
fn is_permuted(spec: &Spec, site: Site) -> bool {
    spec.permuted_qk && matches!(site, Site::Layer(_, Part::Q | Part::K))
}

/// Moves the rows of forms on `site` from Hugging Face's order to that of a model's file.
pub fn to_file_order(spec: &Spec, site: Site, form: &mut Form) {
    if is_permuted(spec, site) {
        form.permute_rows(&|row| interleaved_row(row, spec.head_dim));
    }
}

/// The way back.
pub(super) fn to_hf_order(spec: &Spec, site: Site, form: &mut Form) {
    if is_permuted(spec, site) {
        form.permute_rows(&|row| halves_row(row, spec.head_dim));
    }
}

/// The numbers of a tensor with a row for each output of `site`, moved from the order of a model's file to Hugging Face's.
pub fn rows_to_hf_order(spec: &Spec, site: Site, rows: usize, values: &mut Vec<f32>) {
    if is_permuted(spec, site) {
        let stored = std::mem::take(values);
        let width = stored.len() / rows.max(1);
        for row in 0..rows {
            values.extend_from_slice(&stored[interleaved_row(row, spec.head_dim) * width..][..width]);
        }
    }
}

/// Where the converter of llama-family files (`LlamaModel.permute` in convert_hf_to_gguf.py) puts a row of q or k: the two
/// halves of a head become neighbours, so that RoPE on (2i, 2i+1) does what the checkpoint's RoPE on (i, i + half) did.
pub(super) fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, within, half) = (row / head_dim, row % head_dim, head_dim / 2);
    head * head_dim
        + if within < half {
            2 * within
        } else {
            2 * (within - half) + 1
        }
}

/// Where a row of such a file stands in the checkpoint: [`interleaved_row`] backwards.
fn halves_row(row: usize, head_dim: usize) -> usize {
    let (head, within, half) = (row / head_dim, row % head_dim, head_dim / 2);
    head * head_dim + within / 2 + half * (within % 2)
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
                    assert_eq!(halves_row(h * head_dim + i * 2 + j, head_dim), from);
                }
            }
        }
    }
}
