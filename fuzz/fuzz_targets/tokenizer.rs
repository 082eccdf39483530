//! A tokenizer from the metadata of a GGUF file (the rest of the input), and a text for it (the first part).
#![no_main]

use graft::format::Gguf;
use graft::tokenizer::{EncodeOptions, Tokenizer};
use graft_fuzz::{check, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((text, file)) = split(data) else { return };
    let Ok(gguf) = Gguf::from_bytes(file.to_vec()) else {
        return;
    };
    match Tokenizer::from_gguf(gguf.metadata()) {
        Err(e) => check(&e),
        Ok(tokenizer) => {
            let text = String::from_utf8_lossy(text);
            match tokenizer.encode(&text, EncodeOptions::default()) {
                Err(e) => check(&e),
                Ok(ids) => {
                    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                    tokenizer.decode(&ids, false).expect("its own ids decode");
                }
            }
            for id in [0, 1, tokenizer.vocab_size() as u32, u32::MAX] {
                let _ = (
                    tokenizer.token_bytes(id),
                    tokenizer.is_end_of_generation(id),
                    tokenizer.decode(&[id], true),
                );
            }
        }
    }
});
