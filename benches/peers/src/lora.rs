//! A GGUF LoRA in both engines: logits over a text, and what each then says.

use std::path::Path;

use graft::adapter::AdapterFile;
use graft::kernels::Precision;
use llama_cpp_2::llama_backend::LlamaBackend;

use crate::check::{MEAN_KL, divergence, each_model, llama_tokens};
use crate::engine::{Llama, backend, graft_logits, graft_model, graft_session, llama_model};
use crate::greedy::{TEXT, graft_next, greedy, llama_next};
use crate::{Options, Result};

/// Compares both engines with the adapter on, for every model.
pub fn run(options: &Options) -> Result<bool> {
    let adapter = options.adapter.as_ref().ok_or("lora needs -a ADAPTER.gguf")?;
    let backend = backend()?;
    each_model(options, |path| compare(&backend, path, adapter, options))
}

fn compare(backend: &LlamaBackend, path: &Path, adapter: &Path, options: &Options) -> Result<bool> {
    let graft = graft_model(path, options.threads)?;
    // First: what it refuses should not end the process in the other engine.
    let file = AdapterFile::open(adapter)?;
    if file.lowered().invocation.is_some() {
        return Err(
            "an aLoRA: llama.cpp's library applies it to every token, only its server waits for the invocation".into(),
        );
    }
    let graft_adapter = graft.attach(&file)?;
    let mut model = llama_model(backend, path)?;
    let mut llama_adapter = model
        .lora_adapter_init(adapter)
        .map_err(|e| format!("llama.cpp: {e}"))?;
    let text = match &options.file {
        Some(file) => std::fs::read_to_string(file)?,
        None => TEXT.into(),
    };
    let mut tokens = llama_tokens(&model, &text, false);
    tokens.truncate(options.prompt.unwrap_or(64));
    let context = (tokens.len() + options.gen_tokens).next_multiple_of(256);

    let mut llama = Llama::new(backend, &model, options.threads, context, true)?;
    let base = llama.logits(&tokens)?;
    llama.restart(&mut llama_adapter)?;
    let want = llama.logits(&tokens)?;
    let mut session = graft_session(&graft, context, Precision::Exact)?;
    session.set_adapters(&[(graft_adapter, 1.0)])?;
    let got = graft_logits(&mut session, &tokens)?;

    let mean = |p: &[Vec<f32>], q: &[Vec<f32>]| {
        p.iter().zip(q).map(|(p, q)| divergence(p, q)).sum::<f64>() / p.len().max(1) as f64
    };
    let (kl, effect) = (mean(&want, &got), mean(&want, &base));
    let good = kl < MEAN_KL;
    println!(
        "  mean KL of Graft from llama.cpp {kl:.2e} (of the base from the adapter {effect:.2e}): {}",
        if good { "ok" } else { "DIFFERS" }
    );

    let last = want.last().ok_or("no tokens")?;
    let llama_ids = greedy(options.gen_tokens, last, |id| llama_next(&mut llama, id))?.ids;
    let last = session.logits().to_vec();
    let graft_ids = greedy(options.gen_tokens, &last, |id| graft_next(&mut session, id))?.ids;
    let same = llama_ids.iter().zip(&graft_ids).take_while(|(a, b)| a == b).count();
    println!("  greedy tokens: the first {same} of {} are the same", llama_ids.len());
    for (name, ids) in [("llama.cpp", &llama_ids), ("graft", &graft_ids)] {
        println!("  {name:9} {:?}", graft.tokenizer()?.decode(ids, false)?);
    }
    Ok(good)
}
