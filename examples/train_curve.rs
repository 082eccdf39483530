//! The learning curve, for comparison with that of PEFT and torch (`tests/reference/train_curve.py`, from the same folder on the same rows):
//! `train_curve M.gguf START_DIR ROWS.jsonl fast|exact STEPS WARMUP CURVE.json SAVE_DIR`.
//!
//! A row is `{"tokens": [ids], "learn": [booleans]}`; one is a step, in the order of the file, from the first again after the last. AdamW,
//! learning rate 2e-4, cosine, weight decay 0.01, gradients cut to a norm of 1: what `train_curve.py` has where nothing else is said.

use graft::kernels::Precision;
use graft::train::{Example, Parameters, TrainOptions, Trainer};
use graft::{Error, Model, Result};
use serde_json::{Value, json};

const SEQ: usize = 256;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, start, rows, precision, steps, warmup, curve, save] = &args[..] else {
        return Err(Error::usage("eight arguments").expected("those that the first lines of the source say"));
    };
    let number = |text: &str| text.parse().map_err(|_| Error::usage("not a number").found(text));
    let options = TrainOptions {
        steps: number(steps)?,
        warmup: number(warmup)?,
        weight_decay: 0.01,
        seq: SEQ,
        precision: match precision.as_str() {
            "fast" => Precision::Fast,
            "exact" => Precision::Exact,
            other => return Err(Error::usage("unknown precision").expected("fast or exact").found(other)),
        },
        ..Default::default()
    };
    let file = std::fs::read_to_string(rows).map_err(|e| Error::usage(format!("{rows}: {e}")))?;
    let rows: Vec<Example> = file.lines().map(row).collect::<Result<_>>()?;
    let model = Model::open(model)?;
    let mut trainer = Trainer::new(&model, Parameters::open(start.as_ref())?, options)?;
    let mut lines = Vec::new();
    for row in rows.iter().cycle().take(number(steps)?) {
        let report = trainer.step(std::slice::from_ref(row))?;
        println!(
            "step {} loss {:.4} norm {:.3} lr {:.2e} in {:.2} s",
            report.step - 1,
            report.loss,
            report.grad_norm,
            report.lr,
            report.seconds
        );
        lines.push(
            json!({"loss": report.loss, "grad_norm": report.grad_norm, "lr": report.lr, "learnt": report.targets}),
        );
    }
    let options =
        json!({"precision": precision, "seq": SEQ, "lr": trainer.options().lr, "warmup": trainer.options().warmup});
    std::fs::write(curve, json!({"options": options, "steps": lines}).to_string())
        .map_err(|e| Error::usage(format!("{curve}: {e}")))?;
    trainer.save(save.as_ref())
}

fn row(line: &str) -> Result<Example> {
    let bad = || Error::invalid("not a row").expected(r#"{"tokens": [ids], "learn": [booleans]}"#);
    let row: Value = serde_json::from_str(line).map_err(|_| bad())?;
    let list = |key: &str| row[key].as_array().ok_or_else(bad);
    let tokens = list("tokens")?
        .iter()
        .map(|t| t.as_u64().and_then(|t| u32::try_from(t).ok()));
    let tokens = tokens.collect::<Option<_>>().ok_or_else(bad)?;
    let learn = list("learn")?.iter().map(Value::as_bool);
    let learn = learn.collect::<Option<_>>().ok_or_else(bad)?;
    Ok(Example::new(tokens, learn)?.cut(SEQ)?.0)
}
