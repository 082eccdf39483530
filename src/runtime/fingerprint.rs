//! What tells models apart: two that have the same fingerprint compute the same.

use std::fmt::Write;

use crate::model::backend::Backend;
use crate::model::cpu::CpuWeight;
use crate::model::weights::{Linear, Weights};
use crate::model::{Device, Part};

use super::model::Model;

/// Places of a mapped matrix that are looked at: enough to tell one fine-tune from another without reading the file.
const PLACES: usize = 16;
/// Bytes at each.
const PLACE_BYTES: usize = 8;

/// FNV-1a with 64 bits over words of four bytes. Any change of one word changes it, for each step is a bijection; it is
/// no protection against somebody who means harm.
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    /// Adds `bytes`; an end that is no whole word is filled up with zeros.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let mut step =
            |word| self.0 = (self.0 ^ u64::from(u32::from_le_bytes(word))).wrapping_mul(0x0000_0100_0000_01b3);
        let (words, rest) = bytes.as_chunks::<4>();
        words.iter().for_each(|word| step(*word));
        if !rest.is_empty() {
            let mut word = [0; 4];
            word[..rest.len()].copy_from_slice(rest);
            step(word);
        }
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }

    fn text(&mut self, text: &str) {
        self.add(&(text.len() as u64).to_le_bytes());
        self.add(text.as_bytes());
    }

    fn matrix(&mut self, w: &CpuWeight) {
        self.text(w.format().name());
        let bytes = w.bytes();
        for n in [w.rows(), w.cols(), bytes.len()] {
            self.add(&(n as u64).to_le_bytes());
        }
        if !w.is_mapped() {
            // Merged weights may differ from the file's in a few bytes, and are in memory.
            return self.add(bytes);
        }
        let last = bytes.len().saturating_sub(PLACE_BYTES);
        for place in 0..PLACES {
            let at = last / (PLACES - 1) * place;
            self.add(&bytes[at..bytes.len().min(at + PLACE_BYTES)]);
        }
    }

    fn vector(&mut self, b: &Device, vector: Option<&<Device as Backend>::Vector>) {
        let values = vector.map(|v| b.read_vector(v)).unwrap_or_default();
        self.add(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| self.add(&v.to_le_bytes()));
    }

    fn linear(&mut self, b: &Device, linear: &Linear<Device>) {
        self.matrix(b.host(&linear.weight));
        self.vector(b, linear.bias.as_ref());
    }
}

/// The fingerprint of what the file says about the architecture, and of the weights: of large ones in the file some places.
pub(super) fn of(model: &Model) -> u64 {
    let mut digest = Digest::new();
    let prefix = format!("{}.", model.spec().arch);
    digest.text(&prefix);
    let mut line = String::new();
    for (key, value) in model
        .gguf()
        .metadata()
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
    {
        line.clear();
        let _ = write!(line, "{key}={value}");
        digest.text(&line);
    }
    if let Some(t) = model.gguf().tensor("rope_freqs.weight") {
        digest.add(model.gguf().data(t));
    }
    let Weights {
        embed,
        layers,
        output_norm,
        head,
        ..
    } = model.weights();
    let b = model.backend();
    digest.matrix(b.host(embed));
    for layer in layers {
        for part in Part::ALL {
            if let Some(linear) = layer.linear(part) {
                digest.linear(b, linear);
            }
        }
        let norms = [&layer.attn_norm, &layer.ffn_norm].map(Some);
        let more = [
            &layer.q_norm,
            &layer.k_norm,
            &layer.attn_post_norm,
            &layer.ffn_post_norm,
        ]
        .map(Option::as_ref);
        norms.into_iter().chain(more).for_each(|norm| digest.vector(b, norm));
    }
    digest.vector(b, Some(output_norm));
    digest.linear(b, head);
    digest.value()
}
