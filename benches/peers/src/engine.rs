//! The two engines behind one interface.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;

use graft::kernels::Precision;
use graft::{LoadOptions, Model, Session, SessionOptions};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use llama_cpp_2::token::LlamaToken;

use crate::Result;

/// A model with a cache.
pub trait Engine {
    /// Empties the cache.
    fn reset(&mut self) -> Result<()>;
    /// Appends `tokens` and computes the logits that follow the last.
    fn eval(&mut self, tokens: &[u32]) -> Result<()>;
}

/// llama.cpp, silenced.
pub fn backend() -> Result<LlamaBackend> {
    let mut backend = LlamaBackend::init()?;
    backend.void_logs();
    Ok(backend)
}

/// The model in llama.cpp, on the CPU.
pub fn llama_model(backend: &LlamaBackend, path: &Path) -> Result<LlamaModel> {
    if !path.exists() {
        return Err(format!("{}: no such file", path.display()).into());
    }
    let params = LlamaModelParams::default().with_n_gpu_layers(0);
    LlamaModel::load_from_file(backend, path, &params).map_err(|e| format!("{}: llama.cpp: {e}", path.display()).into())
}

/// llama.cpp with one sequence.
pub struct Llama<'a> {
    context: LlamaContext<'a>,
    batch: LlamaBatch<'a>,
    position: i32,
}

impl<'a> Llama<'a> {
    /// Defaults as `llama-bench` has them, or with `precise` an f32 cache and plain attention.
    pub fn new(
        backend: &LlamaBackend,
        model: &'a LlamaModel,
        threads: usize,
        context: usize,
        precise: bool,
    ) -> Result<Self> {
        let (threads, size) = (i32::try_from(threads)?, u32::try_from(context)?);
        let mut params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(size))
            .with_n_batch(size)
            .with_n_ubatch(size.min(512))
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        if precise {
            params = params
                .with_type_k(KvCacheType::F32)
                .with_type_v(KvCacheType::F32)
                .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED);
        }
        let context = model.new_context(backend, params)?;
        Ok(Llama {
            context,
            batch: LlamaBatch::new(size as usize, 1),
            position: 0,
        })
    }

    /// From an empty cache, with `adapter` on.
    pub fn restart(&mut self, adapter: &mut LlamaLoraAdapter) -> Result<()> {
        self.context.lora_adapter_set(adapter, 1.0)?;
        self.reset()
    }

    fn decode(&mut self, tokens: &[u32], all: bool) -> Result<()> {
        self.batch.clear();
        for (i, &token) in tokens.iter().enumerate() {
            let last = i + 1 == tokens.len();
            self.batch
                .add(LlamaToken::new(i32::try_from(token)?), self.position, &[0], all || last)?;
            self.position += 1;
        }
        self.context.decode(&mut self.batch)?;
        self.context.synchronize();
        Ok(())
    }

    /// The logits after each of `tokens`.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.decode(tokens, true)?;
        (0..tokens.len())
            .map(|i| Ok(self.context.get_logits_ith(i32::try_from(i)?).to_vec()))
            .collect()
    }
}

impl Engine for Llama<'_> {
    fn reset(&mut self) -> Result<()> {
        self.context.clear_kv_cache();
        self.position = 0;
        Ok(())
    }

    fn eval(&mut self, tokens: &[u32]) -> Result<()> {
        self.decode(tokens, false)?;
        let last = i32::try_from(tokens.len())? - 1;
        std::hint::black_box(self.context.get_logits_ith(last));
        Ok(())
    }
}

/// The model in Graft.
pub fn graft_model(path: &Path, threads: usize) -> Result<Model> {
    Ok(Model::open_with(
        path,
        &LoadOptions {
            threads: Some(threads),
            ..LoadOptions::default()
        },
    )?)
}

/// A Graft session.
pub fn graft_session(model: &Model, context: usize, precision: Precision) -> Result<Session> {
    Ok(model.session(&SessionOptions {
        context: Some(context),
        precision,
        ..SessionOptions::default()
    })?)
}

/// The logits after each of `tokens`, from an empty cache.
pub fn graft_logits(session: &mut Session, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut rows = Vec::new();
    session.reset();
    session.eval_each(tokens, &mut |_, logits| {
        rows.push(logits.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

impl Engine for Session {
    fn reset(&mut self) -> Result<()> {
        Session::reset(self);
        Ok(())
    }

    fn eval(&mut self, tokens: &[u32]) -> Result<()> {
        std::hint::black_box(Session::eval(self, tokens)?);
        Ok(())
    }
}

/// Token ids that mean nothing, the same for both engines.
pub fn random_tokens(n: usize, vocab: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..n).map(|_| (next() % vocab) as u32).collect()
}
