//! A PEFT folder: the config (first part of the input), the tensors (the rest), and their lowering to forms.
#![no_main]

use graft::adapter::lora;
use graft::format::PeftFolder;
use graft_fuzz::{check, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((config, tensors)) = split(data) else { return };
    match PeftFolder::from_bytes(config.to_vec(), tensors.to_vec()) {
        Err(e) => check(&e),
        Ok(folder) => {
            for t in folder.tensors() {
                assert_eq!(t.data.len() * 8, t.elements() * t.dtype.bitsize());
                if let Err(e) = t.to_f32() {
                    check(&e);
                }
            }
            if let Err(e) = lora::lower(&folder) {
                check(&e);
            }
        }
    }
});
