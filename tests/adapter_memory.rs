//! The memory of adapters, by an allocator that counts: what the process holds before, with and after them.
//!
//! One test: the count is of the whole process, so nothing else may run beside it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use common::*;
use graft::kernels::Precision;
use graft::{Adapter, LoadOptions, Model, Session, SessionOptions};

/// Bytes that are allocated and not freed.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call goes to `System` as it is; beside that only a number changes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let at = unsafe { System.alloc(layout) };
        if !at.is_null() {
            LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise; `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

const PROMPT: [u32; 6] = [5, 9, 2, 44, 17, 101];

fn load(model: &Model, name: &str) -> Adapter {
    let folder = data().join("methods/llama-tied").join(name);
    model.load_adapter(folder).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Logits behind the prompt with these adapters.
fn logits(session: &mut Session, adapters: &[(Adapter, f32)]) -> Vec<f32> {
    session.reset();
    session.set_adapters(adapters).unwrap();
    session.eval(&PROMPT).unwrap().to_vec()
}

#[test]
fn adapters_take_what_they_say_and_give_it_back() {
    // One thread: what others of a team allocate for themselves, and when, is not the adapters'.
    let options = LoadOptions {
        threads: Some(1),
        ..Default::default()
    };
    let model = Model::open_with(data().join("tiny/llama-tied/model.gguf"), &options).unwrap();
    let [mut first, mut second] = [(); 2].map(|()| model.session(&SessionOptions::default()).unwrap());
    for name in METHODS {
        memory_goes_with_the_last_user(&model, [&mut first, &mut second], name);
    }
    switches_leave_nothing(&model, &mut first);
}

/// Every kind of form, and a prompt.
const METHODS: [&str; 12] = [
    "lora-other",
    "lora-dora",
    "lora-embedding-dora",
    "lora-save-mlp",
    "ia3-all",
    "lokr-both",
    "loha-high-rank",
    "vera",
    "oft",
    "road-1",
    "tokens",
    "prefix-tuning",
];

/// The sessions have run: their buffers are as large as they get, and no adapter is on.
fn memory_goes_with_the_last_user(model: &Model, [first, second]: [&mut Session; 2], name: &str) {
    let base = logits(first, &[]);
    // Buffers grow to what this adapter needs.
    let expected = {
        let adapter = load(model, name);
        logits(second, &[(adapter.clone(), 1.0)]);
        logits(first, &[(adapter, 1.0)])
    };
    assert!(expected != base, "{name} changes nothing");
    logits(first, &[]);
    logits(second, &[]);

    let before = live();
    let adapter = load(model, name);
    first.reset();
    second.reset();
    first.set_adapters(&[(adapter.clone(), 1.0)]).unwrap();
    second.set_adapters(&[(adapter.clone(), 1.0)]).unwrap();
    first.eval(&PROMPT).unwrap();
    second.eval(&PROMPT).unwrap();
    let (with, said) = (live() - before, adapter.bytes() as isize);
    eprintln!("{name}: {with} live, {said} said");
    // In sessions: a program for each site.
    let programs = 2 * 16_000;
    assert!(
        with <= said + programs && with >= said,
        "{name}: {with} bytes live, {said} said"
    );

    // Sessions keep what they run alive, the handle gone (what only other weights would need goes with it).
    drop(adapter);
    assert_eq!(logits_again(first), expected, "{name}: under two sessions");
    let two = live() - before;
    first.reset();
    first.set_adapters(&[]).unwrap();
    assert_eq!(logits_again(second), expected, "{name}: under one session");
    let one = live() - before;
    // Shared: one session has nearly all that two have.
    assert!(
        one < two && one >= two - programs,
        "{name}: {one} under one session, {two} under two"
    );
    second.reset();
    second.set_adapters(&[]).unwrap();
    assert_eq!(live(), before, "{name}: not freed");
    assert_eq!(logits(first, &[]), base);
}

/// The same text again under the adapters that are on.
fn logits_again(session: &mut Session) -> Vec<f32> {
    session.reset();
    session.eval(&PROMPT).unwrap().to_vec()
}

fn switches_leave_nothing(model: &Model, session: &mut Session) {
    let options = SessionOptions {
        precision: Precision::Exact,
        ..Default::default()
    };
    let names = ["lora-other", "lora-dora", "ia3", "lokr-both", "oft"];
    let lists: Vec<Vec<(Adapter, f32)>> = names
        .iter()
        .map(|name| vec![(load(model, name), 1.0)])
        .chain([Vec::new()])
        .collect();
    let mut exact = model.session(&options).unwrap();
    let mut all = |session: &mut Session| -> Vec<Vec<f32>> {
        let fast: Vec<_> = lists.iter().map(|list| logits(session, list)).collect();
        fast.into_iter()
            .chain(lists.iter().map(|list| logits(&mut exact, list)))
            .collect()
    };
    let expected = all(session);
    assert!(
        (1..lists.len()).all(|i| expected[i] != expected[0]),
        "adapters without a difference"
    );
    // A text that goes on while adapters change, from time to time back to the prompt.
    session.reset();
    session.eval(&PROMPT).unwrap();
    let mut switch = |times: usize| {
        for i in 0..times {
            session.set_adapters(&lists[i % lists.len()]).unwrap();
            if i % 500 == 0 {
                session.eval(&[7]).unwrap();
            }
            if session.position() == 50 {
                session.truncate(PROMPT.len()).unwrap();
            }
        }
        session.set_adapters(&[]).unwrap();
    };
    // The text and its cache reach their full length.
    switch(50 * 500);
    let before = live();
    switch(100_000);
    assert_eq!(live() - before, 0, "bytes more after 100,000 switches");
    assert_eq!(all(session), expected, "other logits after 100,000 switches");
}
