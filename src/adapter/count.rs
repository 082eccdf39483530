//! The numbers of an adapter, counted as PEFT counts them: `get_nb_trainable_parameters` (peft/peft_model.py) goes through all parameters of
//! the model under the adapter, each once, and adds up their elements; trainable are those that need a gradient.

use super::Lowered;
use super::forms::Form;
use super::source::Source;
use crate::error::Result;

/// How many numbers an adapter has, as PEFT sees it while it is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Trained: the method's tensors, whole modules of `modules_to_save`, rows of tokens (those of a tied head are the embedding's, saved
    /// twice), biases. Not VeRA's projection, which is drawn, and not an embedding or head that was saved beside the adapter.
    pub trained: usize,
    /// Of these the base's own, trained where they are (biases, by the option `bias`): they add nothing to the model.
    pub in_place: usize,
    /// What PEFT adds to the model and does not train: the rank of each module of AdaLoRA (`ranknum`), which is not in the file.
    pub frozen: usize,
    /// An encoder made the prompt, and only the prompt is in the file (P-tuning, prefix tuning with `prefix_projection`): while it was
    /// trained PEFT counted the encoder too.
    pub encoder: bool,
}

impl Counts {
    /// Of the adapter in `source`, a folder of `peft_type`, that was lowered to `lowered`.
    ///
    /// # Errors
    /// An option of the wrong type.
    pub(super) fn of(source: &Source, peft_type: &str, lowered: &Lowered) -> Result<Self> {
        let forms = || lowered.sites.iter().flat_map(|site| &site.forms);
        let table = |form: &Form| match form {
            Form::Weight(m, true) => m.len(),
            _ => 0,
        };
        let mut rows = forms().filter_map(|form| match form {
            Form::Rows(ids, m) => Some((ids, m)),
            _ => None,
        });
        let twice = match (rows.next(), rows.next()) {
            (Some(a), Some(b)) if a == b => a.1.len(),
            _ => 0,
        };
        let prompt = lowered.prefix.as_ref().map_or(0, |_| source.shared_numbers());
        Ok(Counts {
            trained: (source.numbers() + prompt).saturating_sub(forms().map(table).sum::<usize>() + twice),
            in_place: source.numbers_in_place(),
            frozen: if peft_type == "ADALORA" {
                source.modules().len()
            } else {
                0
            },
            encoder: match peft_type {
                "P_TUNING" => true,
                "PREFIX_TUNING" => source.folder.bool("prefix_projection", false)?,
                _ => false,
            },
        })
    }
}
