//! Every tensor of the file, claimed by name and checked by shape. A tensor that nobody claims is an error: the model
//! would not be the one that the file describes.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::format::{Gguf, TensorInfo};

use super::backend::Backend;
use super::sites::{Part, Site};
use super::spec::Spec;

/// A linear map: y = x w^T + bias.
pub struct Linear<B: Backend> {
    /// The matrix `[out][in]`.
    pub weight: B::Weight,
    /// The bias `[out]`.
    pub bias: Option<B::Vector>,
    /// Where it stands: its layer is the base's, whatever layers an adapter repeats.
    pub site: Site,
    /// Input features.
    pub cols: usize,
    /// Output features.
    pub rows: usize,
}

/// A decoder layer.
#[allow(missing_docs)]
pub struct Layer<B: Backend> {
    pub attn_norm: B::Vector,
    pub q: Linear<B>,
    pub k: Linear<B>,
    pub v: Linear<B>,
    pub q_norm: Option<B::Vector>,
    pub k_norm: Option<B::Vector>,
    pub o: Linear<B>,
    pub attn_post_norm: Option<B::Vector>,
    pub ffn_norm: B::Vector,
    pub gate: Linear<B>,
    pub up: Linear<B>,
    pub down: Linear<B>,
    pub ffn_post_norm: Option<B::Vector>,
}

impl<B: Backend> Clone for Linear<B>
where
    B::Weight: Clone,
    B::Vector: Clone,
{
    fn clone(&self) -> Self {
        Linear {
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            ..*self
        }
    }
}

impl<B: Backend> Clone for Layer<B>
where
    B::Weight: Clone,
    B::Vector: Clone,
{
    fn clone(&self) -> Self {
        Layer {
            attn_norm: self.attn_norm.clone(),
            q: self.q.clone(),
            k: self.k.clone(),
            v: self.v.clone(),
            q_norm: self.q_norm.clone(),
            k_norm: self.k_norm.clone(),
            o: self.o.clone(),
            attn_post_norm: self.attn_post_norm.clone(),
            ffn_norm: self.ffn_norm.clone(),
            gate: self.gate.clone(),
            up: self.up.clone(),
            down: self.down.clone(),
            ffn_post_norm: self.ffn_post_norm.clone(),
        }
    }
}

impl<B: Backend> Layer<B> {
    /// The linear map `part`, to change it.
    pub fn linear_mut(&mut self, part: Part) -> Option<&mut Linear<B>> {
        Some(match part {
            Part::Q => &mut self.q,
            Part::K => &mut self.k,
            Part::V => &mut self.v,
            Part::O => &mut self.o,
            Part::Gate => &mut self.gate,
            Part::Up => &mut self.up,
            Part::Down => &mut self.down,
            _ => return None,
        })
    }

    /// The norm `part`, to change it; `None` for a linear map, and where the model has no such norm.
    pub fn norm_mut(&mut self, part: Part) -> Option<&mut B::Vector> {
        match part {
            Part::AttnNorm => Some(&mut self.attn_norm),
            Part::QNorm => self.q_norm.as_mut(),
            Part::KNorm => self.k_norm.as_mut(),
            Part::AttnPostNorm => self.attn_post_norm.as_mut(),
            Part::FfnNorm => Some(&mut self.ffn_norm),
            Part::FfnPostNorm => self.ffn_post_norm.as_mut(),
            _ => None,
        }
    }

    /// The norm `part`; `None` for a linear map, and where the model has no such norm.
    pub fn norm(&self, part: Part) -> Option<&B::Vector> {
        match part {
            Part::AttnNorm => Some(&self.attn_norm),
            Part::QNorm => self.q_norm.as_ref(),
            Part::KNorm => self.k_norm.as_ref(),
            Part::AttnPostNorm => self.attn_post_norm.as_ref(),
            Part::FfnNorm => Some(&self.ffn_norm),
            Part::FfnPostNorm => self.ffn_post_norm.as_ref(),
            _ => None,
        }
    }

    /// Whether it has such a module: not every model has all norms.
    pub fn has(&self, part: Part) -> bool {
        self.linear(part).is_some() || self.norm(part).is_some()
    }

    /// The linear map `part`; `None` for a norm.
    pub fn linear(&self, part: Part) -> Option<&Linear<B>> {
        Some(match part {
            Part::Q => &self.q,
            Part::K => &self.k,
            Part::V => &self.v,
            Part::O => &self.o,
            Part::Gate => &self.gate,
            Part::Up => &self.up,
            Part::Down => &self.down,
            _ => return None,
        })
    }
}

/// A model's weights on a device.
#[allow(missing_docs)]
pub struct Weights<B: Backend> {
    pub embed: B::Weight,
    pub layers: Vec<Layer<B>>,
    pub output_norm: B::Vector,
    /// The head; a tied head is the embedding, viewed again.
    pub head: Linear<B>,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// Hands out tensors and remembers which are left.
struct Claims<'a, B: Backend> {
    backend: &'a B,
    gguf: &'a Gguf,
    claimed: HashSet<&'a str>,
}

