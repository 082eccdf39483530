//! Hostile files against the readers in `graft::format`: no panic, no large allocation, one line that names the fault.
//!
//! The oracle is the format's own specification, written down once more in [`writer`]: a file is built from it, then
//! broken at every place where the specification puts a number.

#[path = "../common/mod.rs"]
mod common;

mod adapter;
mod files;
mod gguf;
mod mutations;
mod writer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use graft::{Error, ErrorKind};

thread_local! {
    /// Bytes that this thread holds, and the most it held since the last [`measured`] began.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting per thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(change: isize) {
    // A thread that is ending has no counter any more; nothing is measured there.
    let _ = HELD.try_with(|held| {
        let now = held.get().0 + change;
        held.set((now, held.get().1.max(now)));
    });
}

// SAFETY: every call is handed on to the system's allocator as it came; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs `f` and says how many bytes it held at its peak beyond what was held before.
fn measured<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = HELD.with(|held| {
        let now = held.get().0;
        held.set((now, now));
        now
    });
    let result = f();
    let peak = HELD.with(Cell::get).1;
    (result, usize::try_from(peak - before).unwrap_or(0))
}

/// What opening a file of `len` bytes may hold: a directory in memory is somewhat larger than on disk, not more.
fn allowed(len: usize) -> usize {
    4 * len + (1 << 20)
}

/// An error about bad data is one line of bounded length, and not blamed on the system, the caller or Graft.
#[track_caller]
fn check_error(e: &Error) {
    let text = e.to_string();
    assert!(
        !text.contains(['\n', '\r']) && text.len() < 4000,
        "not one line: {text}"
    );
    assert!(
        matches!(e.kind(), ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Limit),
        "{:?}: {text}",
        e.kind()
    );
    assert!(e.path().is_some(), "no file named: {text}");
}

#[test]
fn the_counter_sees_a_large_allocation() {
    let (_, peak) = measured(|| drop(std::hint::black_box(vec![1u8; 3 << 20])));
    assert!((3 << 20..4 << 20).contains(&peak), "{peak}");
}
