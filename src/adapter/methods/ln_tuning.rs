//! LN tuning (Zhao et al. 2023, arXiv 2312.11420): whole norms, trained; `<norm>.ln_tuning_layers.weight` stands in place of the
//! norm's weight (peft/tuners/ln_tuning/layer.py).

use crate::adapter::Lowered;
use crate::adapter::forms::Form;
use crate::adapter::matrix::Matrix;
use crate::adapter::source::{Method, Source, matrix};
use crate::error::Result;

const WEIGHT: &str = "ln_tuning_layers.weight";
const BIAS: &str = "ln_tuning_layers.bias";

/// The method.
pub const METHOD: Method = Method {
    peft_type: "LN_TUNING",
    options: &[],
    tensors: &[WEIGHT, BIAS],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    source.lower(|module| {
        let t = module.need(WEIGHT)?;
        let weight = match t.shape.len() {
            2 => matrix(t)?,
            _ => Matrix::from_tensor(t, 1, module.vector(WEIGHT)?.len())?,
        };
        let mut forms = vec![Form::Weight(weight, false)];
        if module.get(BIAS).is_some() {
            forms.push(Form::Bias(module.vector(BIAS)?));
        }
        Ok(forms)
    })
}
