//! How a token is to be chosen from logits, as a device is told it.

/// What [`Backend::draw`](crate::model::backend::Backend::draw) chooses by. `runtime/sampler.rs` says what each rule means, and their order.
#[derive(Clone, Debug)]
pub struct Draw<'a> {
    /// Logits that change before anything else; each token once.
    pub edits: &'a [Edit],
    /// What those of tokens that were seen are divided by, or multiplied with where they are negative.
    pub repeat_penalty: f32,
    /// What they lose for each time.
    pub frequency_penalty: f32,
    /// What they lose once.
    pub presence_penalty: f32,
    /// 0: the highest.
    pub temperature: f32,
    /// `None`: all.
    pub top_k: Option<usize>,
    /// `None`: all.
    pub top_p: Option<f32>,
    /// `None`: all.
    pub min_p: Option<f32>,
    /// Where in the line of all shares the token lies: in [0, 1), of 53 bits.
    pub unit: f64,
}

/// A logit that changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edit {
    /// Of this token.
    pub id: u32,
    /// How often it was seen: penalties apply where it was.
    pub seen: u32,
    /// Added in the end.
    pub bias: f32,
}
