//! How fast training steps are, and where the time goes: `train_speed M.gguf [SEQ [STEPS [BATCH]]] [exact]`. LoRA of rank 16 on all linear
//! maps.

use graft::kernels::Precision;
use graft::train::{Example, NewAdapter, Parameters, TrainOptions, Trainer};
use graft::{Model, Result};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (seq, steps, batch) = (number(2, 512), number(3, 3), number(4, 1));
    let model = Model::open(&args[1])?;
    let parameters = Parameters::start(
        &model,
        &NewAdapter {
            r: 16,
            ..Default::default()
        },
    )?;
    let options = TrainOptions {
        steps: steps + 1,
        seq,
        precision: if args.iter().any(|a| a == "exact") {
            Precision::Exact
        } else {
            Precision::Fast
        },
        ..Default::default()
    };
    let mut trainer = Trainer::new(&model, parameters, options)?;
    let vocab = model.spec().vocab_size as u32;
    let example = |from: u32| Example::all((0..seq as u32).map(|i| ((from + i) * 7919 + 13) % vocab).collect());
    let examples: Vec<_> = (0..batch as u32).map(|i| example(i * seq as u32)).collect();
    trainer.step(&examples)?;
    model.cpu().times().start();
    let mut seconds = 0.0;
    for _ in 0..steps {
        let report = trainer.step(&examples)?;
        seconds += report.seconds;
        println!(
            "step {}: loss {:.4}, {:.1} tokens/s",
            report.step,
            report.loss,
            (batch * seq) as f64 / report.seconds
        );
    }
    let mut sums = std::collections::BTreeMap::<_, (f64, usize)>::new();
    for op in model.cpu().times().stop() {
        let sum = sums.entry(op.op).or_default();
        sum.0 += op.time.as_secs_f64();
        sum.1 += op.macs + op.integer_macs;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let mut rest = seconds;
    for (op, (time, macs)) in sums {
        rest -= time;
        let rate = macs as f64 / time / 1e9;
        println!("{op:16} {:6.1} ms a step, {rate:6.1} GMAC/s", 1e3 * time / steps as f64);
    }
    println!("{:16} {:6.1} ms a step", "the rest", 1e3 * rest / steps as f64);
    println!("{:.1} tokens/s", (batch * seq * steps) as f64 / seconds);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status
        .lines()
        .filter(|l| l.starts_with("VmHWM") || l.starts_with("Rss"));
    held.for_each(|line| println!("{line}"));
    Ok(())
}
