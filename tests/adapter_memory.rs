//! The memory of adapters, by an allocator that counts: what the test's own thread holds before, with and after them.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::*;
use graft::kernels::Precision;
use graft::{Adapter, LoadOptions, Model, Session, SessionOptions};

thread_local! {
    /// Bytes that this thread allocated and did not free. The models here have one thread, the caller's: what others allocate (the test
    /// harness, other tests) is not theirs.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // No error but at the thread's end, when nobody asks any more.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

struct Counting;

// SAFETY: every call goes to `System` as it is; beside that only a number changes, which needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let at = unsafe { System.alloc(layout) };
        if !at.is_null() {
            count(layout.size() as isize);
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise; `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> isize {
    LIVE.get()
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

fn model() -> Model {
    let options = LoadOptions {
        threads: Some(1),
        ..Default::default()
    };
    Model::open_with(data().join("tiny/llama-tied/model.gguf"), &options).unwrap()
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

#[test]
fn adapters_take_what_they_say_and_give_it_back() {
    let model = model();
    let [mut first, mut second] = [(); 2].map(|()| model.session(&SessionOptions::default()).unwrap());
    let left = METHODS.map(|name| memory_goes_with_the_last_user(&model, [&mut first, &mut second], name));
    assert_eq!(left, [0; METHODS.len()], "bytes not freed");
}

/// Bytes that are left when the last has let go.
fn memory_goes_with_the_last_user(model: &Model, [first, second]: [&mut Session; 2], name: &str) -> isize {
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
    // In the sessions: a program for each site.
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
    // Shared: one session has what two have. (The other has an empty list of adapters now.)
    assert!(
        one.abs_diff(two) <= 1000,
        "{name}: {one} under one session, {two} under two"
    );
    // The same last pass as before the measurement.
    for session in [first, second] {
        assert_eq!(logits(session, &[]), base, "{name}: off");
    }
    live() - before
}

/// The same text again under the adapters that are on.
fn logits_again(session: &mut Session) -> Vec<f32> {
    session.reset();
    session.eval(&PROMPT).unwrap().to_vec()
}

#[test]
fn switches_leave_nothing() {
    let model = &model();
    let session = &mut model.session(&SessionOptions::default()).unwrap();
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
