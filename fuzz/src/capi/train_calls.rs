//! Calls on trainers.

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

use graft::capi::chat::graft_message;
use graft::capi::model::graft_model;
use graft::capi::train_options::*;
use graft::capi::trainer::*;
use graft::capi::training::*;

use super::calls::{Conversation, call, made, zeroed};
use super::data::{JSON, PATHS, ROWS, TEXTS, TRAIN};
use super::pool::{Kind, SCRATCH};
use super::session_calls::{mutate, scratch};
use super::world::{Out, Sized, Text, World};

/// Options, and the texts that they point to.
struct Options {
    texts: [Text; 7],
    tokens: Vec<u32>,
    given: u8,
    more: u8,
}

impl Options {
    fn new(w: &World) -> Self {
        Options {
            texts: std::array::from_fn(|i| w.text(&[TRAIN[i], TRAIN[i], TRAIN[w.below(TRAIN.len())]].concat())),
            tokens: w.tokens(),
            given: w.byte(),
            // What only some methods have: seldom, as it is refused by all others.
            more: w.byte() & w.byte() & w.byte(),
        }
    }

    fn options(&self, w: &World) -> Sized<graft_train_options> {
        let at = |i: usize| match self.given >> i & 1 {
            0 => null(),
            _ => self.texts[i].at(),
        };
        let more = |i: usize| self.more >> i & 1 == 1;
        let text = |i: usize| if more(i) { self.texts[i].at() } else { null() };
        let size = |i: usize| {
            if more(i) {
                w.one(&[1, 2, 4, 3, 1000, u32::MAX])
            } else {
                0
            }
        };
        let sometimes = |usual: f32| if w.below(8) < 7 { usual } else { w.float() };
        let options = graft_train_options {
            struct_size: 0,
            method: at(0),
            method_len: self.texts[0].len,
            targets: at(1),
            targets_len: self.texts[1].len,
            init: at(2),
            init_len: self.texts[2].len,
            r: w.one(&[1, 2, 1, 4, 0, 1000]),
            batch: w.one(&[1, 2, 1, 3, u32::MAX, 0]),
            alpha: f64::from(sometimes(4.0)),
            dropout: f64::from(sometimes(0.0)),
            seed: w.number(4),
            // Bounded: a run without a callback goes to its end.
            steps: w.one(&[3, 4, 1, 2, 3, 0]),
            warmup: w.one(&[-1, 0, 1, -1, -2, i64::MAX]),
            schedule: at(3),
            schedule_len: self.texts[3].len,
            optimizer: at(4),
            optimizer_len: self.texts[4].len,
            lr: sometimes(1e-3),
            weight_decay: sometimes(0.0),
            clip: sometimes(1.0),
            lora_plus: sometimes(0.0),
            seq: w.one(&[8, 12, 8, 2, 256, 257, 0, u64::MAX]),
            precision: w.one(&[0, 1, 0, 1, 0, 7]),
            shuffle: i32::from(w.byte() % 2),
            cancel: w.maybe(Kind::Cancel),
            memory: w.one(&[0, 0, 0, 1 << 20, 1 << 30, 1, u64::MAX, 0]),
            modules_to_save: text(5),
            modules_to_save_len: self.texts[5].len,
            prompt_tuning_init_text: text(6),
            prompt_tuning_init_text_len: self.texts[6].len,
            token_indices: self.tokens.as_ptr(),
            n_token_indices: if more(0) { self.tokens.len() } else { 0 },
            num_virtual_tokens: size(1),
            oft_block_size: size(2),
            boft_block_size: size(3),
            group_size: size(4),
        };
        w.options_since(options, std::mem::offset_of!(graft_train_options, memory))
    }
}

pub fn new(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let how = Options::new(w);
    let mut options = how.options(w);
    let options = options.options_at(w);
    let mut trainer = Out::new(null_mut());
    let ok = call!(w, graft_trainer_new(model, options, trainer.at(w)));
    made(w, Kind::Trainer, trainer.get(ok), Vec::new());
}

pub fn plan(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let paths: Vec<&[u8]> = PATHS.iter().map(Vec::as_slice).collect();
    let (folder, how) = (w.text(&paths), Options::new(w));
    let at = if w.below(2) == 0 { null() } else { folder.at() };
    let mut options = how.options(w);
    let options = options.options_at(w);
    let mut plan = w.facts(zeroed::<graft_train_plan>());
    let ok = call!(w, graft_plan_training(model, at, folder.len, options, plan.at(w)));
    let plan = plan.value();
    assert!(ok == (plan.total > 0) && plan.weights <= plan.total && plan.reserved == 0);
}

