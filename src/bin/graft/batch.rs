//! `graft batch`: a file of prompts, one JSON object a line, to a file of answers, one a line in the same order.

use std::path::Path;

use graft::ErrorKind;
use graft::adapter::AdapterOptions;
use graft::runtime::{Batch, BatchFiles, BatchOptions, GenerateOptions};

use crate::args::BatchArgs;
use crate::interrupt::Catch;
use crate::load;
use crate::output::{Done, Fail, say};
use crate::progress::Progress;

pub fn run(args: &BatchArgs) -> Done {
    // Before the model: a wrong option or file should not wait for a big one.
    let max_tokens = load::max_tokens(args.n)?;
    let sampling = args.sampling.options(0.0, || 0)?;
    let mut files = BatchFiles::open(file(&args.input), file(&args.output))?;
    if files.before() > 0 {
        say(&format!(
            "{}: {} lines are there already; going on after them",
            args.output.display(),
            files.before()
        ));
    }
    let (model, adapters) = load::model_and_adapters(&args.model)?;
    let catch = Catch::begin();
    let options = BatchOptions {
        sampling,
        generate: GenerateOptions {
            max_tokens,
            stop: args.end.stop.clone(),
            ignore_eos: args.end.ignore_eos,
            keep: args.end.keep,
            show_special: false,
            cancel: vec![catch.flag()],
        },
        session: graft::SessionOptions {
            context: args.end.ctx,
            precision: args.model.precision(),
            ..Default::default()
        },
        adapter: AdapterOptions {
            task_id: args.model.task_id,
        },
        folders: true,
    };
    let mut batch = Batch::new(&model, options)?;
    for a in adapters.iter().filter(|a| a.name.is_none()) {
        batch.add_default_adapter(a.adapter.clone(), a.weight)?;
    }
    // From behind: of several with one name the first counts.
    for a in adapters.into_iter().rev() {
        if let Some(name) = a.name {
            batch.add_adapter(&name, a.adapter, a.weight)?;
        }
    }

    let progress = Progress::new("batch");
    let done = batch.run_files(&mut files, &mut |share| {
        progress.set(share);
        true
    });
    progress.finish();
    match done {
        Ok(report) => {
            if report.failed > 0 {
                say(&format!(
                    "{} of {} lines have an error record",
                    report.failed, report.answered
                ));
            }
            Ok(())
        }
        Err(e) if e.kind() == ErrorKind::Cancelled => {
            say(&format!(
                "stopped; the same command goes on after line {}",
                files.line() - 1
            ));
            Err(Fail::Interrupted)
        }
        Err(_) if files.closed() => Err(Fail::Closed),
        Err(e) => Err(e.into()),
    }
}

/// `-` is standard input or output.
fn file(path: &Path) -> Option<&Path> {
    (path != Path::new("-")).then_some(path)
}
