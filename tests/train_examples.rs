//! Training on examples in memory. Oracles: the same rows in a file, batch by batch; a training that nothing interrupted.

mod common;

use std::ops::ControlFlow;

use common::*;
use graft::kernels::Precision;
use graft::runtime::Cancel;
use graft::train::data::Row;
use graft::train::{
    BatchOptions, Data, DataOptions, Example, Examples, NewAdapter, Parameters, Schedule, TrainOptions, Trainer,
};
use graft::{ErrorKind, Model};
use serde_json::{Value, json};

const SEQ: usize = 40;
const STEPS: usize = 9;

fn tiny() -> Model {
    Model::open(data().join("tiny/llama-tied/model.gguf")).unwrap()
}

fn options() -> TrainOptions {
    TrainOptions {
        steps: STEPS,
        lr: 5e-3,
        warmup: TrainOptions::usual_warmup(STEPS),
        seq: SEQ,
        precision: Precision::Exact,
        ..Default::default()
    }
}

fn trainer(model: &Model, options: TrainOptions) -> Trainer {
    let new = NewAdapter {
        r: 4,
        ..Default::default()
    };
    Trainer::new(model, Parameters::start(model, &new).unwrap(), options).unwrap()
}

/// Rows of the three forms; one is longer than `SEQ`.
fn lines() -> Vec<String> {
    let rows = [
        json!({"text": "the fox and a dog ran"}),
        json!({"prompt": "my cat saw ", "completion": "one bird"}),
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "dog"}]}),
        json!({"text": "that fish"}),
        json!({"text": "one bird saw my cat, and ".repeat(9)}),
    ];
    rows.iter().map(Value::to_string).collect()
}

fn examples(model: &Model, seed: Option<u64>) -> Examples {
    let mut examples = Examples::new(2, seed).unwrap();
    for line in lines() {
        let row = Row::parse(line.as_bytes()).unwrap();
        examples.add(row.example(model, SEQ).unwrap().0);
    }
    examples
}

fn values(trainer: &Trainer) -> Vec<u32> {
    let all = trainer.learner().parameters().all();
    all.iter().flat_map(|p| p.values.iter().map(|v| v.to_bits())).collect()
}

