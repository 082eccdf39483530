//! The numbers of a model with an adapter, as PEFT's `print_trainable_parameters` counts them.

use std::fmt;

use super::model::Model;
use crate::adapter::AdapterFile;
use crate::adapter::forms::Form;
use crate::model::Site;
use crate::model::backend::Backend;

/// What PEFT counts of a model with an adapter in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterCount {
    /// Trainable numbers.
    pub trained: usize,
    /// All numbers: the base's, and those that the adapter adds.
    pub all: usize,
}

/// As PEFT prints it.
impl fmt::Display for ParameterCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.trained as f64 / self.all as f64;
        write!(
            f,
            "trainable params: {} || all params: {} || trainable%: {percent:.4}",
            with_commas(self.trained),
            with_commas(self.all)
        )
    }
}

fn with_commas(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Model {
    /// The numbers of the checkpoint that the file was made from: all tensors but the table of RoPE's factors. A head that is the embedding
    /// counts once, also where the file has it a second time in another type.
    pub fn parameters(&self) -> usize {
        let head = if self.head_is_embedding_again() {
            "output.weight"
        } else {
            ""
        };
        let counted = |name: &str| name != "rope_freqs.weight" && name != head;
        let tensors = self.gguf().tensors().iter();
        tensors.filter(|t| counted(&t.name)).map(|t| t.elements()).sum()
    }

    /// What PEFT counts of this model with the adapter `file` in training.
    pub fn count(&self, file: &AdapterFile) -> ParameterCount {
        let (spec, counts) = (self.spec(), file.counts());
        let tied = self.tied_head() || self.head_is_embedding_again();
        // Tables that were saved beside the adapter take the place of the base's, with more rows where tokens were added.
        let more = file.sites().iter().map(|module| {
            let in_place = match Site::from_hf_path(&module.path, spec.post_norms) {
                Some(Site::Embed) => true,
                Some(Site::Head) => !tied,
                _ => false,
            };
            let rows = module.forms.iter().map(|form| match form {
                Form::Weight(m, true) if in_place => m.rows().saturating_sub(spec.vocab_size) * m.cols(),
                _ => 0,
            });
            rows.sum::<usize>()
        });
        ParameterCount {
            trained: counts.trained,
            all: self.parameters()
                + counts.trained.saturating_sub(counts.in_place)
                + counts.frozen
                + more.sum::<usize>(),
        }
    }

    /// Whether the file has a head of its own whose numbers are those of the embedding: quantizers write a tied pair in two types.
    fn head_is_embedding_again(&self) -> bool {
        /// Rows to compare.
        const ROWS: usize = 64;
        /// Of what packing to 2 bits changes, and of the difference of two tables (about 2), on either side of it.
        const SAME: f64 = 0.25;
        if self.tied_head() {
            return false;
        }
        let (spec, weights) = (self.spec(), self.weights());
        let read = |weight| {
            let mut rows = vec![0.0; ROWS.min(spec.vocab_size) * spec.hidden_size];
            self.backend().read_rows(weight, 0, &mut rows);
            rows
        };
        let (embed, head) = (read(&weights.embed), read(&weights.head.weight));
        let square = |v: f32| f64::from(v) * f64::from(v);
        let apart: f64 = embed.iter().zip(&head).map(|(a, b)| square(a - b)).sum();
        let size: f64 = embed.iter().map(|v| square(*v)).sum();
        apart < SAME * size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (n, text) in [
            (0, "0"),
            (12, "12"),
            (999, "999"),
            (1000, "1,000"),
            (123_456, "123,456"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(with_commas(n), text);
        }
    }
}
