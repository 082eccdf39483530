//! How good a model, with its adapters, is on rows of data: loss, choices, exact answers.

use std::ops::ControlFlow;

use super::Example;
use super::data::row::{Row, continued, encode};
use super::data::{Data, Rows};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::likelihood::{Likelihood, log_probability};
use crate::runtime::{Finish, GenerateOptions, Model, Sampler, SamplerOptions, Session, generate};

/// What to evaluate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvalOptions {
    /// Rows at most.
    pub limit: Option<u64>,
    /// Also let the model complete the prompts of rows with a completion, the most likely token each time.
    pub exact_match: bool,
}

/// Rows by their form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// `{"text"}`, and parts of a plain text.
    pub text: u64,
    /// `{"prompt", "completion"}`.
    pub completion: u64,
    /// `{"messages"}`.
    pub messages: u64,
    /// `{"prompt", "choices", "answer"}`.
    pub choices: u64,
}

/// What an evaluation found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Rows that were evaluated.
    pub rows: Forms,
    /// Of the tokens to be learnt, in all rows but those with choices.
    pub likelihood: Likelihood,
    /// Rows with choices where the right one is the most likely, by the sum of its tokens' log-probabilities.
    pub right: u64,
    /// The same by their mean: longer choices are not at a disadvantage.
    pub right_per_token: u64,
    /// Rows where the model was let to complete the prompt.
    pub completed: u64,
    /// Of them, those where it said the completion, and then that it is done. White space around both does not count.
    pub exact: u64,
    /// Rows that were cut because they are too long.
    pub cut: u64,
    /// Bad rows that were skipped.
    pub skipped: u64,
}

/// A row, ready for a session.
enum Task {
    /// What is to be learnt, and whether it was cut; and a prompt to complete.
    Predict(Example, bool, Option<(Vec<u32>, String)>),
    /// The tokens of each choice behind the prompt, and where they begin; and the right one.
    Choose(Vec<(Vec<u32>, usize)>, usize),
}

/// Evaluates rows of `data` in the order of the file, with the adapters that `session` has on. The session's tokens are forgotten.
/// No row depends on those before it. `progress` is told the share of rows that are done, also while an answer is generated, and
/// may end the work.
///
/// # Errors
/// The first bad row (one with nothing to learn, or a choice that is too long, among them), unless `skip_bad` is on; nothing but
/// those; a session with less room than the data's `seq`; `Cancelled` where `progress` breaks.
pub fn evaluate(
    session: &mut Session,
    data: &Data,
    options: &EvalOptions,
    progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
) -> Result<Evaluation> {
    let (model, seq) = (data.model(), data.options().seq);
    if session.context() < seq {
        let e = Error::usage("the session has less room than the rows").item("seq");
        return Err(e.expected(format!("at most {}", session.context())).found(seq));
    }
    let limit = options.limit.unwrap_or(u64::MAX);
    let (mut found, mut done) = (Evaluation::default(), 0);
    let mut rows = data.rows()?;
    let share = |rows: &Rows, done: u64| rows.share().max(done as f32 / limit as f32);
    while done < limit {
        let Some((line, row)) = rows.next()? else { break };
        let task = prepare(model, seq, &row, options);
        let Some(task) = rows.judge(line, &row, task)? else {
            continue;
        };
        let mut go_on = || progress(share(&rows, done));
        let ended = match task {
            Task::Choose(choices, answer) => found.choose(session, &choices, answer, &mut go_on)?,
            Task::Predict(example, cut, prompt) => {
                found.cut += u64::from(cut);
                found.likelihood = predict(session, &example, found.likelihood)?;
                match prompt {
                    Some((prompt, expected)) => found.complete(session, &prompt, &expected, &mut go_on)?,
                    None => ControlFlow::Continue(()),
                }
            }
        };
        found.rows.count(&row);
        done += 1;
        if ended.is_break() || progress(share(&rows, done)).is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
    }
    found.skipped = rows.bad();
    match (done, limit) {
        (0, 1..) => {
            let e = Error::invalid("there is nothing to evaluate").file(data.path());
            Err(e
                .expected("a good row at least")
                .found(format!("{} bad ones", found.skipped)))
        }
        _ => Ok(found),
    }
}

