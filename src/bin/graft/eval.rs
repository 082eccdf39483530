//! `graft eval`: how good the model, with its adapters, is on rows of data.

use std::ops::ControlFlow;

use graft::train::{Data, DataOptions, EvalOptions, Evaluation, evaluate};
use graft::{Error, ErrorKind};
use serde::Serialize;

use crate::args::EvalArgs;
use crate::interrupt::Catch;
use crate::load;
use crate::output::{Done, Fail, print, print_json, say};
use crate::progress::Progress;

/// Rows are cut to this, where the model has room for more and nobody says otherwise.
const SEQ: usize = 2048;

#[derive(Serialize)]
struct Document {
    loss: Option<f64>,
    perplexity: Option<f64>,
    error: Option<f64>,
    tokens: u64,
    rows: Rows,
    choices: Option<Choices>,
    exact_match: Option<ExactMatch>,
    seq: usize,
    cut: u64,
    skipped: u64,
}

#[derive(Serialize)]
struct Rows {
    text: u64,
    completion: u64,
    messages: u64,
    choices: u64,
}

/// Shares of rows.
#[derive(Serialize)]
struct Choices {
    accuracy: f64,
    accuracy_per_token: f64,
}

#[derive(Serialize)]
struct ExactMatch {
    share: f64,
    rows: u64,
}

pub fn run(args: &EvalArgs) -> Done {
    let (model, adapters) = load::model_and_adapters(&args.model)?;
    let context = args.seq.unwrap_or(SEQ).min(model.spec().context_length);
    let mut session = load::session(&model, &args.model, context.max(1), &adapters)?;
    let seq = args.seq.unwrap_or_else(|| session.context());
    let options = DataOptions {
        seq,
        skip_bad: args.skip_bad,
        shuffle: false,
        choices: true,
        ..Default::default()
    };

    let catch = Catch::begin();
    let go_on = |bar: &Progress, share| {
        bar.set(share);
        match catch.asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let bar = Progress::new("reading");
    let data = Data::open_with(&args.data, &model, &options, &mut |share| go_on(&bar, share));
    bar.finish();
    let data = data.map_err(interrupted)?;

    let bar = Progress::new("eval");
    let options = EvalOptions {
        limit: args.limit,
        exact_match: args.exact_match,
    };
    let found = evaluate(&mut session, &data, &options, &mut |share| go_on(&bar, share));
    bar.finish();
    let found = found.map_err(interrupted)?;

    if args.exact_match && found.completed == 0 {
        say("no row has a prompt and a completion: there is nothing to match");
    }
    let document = document(&found, seq);
    if args.json {
        return print_json(&document);
    }
    for (n, what) in [(found.skipped, "bad rows skipped"), (found.cut, "rows cut")] {
        if n > 0 {
            say(&format!("{n} {what} ({seq} tokens at most)"));
        }
    }
    print(&lines(&found, &document))
}

fn interrupted(e: Error) -> Fail {
    match e.kind() {
        ErrorKind::Cancelled => Fail::Interrupted,
        _ => Fail::Error(e),
    }
}

fn document(found: &Evaluation, seq: usize) -> Document {
    let (of, rows) = (&found.likelihood, found.rows);
    let number = |x: f64| x.is_finite().then_some(x);
    let share = |n: u64, of: u64| n as f64 / of as f64;
    Document {
        loss: number(of.mean()),
        perplexity: number(of.perplexity()),
        error: number(of.error()),
        tokens: of.count(),
        choices: (rows.choices > 0).then(|| Choices {
            accuracy: share(found.right, rows.choices),
            accuracy_per_token: share(found.right_per_token, rows.choices),
        }),
        exact_match: (found.completed > 0).then(|| ExactMatch {
            share: share(found.exact, found.completed),
            rows: found.completed,
        }),
        rows: Rows {
            text: rows.text,
            completion: rows.completion,
            messages: rows.messages,
            choices: rows.choices,
        },
        seq,
        cut: found.cut,
        skipped: found.skipped,
    }
}

/// A line for each thing that was measured.
fn lines(found: &Evaluation, document: &Document) -> String {
    let (of, rows) = (&found.likelihood, found.rows);
    let mut text = String::new();
    if of.count() > 0 {
        let forms = [
            (rows.text, "text"),
            (rows.completion, "completion"),
            (rows.messages, "messages"),
        ];
        let forms: Vec<_> = forms
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, form)| format!("{n} {form}"))
            .collect();
        text += &format!(
            "loss {:.4}, perplexity {:.4} ± {:.4} ({} tokens; rows: {})\n",
            of.mean(),
            of.perplexity(),
            of.error(),
            of.count(),
            forms.join(", ")
        );
    }
    if let Some(c) = &document.choices {
        text += &format!(
            "choices {:.2} % right, {:.2} % per token ({} rows)\n",
            100.0 * c.accuracy,
            100.0 * c.accuracy_per_token,
            rows.choices
        );
    }
    if let Some(m) = &document.exact_match {
        text += &format!(
            "exact match {:.2} % ({} of {} rows)\n",
            100.0 * m.share,
            found.exact,
            m.rows
        );
    }
    text
}