impl<'a, B: Backend> Claims<'a, B> {
    fn find(&mut self, name: &str) -> Option<&'a TensorInfo> {
        let t = self.gguf.tensor(name)?;
        self.claimed.insert(&t.name);
        Some(t)
    }

    fn need(&mut self, name: &str) -> Result<&'a TensorInfo> {
        self.find(name)
            .ok_or_else(|| Error::invalid("tensor is missing").item(name))
    }

    /// Dimensions in the file's order, fastest first.
    fn check(t: &TensorInfo, dims: &[usize]) -> Result<()> {
        if t.dims != dims {
            return Err(Error::invalid("shape does not fit")
                .item(&t.name)
                .expected(format!("{dims:?}"))
                .found(format!("{:?}", t.dims)));
        }
        Ok(())
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<B::Weight> {
        let t = self.need(name)?;
        Self::check(t, &[cols, rows])?;
        self.backend.weight(self.gguf, t, rows, cols)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<B::Vector> {
        let t = self.need(name)?;
        Self::check(t, &[len])?;
        self.backend.vector(self.gguf, t)
    }

    fn vector_if(&mut self, wanted: bool, name: &str, len: usize) -> Result<Option<B::Vector>> {
        wanted.then(|| self.vector(name, len)).transpose()
    }

    fn linear(&mut self, site: Site, rows: usize, cols: usize, need_bias: bool) -> Result<Linear<B>> {
        let stem = site.gguf_name();
        let weight = self.matrix(&format!("{stem}.weight"), rows, cols)?;
        let bias = format!("{stem}.bias");
        let has_bias = need_bias || self.gguf.tensor(&bias).is_some();
        Ok(Linear {
            weight,
            bias: self.vector_if(has_bias, &bias, rows)?,
            site,
            cols,
            rows,
        })
    }

    fn layer(&mut self, spec: &Spec, i: usize) -> Result<Layer<B>> {
        let (hidden, q_width, kv_width, ffn) = (spec.hidden_size, spec.q_width(), spec.kv_width(), spec.ffn_size);
        let name = |stem: &str| format!("blk.{i}.{stem}.weight");
        let site = |part| Site::Layer(i, part);
        Ok(Layer {
            attn_norm: self.vector(&name("attn_norm"), hidden)?,
            q: self.linear(site(Part::Q), q_width, hidden, spec.qkv_bias)?,
            k: self.linear(site(Part::K), kv_width, hidden, spec.qkv_bias)?,
            v: self.linear(site(Part::V), kv_width, hidden, spec.qkv_bias)?,
            q_norm: self.vector_if(spec.qk_norm, &name("attn_q_norm"), spec.head_dim)?,
            k_norm: self.vector_if(spec.qk_norm, &name("attn_k_norm"), spec.head_dim)?,
            o: self.linear(site(Part::O), hidden, q_width, false)?,
            attn_post_norm: self.vector_if(spec.post_norms, &name("post_attention_norm"), hidden)?,
            ffn_norm: self.vector(&name("ffn_norm"), hidden)?,
            gate: self.linear(site(Part::Gate), ffn, hidden, false)?,
            up: self.linear(site(Part::Up), ffn, hidden, false)?,
            down: self.linear(site(Part::Down), hidden, ffn, false)?,
            ffn_post_norm: self.vector_if(spec.post_norms, &name("post_ffw_norm"), hidden)?,
        })
    }
}

impl<B: Backend> Clone for Weights<B>
where
    B::Weight: Clone,
    B::Vector: Clone,
{
    fn clone(&self) -> Self {
        Weights {
            embed: self.embed.clone(),
            layers: self.layers.clone(),
            output_norm: self.output_norm.clone(),
            head: self.head.clone(),
            tied: self.tied,
        }
    }
}

impl<B: Backend> Weights<B> {
    /// The linear map at `site`; `None` for a norm and the embedding.
    pub fn linear(&self, site: Site) -> Option<&Linear<B>> {
        match site {
            Site::Layer(i, part) => self.layers.get(i)?.linear(part),
            Site::Head => Some(&self.head),
            Site::Embed | Site::OutputNorm => None,
        }
    }

    /// The same, to change it.
    pub fn linear_mut(&mut self, site: Site) -> Option<&mut Linear<B>> {
        match site {
            Site::Layer(i, part) => self.layers.get_mut(i)?.linear_mut(part),
            Site::Head => Some(&mut self.head),
            Site::Embed | Site::OutputNorm => None,
        }
    }

    /// Claims every tensor of `gguf` for the model that `spec` describes. `progress` is called with the share done.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, or that this architecture does not know.
    pub fn load(backend: &B, spec: &Spec, gguf: &Gguf, progress: &dyn Fn(f32)) -> Result<Self> {
        Self::load_inner(backend, spec, gguf, progress).map_err(|e| e.file(gguf.path()))
    }

    fn load_inner(backend: &B, spec: &Spec, gguf: &Gguf, progress: &dyn Fn(f32)) -> Result<Self> {
        let mut claims = Claims {
            backend,
            gguf,
            claimed: HashSet::new(),
        };
        let (vocab, hidden) = (spec.vocab_size, spec.hidden_size);
        let embed = claims.matrix("token_embd.weight", vocab, hidden)?;
        let mut layers = Vec::with_capacity(spec.n_layers);
        for i in 0..spec.n_layers {
            layers.push(claims.layer(spec, i)?);
            progress((i + 1) as f32 / spec.n_layers as f32);
        }
        let tied = gguf.tensor("output.weight").is_none();
        let head = if tied {
            let weight = claims.matrix("token_embd.weight", vocab, hidden)?;
            Linear {
                weight,
                bias: None,
                site: Site::Head,
                cols: hidden,
                rows: vocab,
            }
        } else {
            claims.linear(Site::Head, vocab, hidden, false)?
        };
        let output_norm = claims.vector("output_norm.weight", hidden)?;
        claims.find("rope_freqs.weight"); // read by `Spec`
        if let Some(t) = gguf
            .tensors()
            .iter()
            .find(|t| !claims.claimed.contains(t.name.as_str()))
        {
            return Err(
                Error::unsupported(format!("tensor that a {} model of this kind does not have", spec.arch))
                    .item(&t.name)
                    .found(format!("{} {:?}", t.format.name(), t.dims)),
            );
        }
        Ok(Weights {
            embed,
            layers,
            output_norm,
            head,
            tied,
        })
    }
}