/// Turns a row into tokens.
fn prepare(model: &Model, seq: usize, row: &Row, options: &EvalOptions) -> Result<Task> {
    let tokenizer = model.tokenizer()?;
    let too_long = |n: usize| {
        let e = Error::invalid("too long to evaluate").expected(format!("at most {seq} tokens"));
        e.found(n)
    };
    let no_prompt = || Error::invalid("the prompt has no tokens").item("prompt");
    if let Row::Choices {
        prompt,
        choices,
        answer,
    } = row
    {
        let choice = |(i, choice): (usize, &String)| {
            let (tokens, start) = continued(tokenizer, prompt, choice)?;
            match () {
                _ if start == 0 => Err(no_prompt()),
                _ if start == tokens.len() => Err(Error::invalid("the choice is empty").item(format!("choices[{i}]"))),
                _ if tokens.len() > seq => Err(too_long(tokens.len()).item(format!("choices[{i}]"))),
                _ => Ok((tokens, start)),
            }
        };
        let choices = choices.iter().enumerate().map(choice).collect::<Result<_>>()?;
        return Ok(Task::Choose(choices, *answer));
    }
    let (example, cut) = row.example(model, seq)?;
    let prompt = match row {
        Row::Completion { prompt, completion } if options.exact_match => {
            let tokens = encode(tokenizer, prompt)?;
            match tokens.len() {
                0 => return Err(no_prompt()),
                n if n > seq => return Err(too_long(n).item("prompt")),
                _ => Some((tokens, completion.trim().to_string())),
            }
        }
        _ => None,
    };
    Ok(Task::Predict(example, cut, prompt))
}

/// Adds the predictions of the tokens that an example learns.
fn predict(session: &mut Session, example: &Example, mut likelihood: Likelihood) -> Result<Likelihood> {
    let (tokens, learn) = (example.tokens(), example.learn());
    let learnt = |learn: &[bool]| learn.iter().position(|l| *l);
    let Some(first) = learnt(learn) else {
        return Ok(likelihood);
    };
    session.reset();
    read(session, tokens, first, &mut |i, p| {
        if learn[i] {
            likelihood.add(p);
        }
    })?;
    Ok(likelihood)
}

/// Appends `tokens`, of which the session may hold some, and gives `each` the log-probability of those from `first` on, at least 1.
fn read(session: &mut Session, tokens: &[u32], first: usize, each: &mut dyn FnMut(usize, f64)) -> Result<()> {
    let had = session.position();
    if had + 1 < first {
        session.eval(&tokens[had..first - 1])?;
    }
    // The last token predicts nothing that is there.
    session.eval_each(&tokens[first - 1..tokens.len() - 1], &mut |i, logits| {
        each(first + i, log_probability(logits, tokens[first + i]));
        ControlFlow::Continue(())
    })
}

/// The index of the highest; the first of equals.
fn highest(values: &[f64]) -> Option<usize> {
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
}

