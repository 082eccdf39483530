//! A model as plain data: what the forward pass needs to know, read from GGUF metadata.

use crate::error::{Error, Result};
use crate::format::{Gguf, Metadata};
use crate::kernels::cpu::{Act, Attention};

use super::arch::{Arch, Windows};

/// How a position turns into rotation angles: one frequency per pair of dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Rotated dimensions of a head, even, at most `head_dim`.
    pub dims: usize,
    /// Pairing of dimensions: true for (2i, 2i+1) (GGUF's "normal" order), false for (i, i + dims/2) ("neox").
    pub interleaved: bool,
    /// Angle per position of each pair, scaling included; `dims / 2` of them.
    pub inv_freq: Vec<f32>,
    /// Multiplies cos and sin (YaRN's attention factor; 1 elsewhere).
    pub magnitude: f32,
}

/// What a model is. Every field is a plain fact; nothing here depends on tensors' contents but `rope_freqs`.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Architecture name as in `general.architecture`.
    pub arch: &'static str,
    /// Human-readable name from the file, if it has one.
    pub name: Option<String>,
    /// Decoder layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements of a query, key or value head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub ffn_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Positions that the model was made for.
    pub context_length: usize,
    /// Epsilon of every RMSNorm.
    pub norm_eps: f32,
    /// Multiplies token embeddings (Gemma: sqrt(hidden_size)).
    pub embed_scale: f32,
    /// Multiplies q·k.
    pub attn_scale: f32,
    /// Soft cap of attention scores.
    pub attn_softcap: Option<f32>,
    /// Soft cap of logits.
    pub logit_softcap: Option<f32>,
    /// Gate function of the MLP.
    pub act: Act,
    /// Whether q and k heads are normed before RoPE.
    pub qk_norm: bool,
    /// Whether a norm stands behind attention and MLP too (Gemma 2 and 3).
    pub post_norms: bool,
    /// Norms multiply by 1 + weight in checkpoints; the file's weights have the 1.
    pub norms_plus_one: bool,
    /// Whether the file stores q/k rows in interleaved order relative to the Hugging Face checkpoint.
    pub permuted_qk: bool,
    /// Whether q, k and v must have biases.
    pub qkv_bias: bool,
    /// RoPE of layers that see everything.
    pub rope: Rope,
    /// RoPE of sliding-window layers, where it differs.
    pub rope_local: Option<Rope>,
    /// Sliding window of each layer; `None` sees everything.
    pub windows: Vec<Option<usize>>,
}

/// Sizes beyond these are a lie or a model far outside this runtime; they also keep every product below in range.
const MAX_LAYERS: usize = 1024;
const MAX_WIDTH: usize = 1 << 20;
const MAX_HEADS: usize = 4096;
const MAX_CONTEXT: usize = 1 << 26;

/// Metadata under the architecture's prefix.
struct Keys<'a> {
    meta: &'a Metadata,
    arch: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }
    fn usize(&self, name: &str) -> Result<Option<usize>> {
        self.meta.usize(&self.key(name))
    }
    fn f32(&self, name: &str) -> Result<Option<f32>> {
        self.meta.f32(&self.key(name))
    }
    fn str(&self, name: &str) -> Result<Option<&str>> {
        self.meta.str(&self.key(name))
    }
    /// A size in `1..=max`, required.
    fn size(&self, name: &str, max: usize) -> Result<usize> {
        let n = self.meta.need_usize(&self.key(name))?;
        self.in_range(name, n, max)
    }
    /// A size in `1..=max`, or `default`.
    fn size_or(&self, name: &str, default: usize, max: usize) -> Result<usize> {
        let n = self.usize(name)?.unwrap_or(default);
        self.in_range(name, n, max)
    }
    fn in_range(&self, name: &str, n: usize, max: usize) -> Result<usize> {
        if n == 0 || n > max {
            return Err(Error::invalid("size out of range")
                .item(self.key(name))
                .expected(format!("1 to {max}"))
                .found(n));
        }
        Ok(n)
    }
    /// A finite number above zero, or `default`.
    fn positive_or(&self, name: &str, default: f32) -> Result<f32> {
        self.positive(name).map(|v| v.unwrap_or(default))
    }
    fn positive(&self, name: &str) -> Result<Option<f32>> {
        match self.f32(name)? {
            Some(v) if !(v.is_finite() && v > 0.0) => Err(Error::invalid("number out of range")
                .item(self.key(name))
                .expected("a number above 0")
                .found(v)),
            v => Ok(v),
        }
    }
    /// As `positive`, but 0 means "off".
    fn cap(&self, name: &str) -> Result<Option<f32>> {
        match self.f32(name)? {
            Some(0.0) => Ok(None),
            _ => self.positive(name),
        }
    }
}

