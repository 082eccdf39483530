//! IA3 (Liu et al. 2022, arXiv 2205.05638): one factor a feature. `<m>.ia3_l` is (1, in) on feed-forward modules, y = W (l ⊙ x) + b,
//! and (out, 1) on others, y = l ⊙ (W x + b), bias included (peft/tuners/ia3/layer.py).

use crate::adapter::Lowered;
use crate::adapter::forms::Form;
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Source, bad_shape};
use crate::error::Result;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "IA3",
    options: &[("feedforward_modules", Rule::Fine), ("init_ia3_weights", Rule::Fine)],
    tensors: &["ia3_l"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    source.lower(|module| {
        let (t, l) = (module.need("ia3_l")?, module.vector("ia3_l")?);
        Ok(vec![match t.shape[..] {
            [1, _] => Form::InScale(l),
            [_, 1] => Form::OutScale(l),
            _ => return Err(bad_shape(t, "[1, in] or [out, 1]")),
        }])
    })
}