impl Evaluation {
    fn choose(
        &mut self,
        session: &mut Session,
        choices: &[(Vec<u32>, usize)],
        answer: usize,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let (mut sums, mut means) = (Vec::new(), Vec::new());
        session.reset();
        for (tokens, start) in choices {
            // What choices have in common before they part, the prompt, is evaluated once.
            session.keep_common(&tokens[..*start]);
            let mut of = Likelihood::default();
            read(session, tokens, *start, &mut |_, p| of.add(p))?;
            sums.push(of.sum());
            means.push(-of.mean());
            if go_on().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.right += u64::from(highest(&sums) == Some(answer));
        self.right_per_token += u64::from(highest(&means) == Some(answer));
        Ok(ControlFlow::Continue(()))
    }

    fn complete(
        &mut self,
        session: &mut Session,
        prompt: &[u32],
        expected: &str,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        /// Tokens of white space around an answer that are waited for.
        const SPACE: usize = 64;
        let model = session.model().clone();
        let mut sampler = Sampler::new(SamplerOptions::default(), session.vocab_size())?;
        let options = GenerateOptions {
            // A token may stand for nothing that is seen, but hardly so many in a row.
            max_tokens: Some(expected.len() + SPACE),
            ..Default::default()
        };
        session.reset();
        let (mut said, mut ended) = (String::new(), ControlFlow::Continue(()));
        let made = generate(
            session,
            model.tokenizer()?,
            prompt,
            &mut sampler,
            &options,
            &mut |text, _| {
                said.push_str(text);
                ended = go_on();
                // As soon as it says something else, the rest of what it says does not matter.
                match ended.is_continue() && expected.starts_with(said.trim()) {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            },
        )?;
        self.completed += 1;
        self.exact += u64::from(made.finish == Finish::Eos && made.text.trim() == expected);
        Ok(ended)
    }
}

impl Forms {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.text + self.completion + self.messages + self.choices
    }

    fn count(&mut self, row: &Row) {
        *match row {
            Row::Text(_) | Row::Part(_) => &mut self.text,
            Row::Completion { .. } => &mut self.completion,
            Row::Messages { .. } => &mut self.messages,
            Row::Choices { .. } => &mut self.choices,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionOptions;
    use crate::train::DataOptions;

    fn tiny() -> Model {
        Model::open(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/tiny/llama-tied/model.gguf"
        ))
        .unwrap()
    }

    fn data(model: &Model, lines: &str) -> (tempfile::TempDir, Data) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        std::fs::write(&path, lines).unwrap();
        let options = DataOptions {
            seq: 64,
            choices: true,
            ..Default::default()
        };
        let data = Data::open(&path, model, &options).unwrap();
        (folder, data)
    }

    #[test]
    fn it_ends_when_it_is_told_and_starts_afresh() {
        let model = tiny();
        let lines = "{\"text\": \"the fox\"}\n{\"prompt\": \"the\", \"completion\": \" fox\"}\n".repeat(3);
        let (_folder, data) = data(
            &model,
            &(lines + "{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}"),
        );
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let options = EvalOptions {
            exact_match: true,
            ..Default::default()
        };
        let mut shares = Vec::new();
        let run = |session: &mut Session, most: usize, shares: &mut Vec<f32>| {
            shares.clear();
            evaluate(session, &data, &options, &mut |share| {
                shares.push(share);
                match shares.len() < most {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })
        };
        let whole = run(&mut session, usize::MAX, &mut shares).unwrap();
        assert_eq!((whole.rows.all(), whole.completed), (7, 3));
        assert!(shares.is_sorted() && shares.last() == Some(&1.0), "{shares:?}");
        let calls = shares.len();
        assert!(calls > 7, "it is asked while answers are generated, too");
        for most in 1..=calls {
            let e = run(&mut session, most, &mut shares).unwrap_err();
            assert_eq!((e.kind(), shares.len()), (ErrorKind::Cancelled, most));
        }
        // What the session had before does not matter.
        assert_eq!(run(&mut session, usize::MAX, &mut shares).unwrap(), whole);
    }

    #[test]
    fn a_session_without_room_is_refused() {
        let model = tiny();
        let (_folder, data) = data(&model, "{\"text\": \"the fox\"}");
        let options = SessionOptions {
            context: Some(63),
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        let e = evaluate(&mut session, &data, &EvalOptions::default(), &mut |_| {
            ControlFlow::Continue(())
        });
        let e = e.unwrap_err();
        assert_eq!((e.kind(), e.item_name()), (ErrorKind::Usage, Some("seq")));
    }

    #[test]
    fn the_first_of_equals_is_the_highest() {
        assert_eq!(highest(&[-3.0, -1.0, -1.0]), Some(1));
        assert_eq!(highest(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), Some(0));
        assert_eq!(highest(&[]), None);
    }
}
