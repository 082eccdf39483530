//! BEFT: `<m>.beft_bias` (1, out) is added to the output (peft/tuners/beft/layer.py).

use crate::adapter::Lowered;
use crate::adapter::forms::Form;
use crate::adapter::source::{Method, Source};
use crate::error::Result;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "BEFT",
    options: &[],
    tensors: &["beft_bias"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    source.lower(|module| Ok(vec![Form::OutBias(module.vector("beft_bias")?)]))
}