pub fn open(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let paths: Vec<&[u8]> = PATHS.iter().map(Vec::as_slice).collect();
    let (path, how) = (w.text(&paths), Options::new(w));
    let mut options = how.options(w);
    let options = options.options_at(w);
    let mut trainer = Out::new(null_mut());
    let ok = call!(
        w,
        graft_trainer_open(model, path.at(), path.len, options, trainer.at(w))
    );
    made(w, Kind::Trainer, trainer.get(ok), Vec::new());
}

/// A good checkpoint, perhaps changed, with the options that fit it or others.
pub fn resume(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let mut bytes = std::fs::read(SCRATCH.join("checkpoint")).unwrap_or_default();
    if w.below(2) == 0 {
        mutate(w, &mut bytes);
    }
    let _ = std::fs::write(SCRATCH.join("changed"), &bytes);
    let (path, how) = (scratch(w, "changed"), Options::new(w));
    let mut options = match w.below(4) {
        0 => how.options(w),
        _ => w.options_since(small(), std::mem::offset_of!(graft_train_options, memory)),
    };
    let options = options.options_at(w);
    let mut trainer = Out::new(null_mut());
    let at = path.as_ptr().cast();
    let ok = call!(w, graft_trainer_resume(model, at, path.len(), options, trainer.at(w)));
    made(w, Kind::Trainer, trainer.get(ok), Vec::new());
}

/// Options that always fit.
fn small() -> graft_train_options {
    let mut options = zeroed::<graft_train_options>();
    // SAFETY: as large as is said.
    unsafe { graft_train_options_init(&raw mut options, size_of_val(&options)) };
    (options.r, options.seq, options.steps) = (1, 8, 4);
    options
}

/// A trainer that can do something: else there is seldom one.
fn perhaps_new(w: &World) {
    match w.below(4) {
        0 => {}
        1 => new(w),
        _ => {
            let model = w.handle::<graft_model>(Kind::Model);
            let options = small();
            let mut trainer = Out::new(null_mut());
            let ok = call!(w, graft_trainer_new(model, &raw const options, trainer.at(w)));
            let trainer = trainer.get(ok);
            made(w, Kind::Trainer, trainer, Vec::new());
            if let (Some(trainer), true) = (trainer, w.below(2) == 0) {
                let row = graft_row {
                    text: c"Hello".as_ptr(),
                    text_len: 5,
                    ..zeroed()
                };
                call!(w, graft_trainer_add(trainer, &raw const row, 1));
            }
        }
    }
}

/// A row and what it points to.
struct Row {
    texts: [Text; 3],
    tokens: Vec<u32>,
    learn: Vec<u8>,
    talk: Conversation,
    forms: u8,
}

impl Row {
    fn new(w: &World) -> Self {
        let tokens = w.tokens();
        Row {
            texts: [w.text(TEXTS), w.text(JSON), w.text(ROWS)],
            learn: tokens.iter().map(|_| w.byte() % 2).collect(),
            tokens,
            talk: Conversation::new(w),
            // Mostly one.
            forms: match w.byte() {
                n @ 0..240 => [1, 2, 4, 8, 16, 33, 68, 1][n as usize % 8],
                n => n,
            },
        }
    }

    fn row(&self) -> graft_row {
        let has = |form: u8| self.forms & form != 0;
        let text = |form: u8, text: &Text| -> (*const c_char, usize) {
            match has(form) {
                true => (text.at(), text.len),
                false => (null(), 0),
            }
        };
        let [a, b, line] = &self.texts;
        let (tokens, learn) = (has(1), has(32));
        let messages: *const graft_message = self.talk.messages.as_ptr();
        let mut row = zeroed::<graft_row>();
        if tokens {
            (row.tokens, row.n_tokens) = (self.tokens.as_ptr(), self.tokens.len());
        }
        if learn {
            row.learn = self.learn.as_ptr();
        }
        (row.text, row.text_len) = text(2, a);
        (row.completion, row.completion_len) = text(4, a);
        (row.prompt, row.prompt_len) = text(64, b);
        if has(8) {
            (row.messages, row.n_messages) = (messages, self.talk.len());
        }
        (row.tools, row.tools_len) = text(128, b);
        (row.line, row.line_len) = text(16, line);
        row
    }
}

