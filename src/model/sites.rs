//! Sites: the modules that an adapter can be put on, and their names in GGUF and in Hugging Face's checkpoints.

use std::fmt;

/// One module of a layer: a linear map, or a norm.
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
    AttnNorm,
    QNorm,
    KNorm,
    AttnPostNorm,
    FfnNorm,
    FfnPostNorm,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 13] = {
        let mut all = [Part::Q; PARTS.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = PARTS[i].part;
            i += 1;
        }
        all
    };

    /// The linear maps in the order of the forward pass, those of the same input together.
    pub const PASS: [&[Part]; 4] = [
        &[Part::Q, Part::K, Part::V],
        &[Part::O],
        &[Part::Gate, Part::Up],
        &[Part::Down],
    ];
}

/// What a part is called.
struct Names {
    part: Part,
    /// GGUF's tensor stem.
    gguf: &'static str,
    /// Hugging Face's module path within a layer.
    hf: &'static str,
    /// The same in models with norms behind attention and MLP (the Gemma family), where it differs.
    hf_post_norms: &'static str,
}

const fn names(part: Part, gguf: &'static str, hf: &'static str) -> Names {
    Names {
        part,
        gguf,
        hf,
        hf_post_norms: hf,
    }
}

/// By [`Part`].
const PARTS: [Names; 13] = [
    names(Part::Q, "attn_q", "self_attn.q_proj"),
    names(Part::K, "attn_k", "self_attn.k_proj"),
    names(Part::V, "attn_v", "self_attn.v_proj"),
    names(Part::O, "attn_output", "self_attn.o_proj"),
    names(Part::Gate, "ffn_gate", "mlp.gate_proj"),
    names(Part::Up, "ffn_up", "mlp.up_proj"),
    names(Part::Down, "ffn_down", "mlp.down_proj"),
    names(Part::AttnNorm, "attn_norm", "input_layernorm"),
    names(Part::QNorm, "attn_q_norm", "self_attn.q_norm"),
    names(Part::KNorm, "attn_k_norm", "self_attn.k_norm"),
    Names {
        part: Part::AttnPostNorm,
        gguf: "post_attention_norm",
        hf: "",
        hf_post_norms: "post_attention_layernorm",
    },
    Names {
        part: Part::FfnNorm,
        gguf: "ffn_norm",
        hf: "post_attention_layernorm",
        hf_post_norms: "pre_feedforward_layernorm",
    },
    Names {
        part: Part::FfnPostNorm,
        gguf: "post_ffw_norm",
        hf: "",
        hf_post_norms: "post_feedforward_layernorm",
    },
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
const EMBED: &str = "embed_tokens";
const OUTPUT_NORM: &str = "norm";

/// A module of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// The token embedding: as a linear map of one-hot tokens, V inputs and hidden_size outputs.
    Embed,
    /// A module of a decoder layer.
    Layer(usize, Part),
    /// The norm behind the last layer.
    OutputNorm,
    /// The output head, tied to the embedding or not.
    Head,
}

/// By [`Site::index`].
impl Ord for Site {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.index().cmp(&other.index())
    }
}

impl PartialOrd for Site {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Site {
    /// Number of sites of a model with `n_layers`.
    pub fn count(n_layers: usize) -> usize {
        n_layers * PARTS.len() + 3
    }

    /// A dense index in `0..Site::count(n)` for a model of any `n` layers that has this site.
    pub fn index(self) -> usize {
        match self {
            Site::Embed => 0,
            Site::OutputNorm => 1,
            Site::Head => 2,
            Site::Layer(i, part) => 3 + i * PARTS.len() + part as usize,
        }
    }

    /// The tensor stem in GGUF, such as `blk.3.attn_q` (`output` for the head; a tied head is `token_embd`).
    pub fn gguf_name(self) -> String {
        match self {
            Site::Embed => "token_embd".into(),
            Site::Layer(i, part) => format!("blk.{i}.{}", PARTS[part as usize].gguf),
            Site::OutputNorm => "output_norm".into(),
            Site::Head => "output".into(),
        }
    }

    /// The site whose tensor stem in GGUF is `name`: [`Site::gguf_name`] backwards.
    pub fn from_gguf_name(name: &str) -> Option<Self> {
        match name {
            "token_embd" => return Some(Site::Embed),
            "output_norm" => return Some(Site::OutputNorm),
            "output" => return Some(Site::Head),
            _ => {}
        }
        let (layer, stem) = name.strip_prefix("blk.")?.split_once('.')?;
        let index = layer_index(layer)?;
        let part = PARTS.iter().find(|p| p.gguf == stem)?.part;
        Some(Site::Layer(index, part))
    }

