//! Greedy text of one file in both engines: the same, or different where two tokens were nearly alike.

use std::path::Path;

use graft::Session;
use graft::kernels::Precision;
use llama_cpp_2::llama_backend::LlamaBackend;

use crate::check::{argmax, each_model, llama_tokens};
use crate::engine::{Llama, backend, graft_model, graft_session, llama_model};
use crate::{Options, Result};

/// Where no text is given.
pub const TEXT: &str = "Once upon a time, there was a";

/// The lead of the most likely token over the next that llama.cpp's rounding of activations to 8 bits may turn around.
const CLOSE: f32 = 0.5;

/// Greedy tokens, and by how much the logit of each is above the next.
pub struct Greedy {
    pub ids: Vec<u32>,
    pub leads: Vec<f32>,
}

/// `n` tokens, of which the first is the most likely of `logits`; `eval` gives the logits after a token.
pub fn greedy(n: usize, logits: &[f32], mut eval: impl FnMut(u32) -> Result<Vec<f32>>) -> Result<Greedy> {
    let mut text = Greedy {
        ids: Vec::new(),
        leads: Vec::new(),
    };
    let mut logits = logits.to_vec();
    for _ in 0..n {
        let id = argmax(&logits).ok_or("no logits")?;
        let others = logits.iter().enumerate().filter(|(i, _)| *i != id);
        let next = others.map(|(_, l)| *l).fold(f32::NEG_INFINITY, f32::max);
        text.leads.push(logits[id] - next);
        text.ids.push(u32::try_from(id)?);
        logits = eval(u32::try_from(id)?)?;
    }
    Ok(text)
}

/// The next logits of Graft.
pub fn graft_next(session: &mut Session, id: u32) -> Result<Vec<f32>> {
    Ok(session.eval(&[id])?.to_vec())
}

/// The next logits of llama.cpp.
pub fn llama_next(llama: &mut Llama, id: u32) -> Result<Vec<f32>> {
    Ok(llama.logits(&[id])?.pop().ok_or("no logits")?)
}

/// Compares both for every model; true if texts part nowhere but at close calls.
pub fn run(options: &Options) -> Result<bool> {
    let backend = backend()?;
    each_model(options, |path| compare(&backend, path, options))
}

fn compare(backend: &LlamaBackend, path: &Path, options: &Options) -> Result<bool> {
    let (graft, model) = (graft_model(path, options.threads)?, llama_model(backend, path)?);
    let text = match &options.file {
        Some(file) => std::fs::read_to_string(file)?,
        None => TEXT.into(),
    };
    let mut prompt = llama_tokens(&model, &text, false);
    prompt.truncate(options.prompt.unwrap_or(64));
    let (n, context) = (
        options.gen_tokens,
        (prompt.len() + options.gen_tokens).next_multiple_of(256),
    );

    let mut llama = Llama::new(backend, &model, options.threads, context, true)?;
    let last = llama.logits(&prompt)?.pop().ok_or("no tokens")?;
    let theirs = greedy(n, &last, |id| llama_next(&mut llama, id))?;
    let mut session = graft_session(&graft, context, Precision::Exact)?;
    let last = session.eval(&prompt)?.to_vec();
    let ours = greedy(n, &last, |id| graft_next(&mut session, id))?;

    let same = ours.ids.iter().zip(&theirs.ids).take_while(|(a, b)| a == b).count();
    let head = if graft.tied_head() { "tied" } else { "of its own" };
    if same == n {
        let least = ours.leads.iter().copied().fold(f32::INFINITY, f32::min);
        println!("  head {head}: all {n} greedy tokens are the same, the smallest lead {least:.3}: ok");
    } else {
        let (a, b) = (ours.leads[same], theirs.leads[same]);
        let close = a.min(b) < CLOSE;
        println!(
            "  head {head}: the first {same} of {n} greedy tokens are the same, then the leads are {a:.3} in Graft, {b:.3} in llama.cpp: {}",
            if close { "a close call" } else { "DIFFERS" }
        );
        if !close {
            return Ok(false);
        }
    }
    // Whether they part or not: what llama.cpp would say at each place of Graft's text.
    let whole = [&prompt[..], &ours.ids[..n - 1]].concat();
    let mut llama = Llama::new(backend, &model, options.threads, context, true)?;
    let rows = llama.logits(&whole)?;
    let tops = rows[prompt.len() - 1..].iter().map(|row| argmax(row));
    let turned: Vec<f32> = tops
        .zip(ours.ids.iter().zip(&ours.leads))
        .filter(|(top, (id, _))| *top != Some(**id as usize))
        .map(|(_, (_, lead))| *lead)
        .collect();
    println!(
        "  at {} of {n} places of Graft's text llama.cpp has another token first: leads {turned:.3?}",
        turned.len()
    );
    println!("  {:?}", graft.tokenizer()?.decode(&ours.ids, false)?);
    Ok(turned.iter().all(|lead| *lead < CLOSE))
}