fn rows(w: &World) -> (Vec<Row>, Vec<graft_row>) {
    let made: Vec<Row> = (0..w.below(4)).map(|_| Row::new(w)).collect();
    let rows = made.iter().map(Row::row).collect();
    (made, rows)
}

pub fn add(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let (_texts, rows) = rows(w);
    let at = w.start(rows.as_ptr(), rows.len());
    call!(w, graft_trainer_add(trainer, at, rows.len()));
}

/// Gives a row, and perhaps calls.
unsafe extern "C" fn give(row: *mut graft_row, world: *mut c_void) -> i32 {
    // SAFETY: the world of the thread that made the call.
    let ends = unsafe { World::called_back(world) };
    // SAFETY: as above; the row is the library's, to be written.
    unsafe {
        let w = &*world.cast::<World>();
        *row = graft_row {
            text: c"Hello".as_ptr(),
            text_len: w.below(6),
            ..zeroed()
        };
        match ends {
            0 => 1,
            _ => w.one(&[0, 0, -1, 7]),
        }
    }
}

pub fn pull(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let mut n = Out::new(u64::MAX);
    let callback: graft_row_callback = if w.rarely() { None } else { Some(give) };
    if callback.is_none() {
        w.must_fail();
    }
    let ok = call!(w, graft_trainer_pull(trainer, callback, w.user_data(), n.maybe_at(w)));
    let _ = n.get(ok);
}

pub fn clear(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    call!(w, graft_trainer_clear(trainer));
}

pub fn step(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let (_texts, rows) = rows(w);
    let at = w.start(rows.as_ptr(), rows.len());
    let mut report = w.facts(zeroed::<graft_train_report>());
    let to = report.options_at(w);
    let ok = call!(w, graft_trainer_step(trainer, at, rows.len(), to));
    check(&report.value(), ok && !to.is_null(), ok);
}

/// What a report may say.
fn check(report: &graft_train_report, there: bool, ok: bool) {
    assert!(ok || report.step == 0, "a report of a call that failed");
    assert!(!there || report.step > 0 && report.targets < report.tokens.max(1));
}

unsafe extern "C" fn told(report: *const graft_train_report, world: *mut c_void) -> i32 {
    // SAFETY: a report, during the call.
    check(unsafe { &*report }, true, true);
    // SAFETY: the world of the thread that made the call.
    unsafe { World::called_back(world) }
}

pub fn run(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let callback: graft_train_callback = if w.below(2) == 0 { None } else { Some(told) };
    let steps = match callback {
        Some(_) => w.number(4),
        // Nothing else would end it.
        None => w.below(4) as u64,
    };
    let mut report = w.facts(zeroed::<graft_train_report>());
    let to = report.options_at(w);
    let ok = call!(w, graft_trainer_run(trainer, steps, callback, w.user_data(), to));
    check(&report.value(), false, ok);
}

pub fn evaluate(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let (_texts, rows) = rows(w);
    let at = w.start(rows.as_ptr(), rows.len());
    let mut loss = Out::new(-1.0f64);
    let ok = call!(w, graft_trainer_evaluate(trainer, at, rows.len(), loss.at(w)));
    assert!(loss.get(ok).is_none_or(|loss| !(loss < 0.0)));
}

pub fn adapter(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let mut adapter = Out::new(null_mut());
    let ok = call!(w, graft_trainer_adapter(trainer, adapter.at(w)));
    made(w, Kind::Adapter, adapter.get(ok), Vec::new());
}

pub fn save(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let to = scratch(w, "trained");
    call!(w, graft_trainer_save(trainer, to.as_ptr().cast(), to.len()));
}

pub fn checkpoint(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let to = scratch(w, "checkpoint");
    call!(w, graft_trainer_checkpoint(trainer, to.as_ptr().cast(), to.len()));
}

pub fn info(w: &World) {
    perhaps_new(w);
    let trainer = w.handle::<graft_trainer>(Kind::Trainer);
    let mut info = w.facts(zeroed::<graft_trainer_info>());
    let ok = call!(w, graft_trainer_get_info(trainer, info.at(w)));
    let info = info.value();
    assert!(!ok || info.rows_cut <= info.rows && info.steps_left >= -1 && info.steps_skipped <= info.steps);
}
