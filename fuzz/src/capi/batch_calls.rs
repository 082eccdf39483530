//! Calls on batches.

use std::ffi::c_char;
use std::ptr::{null, null_mut};

use graft::capi::adapter::graft_adapter;
use graft::capi::batch::*;
use graft::capi::model::graft_model;

use super::calls::{call, given_text, made, zeroed};
use super::data::{LINES, NAMES};
use super::pool::{Kind, SCRATCH};
use super::session_calls::{Bias, Generate, mutate, scratch, session_options};
use super::slow_calls::{adapter_options, perhaps};
use super::world::{Out, Sized, World};

pub fn new(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    // Each is there or not.
    let some = || w.below(2) == 1;
    let bias = some().then(|| Bias::new(w));
    let how = some().then(|| Generate::new(w));
    let mut sampler = bias.as_ref().map(|bias| bias.options(w));
    let mut generate = how.as_ref().map(|how| how.options(w, false));
    let mut session = some().then(|| session_options(w));
    let mut adapter = some().then(|| adapter_options(w));
    let generate = place(w, &mut generate);
    // A generation's sampler is none of a batch.
    if !generate.is_null() && how.as_ref().is_some_and(|how| !how.sampler.is_null()) {
        w.must_fail();
    }
    let mut options = w.options(graft_batch_options {
        struct_size: 0,
        sampler: place(w, &mut sampler),
        generate,
        session: place(w, &mut session),
        adapter: place(w, &mut adapter),
        folders: i32::from(w.byte() % 2),
        reserved: 0,
    });
    let options = options.options_at(w);
    let mut batch = Out::new(null_mut());
    let ok = call!(w, graft_batch_new(model, options, batch.at(w)));
    made(w, Kind::Batch, batch.get(ok), Vec::new());
}

fn place<T: Copy>(w: &World, options: &mut Option<Sized<T>>) -> *const T {
    options.as_mut().map_or(null(), |o| o.options_at(w).cast_const())
}

/// Else there is seldom one.
fn perhaps_new(w: &World) {
    if w.below(4) > 0 {
        new(w);
    }
}

pub fn adapter(w: &World) {
    perhaps_new(w);
    let batch = w.handle::<graft_batch>(Kind::Batch);
    let adapter = w.handle::<graft_adapter>(Kind::Adapter);
    let (name, weight) = (w.text(NAMES), w.float());
    if !weight.is_finite() {
        w.must_fail();
    }
    call!(w, graft_batch_adapter(batch, name.at(), name.len, adapter, weight));
}

fn lines() -> Vec<&'static [u8]> {
    LINES.iter().map(Vec::as_slice).collect()
}

pub fn line(w: &World) {
    perhaps_new(w);
    let batch = w.handle::<graft_batch>(Kind::Batch);
    let (line, number) = (w.text(&lines()), w.number(4));
    let (mut record, mut len) = (Out::new(null_mut::<c_char>()), Out::new(usize::MAX));
    let to = record.at(w);
    let ok = call!(
        w,
        graft_batch_line(batch, line.at(), line.len, number, to, len.maybe_at(w))
    );
    if let (Some(record), true) = (record.get(ok), w.alone) {
        // SAFETY: a text with a NUL behind it.
        let record = unsafe { std::ffi::CStr::from_ptr(record) }.to_bytes();
        let whole = record.starts_with(b"{\"id\":") && record.ends_with(b"}");
        assert!(whole && !record.contains(&b'\n'), "{}", String::from_utf8_lossy(record));
    }
    given_text(w, record.get(ok), len.get(ok));
}

pub fn run(w: &World) {
    perhaps_new(w);
    let batch = w.handle::<graft_batch>(Kind::Batch);
    // What an earlier run wrote, or did not write to its end, is gone on with where the lines are the same.
    let there = SCRATCH.join("records");
    let mut old = std::fs::read(&there).unwrap_or_default();
    if w.below(2) == 0 {
        old.clear();
    }
    mutate(w, &mut old);
    let _ = std::fs::write(&there, &old);
    let first = w.below(LINES.len());
    let mut lines = Vec::new();
    for i in 0..=w.below(4) {
        lines.extend_from_slice(&LINES[(first + i) % LINES.len()]);
        lines.extend_from_slice(if w.rarely() { b"\r\n\n" } else { b"\n" });
    }
    let _ = std::fs::write(SCRATCH.join("lines"), &lines);
    let (from, to) = (scratch(w, "lines"), scratch(w, "records"));
    let callback = perhaps(w);
    let mut report = w.facts(zeroed::<graft_batch_report>());
    let report_at = report.options_at(w);
    let (from_at, to_at, user) = (from.as_ptr().cast(), to.as_ptr().cast(), w.user_data());
    let ok = call!(
        w,
        graft_batch_run(batch, from_at, from.len(), to_at, to.len(), callback, user, report_at)
    );
    let report = report.value();
    assert!(report.failed <= report.answered && (ok || report.before + report.answered == 0));
    if ok && w.alone && !report_at.is_null() && callback.is_none() {
        let records = std::fs::read(&*String::from_utf8_lossy(&to)).expect("what was written");
        let n = records.iter().filter(|b| **b == b'\n').count() as u64;
        let whole = n == report.before + report.answered && records.last().is_none_or(|b| *b == b'\n');
        assert!(
            whole,
            "{} and {}: {}",
            report.before,
            report.answered,
            String::from_utf8_lossy(&records)
        );
    }
}