impl Spec {
    /// The facts of attention with a ring of `capacity` positions, for queries from `pos` on.
    pub fn attention(&self, window: Option<usize>, capacity: usize, pos: usize) -> Attention {
        Attention {
            heads: self.n_heads,
            kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            scale: self.attn_scale,
            softcap: self.attn_softcap,
            window,
            capacity,
            pos,
        }
    }

    /// Reads the facts of a model of architecture `arch`. `gguf` gives the sizes that only tensors tell
    /// (vocabulary, `rope_freqs`).
    ///
    /// # Errors
    /// A missing key, a value out of range, or an option that Graft does not do, each by name.
    pub fn read(arch: &Arch, gguf: &Gguf) -> Result<Self> {
        Self::read_inner(arch, gguf).map_err(|e| e.file(gguf.path()))
    }

    fn read_inner(arch: &Arch, gguf: &Gguf) -> Result<Self> {
        let meta = gguf.metadata();
        let keys = Keys { meta, arch: arch.name };
        let n_layers = keys.size("block_count", MAX_LAYERS)?;
        let hidden_size = keys.size("embedding_length", MAX_WIDTH)?;
        let n_heads = keys.size("attention.head_count", MAX_HEADS)?;
        let n_kv_heads = keys.size_or("attention.head_count_kv", n_heads, MAX_HEADS)?;
        if n_heads % n_kv_heads != 0 {
            return Err(Error::invalid("K/V heads must divide query heads")
                .item(keys.key("attention.head_count_kv"))
                .expected(format!("a divisor of {n_heads}"))
                .found(n_kv_heads));
        }
        let head_dim = match keys.usize("attention.key_length")? {
            Some(_) => keys.size("attention.key_length", MAX_WIDTH)?,
            None if hidden_size % n_heads == 0 => hidden_size / n_heads,
            None => {
                return Err(Error::invalid(
                    "embedding length is no multiple of the head count and there is no key_length",
                )
                .item(keys.key("attention.key_length"))
                .expected("a head size")
                .found("nothing"));
            }
        };
        if head_dim % 2 != 0 {
            return Err(Error::unsupported("heads of an odd size")
                .item(keys.key("attention.key_length"))
                .found(head_dim));
        }
        let value_length = keys.size_or("attention.value_length", head_dim, MAX_WIDTH)?;
        if value_length != head_dim {
            return Err(Error::unsupported("value heads of another size than key heads")
                .item(keys.key("attention.value_length"))
                .expected(head_dim)
                .found(value_length));
        }
        if let Some(n @ 1..) = keys.usize("expert_count")? {
            return Err(Error::unsupported("mixture-of-experts models")
                .item(keys.key("expert_count"))
                .expected(0)
                .found(n));
        }
        let context_length = keys.size("context_length", MAX_CONTEXT)?;
        let embd = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| Error::invalid("tensor is missing").item("token_embd.weight"))?;
        let vocab_size = match embd.dims[..] {
            [_, rows] if u32::try_from(rows).is_ok() => rows,
            _ => {
                return Err(Error::invalid("shape does not fit")
                    .item("token_embd.weight")
                    .expected(format!("[{hidden_size}, vocabulary]"))
                    .found(format!("{:?}", embd.dims)));
            }
        };
        let rope = Rope::read(&keys, arch, head_dim, context_length, gguf)?;
        let windows = windows(&keys, arch, n_layers)?;
        let rope_local = match arch.local_rope_theta {
            Some(theta) if windows.iter().any(Option::is_some) => {
                let theta = keys.positive_or("rope.freq_base_swa", theta)?;
                Some(Rope {
                    inv_freq: inv_freq(theta, rope.dims),
                    magnitude: 1.0,
                    ..rope.clone()
                })
            }
            _ => None,
        };
        let scale_dim = (arch.attn_scale_dim)(n_layers, hidden_size, n_heads, head_dim);
        Ok(Spec {
            arch: arch.name,
            name: meta.str("general.name")?.map(str::to_owned),
            n_layers,
            hidden_size,
            n_heads,
            n_kv_heads,
            head_dim,
            ffn_size: keys.size("feed_forward_length", MAX_WIDTH)?,
            vocab_size,
            context_length,
            norm_eps: match keys.meta.need_f32(&keys.key("attention.layer_norm_rms_epsilon"))? {
                eps if (0.0..1.0).contains(&eps) => eps,
                eps => {
                    return Err(Error::invalid("number out of range")
                        .item(keys.key("attention.layer_norm_rms_epsilon"))
                        .expected("0 to 1")
                        .found(eps));
                }
            },
            embed_scale: if arch.scale_embeddings {
                (hidden_size as f32).sqrt()
            } else {
                1.0
            },
            attn_scale: keys.positive_or("attention.scale", 1.0 / (scale_dim as f32).sqrt())?,
            attn_softcap: keys.cap("attn_logit_softcapping")?,
            logit_softcap: keys.cap("final_logit_softcapping")?,
            act: arch.act,
            qk_norm: arch.qk_norm,
            post_norms: arch.post_norms,
            norms_plus_one: arch.norms_plus_one,
            permuted_qk: arch.permuted_qk,
            qkv_bias: arch.qkv_bias,
            rope,
            rope_local,
            windows,
        })
    }

    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Multiply-adds for one token in the layers' matrices, without the head and without attention.
    pub fn layer_macs(&self) -> usize {
        let attention = self.hidden_size * (2 * self.q_width() + 2 * self.kv_width());
        self.n_layers * (attention + 3 * self.hidden_size * self.ffn_size)
    }
}

