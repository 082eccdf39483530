//! A PEFT folder of any method: the config (first part of the input), the tensors (the rest), their lowering to forms, a small model that
//! takes them, and two tokens.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use graft::adapter::{AdapterFile, AdapterOptions};
use graft::format::PeftFolder;
use graft::{Error, LoadOptions, Model, Session, SessionOptions};
use graft_fuzz::{check, split};
use libfuzzer_sys::fuzz_target;

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny/llama-tied/model.gguf");
        let options = LoadOptions {
            threads: Some(1),
            ..Default::default()
        };
        Model::open_with(&path, &options).expect("a good model")
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((config, tensors)) = split(data) else { return };
    let run = || -> Result<(), Error> {
        let folder = PeftFolder::from_bytes(config.to_vec(), tensors.to_vec())?;
        for t in folder.tensors() {
            assert_eq!(t.data.len() * 8, t.elements() * t.dtype.bitsize());
            if let Err(e) = t.to_f32() {
                check(&e);
            }
        }
        // The task matters to folders of several only.
        let options = AdapterOptions { task_id: Some(0) };
        let adapter = model().attach(&AdapterFile::of_folder(&folder, &options)?)?;
        let options = SessionOptions {
            context: Some(32),
            chunk: 8,
            ..Default::default()
        };
        let mut session: Session = model().session(&options)?;
        session.set_adapters(&[(adapter, 1.0)])?;
        session.eval(&[1, 2])?;
        Ok(())
    };
    if let Err(e) = run() {
        check(&e);
    }
});
