//! A whole model file: loading it and one step of the forward pass, whatever its metadata say.
#![no_main]

use graft::format::LoadMode;
use graft::{LoadOptions, Model, SessionOptions};
use graft_fuzz::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = std::env::temp_dir().join(format!("graft-fuzz-{}.gguf", std::process::id()));
    std::fs::write(&path, data).expect("a file in the temporary folder");
    let run = || {
        let model = Model::open_with(
            &path,
            &LoadOptions {
                mode: LoadMode::Read,
                threads: Some(1),
                ..Default::default()
            },
        )?;
        let options = SessionOptions {
            context: Some(16),
            chunk: 8,
            ..Default::default()
        };
        model.session(&options)?.eval(&[1, 2, 3])?;
        Ok(())
    };
    if let Err(e) = run() {
        check(&e);
    }
});