/// The sliding window of each layer.
fn windows(keys: &Keys, arch: &Arch, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let window = match keys.usize("attention.sliding_window")? {
        None | Some(0) => return Ok(vec![None; n_layers]),
        Some(_) => keys.size("attention.sliding_window", MAX_CONTEXT)?,
    };
    let pattern_key = "attention.sliding_window_pattern";
    let local: Vec<bool> = match arch.windows {
        Windows::None => vec![false; n_layers],
        Windows::All => vec![true; n_layers],
        Windows::AllButEvery(default) => {
            if keys.meta.is_array(&keys.key(pattern_key)) {
                let local = keys.meta.bools(&keys.key(pattern_key))?.unwrap_or_default();
                if local.len() != n_layers {
                    return Err(Error::invalid("one entry a layer")
                        .item(keys.key(pattern_key))
                        .expected(n_layers)
                        .found(local.len()));
                }
                local
            } else {
                let every = keys.size_or(pattern_key, default, MAX_LAYERS)?;
                (0..n_layers).map(|i| (i + 1) % every != 0).collect()
            }
        }
    };
    Ok(local.into_iter().map(|l| l.then_some(window)).collect())
}

/// Plain RoPE frequencies theta^(-2i/dims), in f32 as transformers computes them (`compute_default_rope_parameters`).
fn inv_freq(theta: f32, dims: usize) -> Vec<f32> {
    (0..dims / 2)
        .map(|i| 1.0 / theta.powf((2 * i) as f32 / dims as f32))
        .collect()
}

