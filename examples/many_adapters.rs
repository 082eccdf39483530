//! Attaches an adapter many times, as if they were many, and switches among them: what memory and time that takes.
//!
//!     cargo run --release --example many_adapters -- MODEL.gguf ADAPTER [100]
use std::time::Instant;

use graft::{Model, Result, SessionOptions};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, adapter, rest @ ..] = &args[..] else {
        eprintln!("usage: many_adapters MODEL.gguf ADAPTER [HOW MANY]");
        std::process::exit(2);
    };
    let many = rest.first().and_then(|n| n.parse().ok()).unwrap_or(100);
    let model = Model::open(model)?;
    let mut session = model.session(&SessionOptions::default())?;
    session.eval(&[1, 2, 3])?;

    let (before, start) = (resident(), Instant::now());
    let adapters = (0..many)
        .map(|_| model.load_adapter(adapter))
        .collect::<Result<Vec<_>>>()?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3 / many as f64;
    let each = (resident() - before) / many as f64;
    let file = file_size(adapter.as_ref());
    println!("open and attach  {milliseconds:.2} ms each");
    println!(
        "resident memory  {:.2} MB each, {:.2} of the files",
        each / 1e6,
        each / file
    );

    let mut switch = |times: usize| -> Result<f64> {
        let start = Instant::now();
        for i in 0..times {
            session.set_adapters(&[(adapters[i % many].clone(), 1.0)])?;
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / times as f64;
        session.eval(&[5])?;
        Ok(each)
    };
    switch(many)?;
    let before = resident();
    let each = switch(100_000)?;
    println!("switch           {each:.2} us");
    println!(
        "growth           {:.0} kB in 100,000 switches",
        (resident() - before) / 1e3
    );
    Ok(())
}

/// Bytes of the folder's files, or of the file.
fn file_size(path: &std::path::Path) -> f64 {
    let length = |path: &std::path::Path| path.metadata().map_or(0, |m| m.len()) as f64;
    match path.read_dir() {
        Ok(files) => files.flatten().map(|file| length(&file.path())).sum(),
        Err(_) => length(path),
    }
}

/// Resident bytes of this process, as Linux says it.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}
