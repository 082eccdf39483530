//! The program as a person or a script meets it: every command, its JSON, its exit codes, what goes to stdout and stderr.
//!
//! Oracles: the recorded values of transformers and PEFT (`tests/data`), other commands of the program, and the contract in
//! the help texts.

mod cli {
    mod batch;
    mod bench;
    mod chat;
    mod combine;
    mod convert;
    mod eval;
    mod faults;
    mod inspect;
    mod merge;
    mod numbers;
    mod run;
    pub mod tools;
    mod train;
}
#[path = "common/mod.rs"]
mod common;
