//! Sites: the linear maps that an adapter can be put on, and their three names (ours, GGUF's, Hugging Face's).

use std::fmt;

/// One linear map of a layer.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

/// Parts of a layer with GGUF's tensor stem and Hugging Face's module path.
pub const PARTS: [(Part, &str, &str); 7] = [
    (Part::Q, "attn_q", "self_attn.q_proj"),
    (Part::K, "attn_k", "self_attn.k_proj"),
    (Part::V, "attn_v", "self_attn.v_proj"),
    (Part::O, "attn_output", "self_attn.o_proj"),
    (Part::Gate, "ffn_gate", "mlp.gate_proj"),
    (Part::Up, "ffn_up", "mlp.up_proj"),
    (Part::Down, "ffn_down", "mlp.down_proj"),
];

/// Where the decoder's modules stand in the checkpoints of different transformers versions: text models, and text
/// models inside multimodal ones.
const ROOTS: [&str; 4] = [
    "model",
    "model.language_model",
    "language_model.model",
    "language_model",
];
const HEADS: [&str; 2] = ["lm_head", "language_model.lm_head"];

/// A linear map of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// A linear map of a decoder layer.
    Layer(usize, Part),
    /// The output head, tied to the embedding or not.
    Head,
}

impl Site {
    /// Number of sites of a model with `n_layers`.
    pub fn count(n_layers: usize) -> usize {
        n_layers * PARTS.len() + 1
    }

    /// A dense index in `0..Site::count(n_layers)`.
    pub fn index(self, n_layers: usize) -> usize {
        match self {
            Site::Layer(i, part) => i * PARTS.len() + part as usize,
            Site::Head => n_layers * PARTS.len(),
        }
    }

    /// The tensor stem in GGUF, such as `blk.3.attn_q` (`output` for the head; a tied head is `token_embd`).
    pub fn gguf_name(self) -> String {
        match self {
            Site::Layer(i, part) => format!("blk.{i}.{}", PARTS[part as usize].1),
            Site::Head => "output".into(),
        }
    }

    /// The site of a Hugging Face module path such as `model.layers.3.self_attn.q_proj`.
    pub fn from_hf_path(path: &str) -> Option<Self> {
        if HEADS.contains(&path) {
            return Some(Site::Head);
        }
        ROOTS.iter().find_map(|root| {
            let rest = path.strip_prefix(root)?.strip_prefix(".layers.")?;
            let (layer, module) = rest.split_once('.')?;
            // `007` or `+7` are not what a checkpoint writes.
            let index: usize = layer.parse().ok().filter(|i: &usize| i.to_string() == layer)?;
            PARTS.iter().find(|p| p.2 == module).map(|p| Site::Layer(index, p.0))
        })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Layer(i, part) => write!(f, "model.layers.{i}.{}", PARTS[*part as usize].2),
            Site::Head => f.write_str("lm_head"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_sites_and_back() {
        let mut seen = std::collections::HashSet::new();
        for layer in 0..3 {
            for (i, (part, _, _)) in PARTS.iter().enumerate() {
                assert_eq!(*part as usize, i, "PARTS is indexed by Part");
                let site = Site::Layer(layer, *part);
                assert_eq!(Site::from_hf_path(&site.to_string()), Some(site));
                assert!(seen.insert(site.index(3)));
            }
        }
        assert!(seen.insert(Site::Head.index(3)));
        assert_eq!(seen.len(), Site::count(3));
        assert_eq!(
            Site::from_hf_path("language_model.model.layers.1.mlp.up_proj"),
            Some(Site::Layer(1, Part::Up))
        );
        for bad in [
            "model.layers.x.mlp.up_proj",
            "model.layers.01.mlp.up_proj",
            "layers.1.mlp",
            "",
            "model.embed_tokens",
        ] {
            assert_eq!(Site::from_hf_path(bad), None, "{bad}");
        }
    }
}