    /// The same of layer `index`, if it is of a layer.
    pub fn in_layer(self, index: usize) -> Self {
        match self {
            Site::Layer(_, part) => Site::Layer(index, part),
            site => site,
        }
    }

    /// Whether it is a norm: a vector of weights, no linear map.
    pub fn is_norm(self) -> bool {
        match self {
            Site::OutputNorm => true,
            Site::Layer(_, part) => part as usize >= Part::AttnNorm as usize,
            Site::Embed | Site::Head => false,
        }
    }

    /// The site of a Hugging Face module path such as `model.layers.3.self_attn.q_proj`. `post_norms`: the model has
    /// norms behind attention and MLP as well, and calls its norms accordingly.
    pub fn from_hf_path(path: &str, post_norms: bool) -> Option<Self> {
        if HEADS.contains(&path) {
            return Some(Site::Head);
        }
        ROOTS.iter().find_map(|root| {
            let rest = path.strip_prefix(root)?.strip_prefix('.')?;
            match rest {
                EMBED => return Some(Site::Embed),
                OUTPUT_NORM => return Some(Site::OutputNorm),
                _ => {}
            }
            let (layer, module) = rest.strip_prefix("layers.")?.split_once('.')?;
            let index = layer_index(layer)?;
            let name = |p: &Names| if post_norms { p.hf_post_norms } else { p.hf };
            PARTS
                .iter()
                .find(|p| !module.is_empty() && name(p) == module)
                .map(|p| Site::Layer(index, p.part))
        })
    }

    /// The Hugging Face path in a text model.
    pub fn hf_path(self, post_norms: bool) -> String {
        match self {
            Site::Embed => format!("model.{EMBED}"),
            Site::OutputNorm => format!("model.{OUTPUT_NORM}"),
            Site::Head => "lm_head".into(),
            Site::Layer(i, part) => {
                let p = &PARTS[part as usize];
                let module = if post_norms { p.hf_post_norms } else { p.hf };
                format!("model.layers.{i}.{module}")
            }
        }
    }
}

/// The number of a layer; `007` or `+7` are not what a file has.
fn layer_index(text: &str) -> Option<usize> {
    text.parse().ok().filter(|i: &usize| i.to_string() == text)
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.gguf_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_sites_and_back() {
        for post_norms in [false, true] {
            let mut seen = std::collections::HashSet::new();
            for layer in 0..3 {
                for (i, names) in PARTS.iter().enumerate() {
                    assert_eq!(names.part as usize, i, "PARTS is indexed by Part");
                    let site = Site::Layer(layer, names.part);
                    assert!(seen.insert(site.index()));
                    assert_eq!(Site::from_gguf_name(&site.gguf_name()), Some(site));
                    if post_norms || !names.hf.is_empty() {
                        assert_eq!(Site::from_hf_path(&site.hf_path(post_norms), post_norms), Some(site));
                    }
                }
            }
            for site in [Site::Embed, Site::OutputNorm, Site::Head] {
                assert!(seen.insert(site.index()));
                assert_eq!(Site::from_hf_path(&site.hf_path(post_norms), post_norms), Some(site));
                assert_eq!(Site::from_gguf_name(&site.gguf_name()), Some(site));
            }
            assert_eq!(seen.len(), Site::count(3));
            assert!(seen.iter().all(|i| *i < seen.len()), "indices are dense");
            assert_eq!(
                Site::from_hf_path("language_model.model.layers.1.mlp.up_proj", post_norms),
                Some(Site::Layer(1, Part::Up))
            );
            for bad in [
                "model.layers.x.mlp.up_proj",
                "model.layers.01.mlp.up_proj",
                "model.layers.0.",
                "layers.1.mlp",
                "",
                "model",
            ] {
                assert_eq!(Site::from_hf_path(bad, post_norms), None, "{bad}");
            }
            for bad in ["blk.01.attn_q", "blk.0.", "blk.0.attn_qkv", "blk.attn_q", "attn_q", ""] {
                assert_eq!(Site::from_gguf_name(bad), None, "{bad}");
            }
        }
    }

    #[test]
    fn a_norm_behind_attention_is_another_one_in_each_family() {
        let path = "model.layers.0.post_attention_layernorm";
        assert_eq!(Site::from_hf_path(path, false), Some(Site::Layer(0, Part::FfnNorm)));
        assert_eq!(Site::from_hf_path(path, true), Some(Site::Layer(0, Part::AttnPostNorm)));
    }
}