fn go_on(_: &graft::train::StepReport) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn rows_in_memory_are_learnt_as_those_of_a_file() {
    let model = tiny();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, lines().join("\n")).unwrap();
    for seed in [None, Some(7), Some(8)] {
        let data = DataOptions {
            seq: SEQ,
            shuffle: seed.is_some(),
            seed: seed.unwrap_or(0),
            ..Default::default()
        };
        let plain = BatchOptions {
            batch: 2,
            ..Default::default()
        };
        let mut batches = Data::open(&path, &model, &data).unwrap().batches(&plain).unwrap();
        let mut by_file = trainer(&model, options());
        let mut reports = Vec::new();
        while reports.len() < STEPS {
            if let Some(batch) = batches.next().unwrap() {
                reports.push(by_file.step(&batch).unwrap());
            }
        }
        let (mut by_memory, mut examples) = (trainer(&model, options()), examples(&model, seed));
        let mut n = 0;
        by_memory
            .run(&mut examples, STEPS, &mut |report| {
                let of_file = &reports[n];
                assert_eq!(
                    (report.step, report.loss, report.tokens),
                    (n + 1, of_file.loss, of_file.tokens)
                );
                n += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!((n, examples.epoch()), (STEPS, 3), "three batches an epoch");
        assert_eq!(values(&by_memory), values(&by_file), "{seed:?}");
        assert_eq!((by_memory.steps_left(), by_file.steps_left()), (Some(0), Some(0)));
    }
}

#[test]
fn it_goes_on_bit_for_bit_from_wherever_it_was_stopped() {
    let model = tiny();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut whole = trainer(&model, options());
    whole.run(&mut examples(&model, Some(3)), STEPS, &mut go_on).unwrap();
    for stop in [0, 1, 2, 3, 8] {
        // By `each`, as a program would; then by a checkpoint.
        let (mut first, mut rows) = (trainer(&model, options()), examples(&model, Some(3)));
        let mut n = 0;
        if stop > 0 {
            let ended = first.run(&mut rows, STEPS, &mut |_| {
                n += 1;
                match n < stop {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
        }
        assert_eq!((first.steps_done(), first.steps_left()), (stop, Some(STEPS - stop)));
        first.save_checkpoint(&path, &rows.place()).unwrap();
        let (mut second, place) = Trainer::resume(&model, options(), &path).unwrap();
        let mut again = examples(&model, Some(3));
        again.resume(&place).unwrap();
        assert_eq!((again.place(), again.epoch()), (place.clone(), rows.epoch()));
        second.run(&mut again, STEPS - stop, &mut go_on).unwrap();
        assert_eq!(values(&second), values(&whole), "after {stop}");
        // Other rows are not what it stopped in.
        for other in [Some(4), None] {
            let mut other = examples(&model, other);
            other.resume(&place).unwrap();
            let e = trainer(&model, options()).run(&mut other, 1, &mut go_on).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Mismatch, "{e}");
        }
        let mut more = examples(&model, Some(3));
        more.resume(&place).unwrap();
        more.add(Example::all(vec![5, 6, 7]));
        let mut third = trainer(&model, options());
        let e = third.run(&mut more, 1, &mut go_on).unwrap_err();
        assert!(e.kind() == ErrorKind::Mismatch && e.to_string().contains("rows"), "{e}");
        // But a new beginning is.
        more.clear();
        assert!(more.all().is_empty());
        more.add(Example::all(vec![5, 6, 7]));
        third.run(&mut more, 1, &mut go_on).unwrap();
    }
}

#[test]
fn a_flag_ends_a_step_and_nothing_is_changed() {
    let model = tiny();
    let (mut trainer, mut rows) = (trainer(&model, options()), examples(&model, Some(3)));
    let cancel = Cancel::new();
    trainer.cancel_by(Some(cancel.clone()));
    trainer.run(&mut rows, 2, &mut go_on).unwrap();
    let (before, place) = (values(&trainer), rows.place());
    cancel.set();
    let ended = [
        trainer.run(&mut rows, 2, &mut go_on).err(),
        trainer.step(rows.all()).err(),
        trainer.evaluate(rows.all()).err(),
    ];
    assert!(
        ended
            .iter()
            .all(|e| e.as_ref().is_some_and(|e| e.kind() == ErrorKind::Cancelled))
    );
    assert_eq!(
        (values(&trainer), rows.place(), trainer.steps_done()),
        (before, place, 2)
    );
    // Set by `each`: the next step does not begin.
    cancel.clear();
    let ended = trainer.run(&mut rows, 5, &mut |_| {
        cancel.set();
        ControlFlow::Continue(())
    });
    assert_eq!(
        (ended.unwrap_err().kind(), trainer.steps_done()),
        (ErrorKind::Cancelled, 3)
    );
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let model = tiny();
    let mut last = trainer(&model, options());
    let kind = |e: graft::Result<()>| e.map_err(|e| (e.kind(), e.item_name().map(str::to_owned)));
    let steps = Err((ErrorKind::Limit, Some("steps".into())));
    let mut rows = examples(&model, None);
    assert_eq!(
        kind(last.run(&mut rows, STEPS + 1, &mut go_on)),
        steps,
        "more than there are"
    );
    assert_eq!(last.steps_done(), 0);
    last.run(&mut rows, STEPS, &mut go_on).unwrap();
    assert_eq!(
        kind(last.step(rows.all()).map(|_| ())),
        steps,
        "a rate of 0 learns nothing"
    );
    last.run(&mut rows, 0, &mut go_on).unwrap();
    // What does not fall has no end.
    let constant = TrainOptions {
        schedule: Schedule::Constant,
        ..options()
    };
    let mut constant = trainer(&model, constant);
    constant.run(&mut rows, STEPS + 3, &mut go_on).unwrap();
    assert_eq!(constant.steps_left(), None);
    let mut none = Examples::new(1, None).unwrap();
    assert_eq!(
        kind(constant.run(&mut none, 1, &mut go_on)),
        Err((ErrorKind::Usage, None))
    );
    assert_eq!(Examples::new(0, None).err().unwrap().item_name(), Some("batch"));
    let of_a_file = json!({"data": 1, "epoch": 0, "position": 0, "batch": 0, "counts": {}});
    assert_eq!(none.resume(&of_a_file).unwrap_err().kind(), ErrorKind::Mismatch);
    // A place that a file tells is not believed.
    let mut place = examples(&model, None).place();
    for (position, epoch) in [(4u64, u64::MAX), (1 << 60, 3), (u64::MAX, u64::MAX)] {
        place["position"] = position.into();
        place["epoch"] = epoch.into();
        let mut rows = examples(&model, None);
        rows.resume(&place).unwrap();
        constant.run(&mut rows, 2, &mut go_on).unwrap();
    }
}
