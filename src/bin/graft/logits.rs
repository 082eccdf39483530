//! `graft logits`: the model's scores for the next token.

use std::ops::ControlFlow;

use graft::runtime::likelihood::log_probability;
use graft::{Error, Result};
use serde::Serialize;

use crate::args::LogitsArgs;
use crate::load;
use crate::output::{Done, print, print_json};

#[derive(Serialize)]
struct Document {
    n_vocab: usize,
    positions: Vec<Position>,
    mean_logprob: Option<f64>,
}

#[derive(Serialize)]
struct Position {
    pos: usize,
    top: Vec<(u32, f32)>,
}

pub fn run(args: &LogitsArgs) -> Done {
    let (model, adapters) = load::model_and_adapters(&args.model)?;
    let ids = load::prompt(&model, &args.prompt, false)?;
    if ids.is_empty() {
        Err(Error::usage("the prompt is empty").expected("at least one token"))?;
    }
    let mut session = load::session(
        &model,
        &args.model,
        load::context(&model, Some(ids.len()), None),
        &adapters,
    )?;
    let (mut positions, mut sum) = (Vec::new(), 0.0);
    session.eval_each(&ids, &mut |pos, logits| {
        if let Some(&next) = ids.get(pos + 1) {
            sum += log_probability(logits, next);
        }
        if args.all || pos + 1 == ids.len() {
            positions.push(Position {
                pos,
                top: top(logits, args.top),
            });
        }
        ControlFlow::Continue(())
    })?;
    let mean_logprob = (ids.len() > 1).then(|| sum / (ids.len() - 1) as f64);
    let document = Document {
        n_vocab: session.vocab_size(),
        positions,
        mean_logprob,
    };
    if args.json {
        return print_json(&document);
    }
    print(&table(&model, &document)?)
}

fn table(model: &graft::Model, document: &Document) -> Result<String> {
    let mut text = String::new();
    for p in &document.positions {
        for (id, logit) in &p.top {
            let piece = model.tokenizer()?.decode(&[*id], false)?;
            text.push_str(&format!("{:>6} {id:>8} {logit:>10.4}  {piece:?}\n", p.pos));
        }
    }
    if let Some(mean) = document.mean_logprob {
        text.push_str(&format!("mean log-probability of tokens 2..n: {mean:.6}\n"));
    }
    Ok(text)
}

/// The `k` highest, the highest first, the lower id first among equals.
fn top(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_matches_by_hand() {
        assert_eq!(top(&[1.0, 3.0, 3.0, -1.0], 3), [(1, 3.0), (2, 3.0), (0, 1.0)]);
        assert_eq!(top(&[1.0], 9), [(0, 1.0)]);
    }
}