impl Rope {
    fn read(keys: &Keys, arch: &Arch, head_dim: usize, context_length: usize, gguf: &Gguf) -> Result<Self> {
        let dims = keys.size_or("rope.dimension_count", head_dim, head_dim)?;
        if dims % 2 != 0 {
            return Err(Error::invalid("odd number of rotated dimensions")
                .item(keys.key("rope.dimension_count"))
                .expected("an even number")
                .found(dims));
        }
        let theta = keys.positive_or("rope.freq_base", 10_000.0)?;
        let mut rope = Rope {
            dims,
            interleaved: arch.interleaved_rope,
            inv_freq: inv_freq(theta, dims),
            magnitude: 1.0,
        };
        // Older files have only `scale_linear`.
        let old_factor = keys.positive("rope.scale_linear")?;
        let factor = keys.positive_or("rope.scaling.factor", old_factor.unwrap_or(1.0))?;
        match keys.str("rope.scaling.type")? {
            Some("none") => {}
            None | Some("linear") => rope.slow_down(factor),
            Some("yarn") => {
                let original = keys.size_or("rope.scaling.original_context_length", context_length, MAX_CONTEXT)?;
                rope.yarn(
                    theta,
                    factor,
                    original as f32,
                    keys.positive_or("rope.scaling.yarn_beta_fast", 32.0)?,
                    keys.positive_or("rope.scaling.yarn_beta_slow", 1.0)?,
                );
                for (name, neutral) in [
                    ("rope.scaling.yarn_ext_factor", 1.0),
                    ("rope.scaling.yarn_log_multiplier", 0.0),
                ] {
                    if let Some(found) = keys.f32(name)?.filter(|v| *v != neutral) {
                        return Err(Error::unsupported("YaRN option")
                            .item(keys.key(name))
                            .expected(neutral)
                            .found(found));
                    }
                }
            }
            Some(other) => {
                return Err(Error::unsupported("RoPE scaling")
                    .item(keys.key("rope.scaling.type"))
                    .expected("none, linear or yarn")
                    .found(other));
            }
        }
        rope.magnitude *= keys.positive_or("rope.scaling.attn_factor", 1.0)?;
        rope.divide_by_factors(gguf)?;
        Ok(rope)
    }

    /// Linear scaling: positions run `factor` times slower.
    fn slow_down(&mut self, factor: f32) {
        for f in &mut self.inv_freq {
            *f /= factor;
        }
    }

    /// YaRN (Peng et al. 2023, arXiv 2309.00071; transformers `_compute_yarn_parameters`): dimensions that turn more
    /// than `beta_fast` times within the original context keep their frequency, those below `beta_slow` turns are
    /// slowed down by `factor`, with a linear ramp between; the attention factor is 0.1 ln(factor) + 1.
    fn yarn(&mut self, theta: f32, factor: f32, original: f32, beta_fast: f32, beta_slow: f32) {
        let dims = self.dims as f64;
        let dim_of_turns = |turns: f32| {
            dims * (f64::from(original) / (f64::from(turns) * std::f64::consts::TAU)).ln()
                / (2.0 * f64::from(theta).ln())
        };
        let low = dim_of_turns(beta_fast).floor().max(0.0);
        let high = dim_of_turns(beta_slow).ceil().min(dims - 1.0);
        let width = if high == low { 0.001 } else { high - low };
        for (i, f) in self.inv_freq.iter_mut().enumerate() {
            let slowed = (((i as f64) - low) / width).clamp(0.0, 1.0) as f32;
            *f = *f / factor * slowed + *f * (1.0 - slowed);
        }
        if factor > 1.0 {
            self.magnitude = 0.1 * factor.ln() + 1.0;
        }
    }

    /// Llama 3's scaling comes as a tensor of divisors, one a frequency.
    fn divide_by_factors(&mut self, gguf: &Gguf) -> Result<()> {
        let Some(t) = gguf.tensor("rope_freqs.weight") else {
            return Ok(());
        };
        let expected = self.inv_freq.len();
        if t.dims[..] != [expected] {
            return Err(Error::invalid("shape does not fit")
                .item(&t.name)
                .expected(format!("[{expected}]"))
                .found(format!("{:?}", t.dims)));
        }
        let mut factors = vec![0.0; expected];
        t.format.dequantize(gguf.data(t), &mut factors);
        for (f, factor) in self.inv_freq.iter_mut().zip(factors) {
            if !(factor.is_finite() && factor > 0.0) {
                return Err(Error::invalid("number out of range")
                    .item(&t.name)
                    .expected("numbers above 0")
                    .found(factor));
            }
            *f /= factor;
        }
        Ok(())
    }
}
