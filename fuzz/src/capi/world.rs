//! Arguments from bytes. What is handed out wrongly is remembered until the call that gets it: it must not succeed.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use graft::capi::error::{
    graft_error, graft_error_expected, graft_error_file, graft_error_found, graft_error_item, graft_error_message,
    graft_error_status,
};
use graft::capi::status::{
    GRAFT_ERROR_BUSY, GRAFT_ERROR_HANDLE, GRAFT_ERROR_INTERNAL, GRAFT_ERROR_POISONED, GRAFT_NUL, GRAFT_OK, graft_status,
};

use super::pool::{Kind, Pool, free};
use super::tally::count;

/// How deep callbacks call in.
const DEPTH: u32 = 3;

/// What one thread of a sequence sees.
pub struct World<'a> {
    pub pool: &'a Pool,
    input: Cell<&'a [u8]>,
    left: Cell<usize>,
    depth: Cell<u32>,
    /// No other thread has the handles: what is known of them stays true, and what they lend can be read.
    pub alone: bool,
    wrong: Cell<Wrong>,
}

/// What is wrong with the arguments so far.
#[derive(Clone, Copy, Default)]
pub struct Wrong {
    /// A handle is none.
    handle: bool,
    /// Something that is always refused.
    other: bool,
}

impl<'a> World<'a> {
    pub fn new(pool: &'a Pool, input: &'a [u8], calls: usize, alone: bool) -> Self {
        World {
            pool,
            input: Cell::new(input),
            left: Cell::new(calls),
            depth: Cell::new(0),
            alone,
            wrong: Cell::default(),
        }
    }

    /// Whether there is another call.
    pub fn go_on(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0 && !self.input.get().is_empty()
    }

    /// The next byte; 0 behind the end.
    pub fn byte(&self) -> u8 {
        let input = self.input.get();
        let (first, rest) = input.split_first().unwrap_or((&0, input));
        self.input.set(rest);
        *first
    }

    /// A number below `n`, which is at most 256.
    pub fn below(&self, n: usize) -> usize {
        self.byte() as usize % n
    }

    /// Once in 32 times.
    pub fn rarely(&self) -> bool {
        self.byte() >= 248
    }

    /// One of `items`.
    pub fn one<T: Copy>(&self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Says that the next call must fail.
    pub fn must_fail(&self) {
        self.wrong.set(Wrong {
            other: true,
            ..self.wrong.get()
        });
    }

    /// What the arguments since the last call are.
    pub fn take_wrong(&self) -> Wrong {
        self.wrong.take()
    }

    /// What a callback of a call does, which has this world as its `user_data`: perhaps calls, and whether it ends the work.
    ///
    /// # Safety
    /// `world` is a world that this thread has.
    pub unsafe fn called_back(world: *mut c_void) -> i32 {
        // SAFETY: as the caller promises; a world is only used through shared references.
        let world = unsafe { &*world.cast::<World>() };
        let depth = world.depth.get();
        world.depth.set(depth + 1);
        if depth < DEPTH && world.byte() % 4 == 3 && world.go_on() {
            super::step(world);
        }
        world.depth.set(depth);
        // Without more input it must end by itself.
        i32::from(world.input.get().is_empty() || world.byte() >= 240)
    }

    /// This world as `user_data`.
    pub fn user_data(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// A handle of `kind`: mostly a good one.
    pub fn handle<H>(&self, kind: Kind) -> *mut H {
        self.handle_that(kind, false)
    }

    /// As [`World::handle`]; what it cannot do without is looked at too.
    pub fn handle_that<H>(&self, kind: Kind, with_needs: bool) -> *mut H {
        let way = self.byte();
        let at = match way {
            0..208 => self.pool.choose(|e| e.kind == kind && e.alive, |n| self.below(n)),
            208..224 => self.pool.choose(|e| e.kind == kind, |n| self.below(n)),
            224..240 => self.pool.choose(|_| true, |n| self.below(n)),
            240..248 => null_mut(),
            _ => self
                .pool
                .choose(|e| e.kind == kind, |n| self.below(n))
                .wrapping_byte_add(1),
        };
        if !self.pool.usable(at, kind, with_needs) {
            self.wrong.set(Wrong {
                handle: true,
                ..self.wrong.get()
            });
        }
        at.cast()
    }

    /// A handle, or NULL where that stands for none.
    pub fn maybe<H>(&self, kind: Kind) -> *mut H {
        if self.byte() < 160 {
            return null_mut();
        }
        let before = self.wrong.get();
        let at = self.handle::<H>(kind);
        if at.is_null() {
            self.wrong.set(before);
        }
        at
    }

    /// A text, and the length to say. The text has a NUL behind it.
    pub fn text(&self, texts: &[&[u8]]) -> Text {
        let way = self.byte();
        let mut bytes = match way {
            0..248 => self.one(texts).to_vec(),
            _ => (0..self.below(24)).map(|_| self.byte()).collect(),
        };
        let mut len = bytes.len();
        if way % 4 == 3 {
            len = GRAFT_NUL;
        } else if way % 4 == 2 {
            len = self.below(len + 1);
        }
        bytes.push(0);
        let missing = way == 247;
        Text { bytes, len, missing }
    }

    /// Small numbers that stand for tokens, some of which are none.
    pub fn tokens(&self) -> Vec<u32> {
        let n = match self.byte() {
            n @ 0..250 => n % 8,
            n => n % 64,
        };
        (0..n)
            .map(|_| {
                if self.rarely() {
                    self.one(&[u32::MAX, 1 << 20, 100_000])
                } else {
                    self.byte().into()
                }
            })
            .collect()
    }

    /// A number that may be none.
    pub fn float(&self) -> f32 {
        let odd = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            1e-40,
            -0.0,
            0.0,
            -1.0,
        ];
        match self.byte() {
            0..128 => 1.0,
            n @ 128..240 => f32::from(n - 128) / 64.0,
            n => odd[n as usize % odd.len()],
        }
    }

    /// A count for a field: small, or as large as it gets.
    pub fn number(&self, below: usize) -> u64 {
        if self.rarely() {
            self.one(&[u64::MAX, 1 << 63, 1 << 40, u32::MAX as u64])
        } else {
            self.below(below) as u64
        }
    }

    /// `start`, or rarely NULL or somewhere that is not aligned, where `n` elements are.
    pub fn start<T>(&self, start: *const T, n: usize) -> *const T {
        let at = match self.byte() {
            255 => null(),
            254 if align_of::<T>() > 1 => start.wrapping_byte_add(1),
            _ => start,
        };
        if n > 0 && at != start {
            self.must_fail();
        }
        at
    }

    /// A struct of options; rarely a later version's, with a field that is set.
    pub fn options<T: Copy>(&self, value: T) -> Sized<T> {
        self.options_since(value, size_of::<T>())
    }

    /// The same, of a struct that once had only the first `first` bytes.
    pub fn options_since<T: Copy>(&self, value: T, first: usize) -> Sized<T> {
        let mut made = self.facts_since(value, first);
        // SAFETY: all of them begin with their size.
        let size = unsafe { (&raw const made.value).cast::<usize>().read() };
        if size > size_of::<T>() && size <= 4096 && self.byte() % 4 == 3 {
            made.tail[0] = 1;
            self.must_fail();
        }
        made
    }

    /// A struct with its size, which is rarely wrong.
    pub fn facts<T: Copy>(&self, value: T) -> Sized<T> {
        self.facts_since(value, size_of::<T>())
    }

    /// The same, of a struct that once had only the first `first` bytes.
    pub fn facts_since<T: Copy>(&self, value: T, first: usize) -> Sized<T> {
        let known = size_of::<T>();
        let size = match self.byte() {
            0..232 => known,
            232..236 => known + 8,
            236..240 => 4096,
            n => [0, 1, known - 8, known - 1, known + 1, 4104, usize::MAX, 8][n as usize % 8],
        };
        if size < first || size > 4096 || !size.is_multiple_of(8) {
            self.must_fail();
        }
        let mut made = Sized { value, tail: [0; 4096] };
        // SAFETY: all of them begin with their size.
        unsafe { (&raw mut made.value).cast::<usize>().write(size) };
        made
    }

    /// Counts a call and checks what it returned.
    pub fn judge(&self, function: &'static str, status: graft_status, wrong: Wrong) -> bool {
        count(function, status);
        let said = |what: &str| panic!("{function} returned {status}: {what}");
        if status == GRAFT_ERROR_INTERNAL || status == GRAFT_ERROR_POISONED {
            said("a defect");
        }
        if status == GRAFT_OK && wrong.other {
            said("an argument was wrong");
        }
        if self.alone {
            match status {
                GRAFT_OK if wrong.handle => said("a handle was wrong"),
                GRAFT_ERROR_HANDLE if !wrong.handle => said("all handles were good"),
                GRAFT_ERROR_BUSY if self.depth.get() == 0 => said("nobody else is here"),
                _ => {}
            }
        }
        status == GRAFT_OK
    }
}

/// A text as an argument.
pub struct Text {
    bytes: Vec<u8>,
    pub len: usize,
    missing: bool,
}

impl Text {
    pub fn at(&self) -> *const c_char {
        if self.missing {
            null()
        } else {
            self.bytes.as_ptr().cast()
        }
    }
}

/// A struct with room behind it, as its size may say.
#[repr(C)]
pub struct Sized<T> {
    value: T,
    tail: [u8; 4096],
}

impl<T: Copy> Sized<T> {
    /// Where it is; rarely where it is not.
    pub fn at(&mut self, world: &World) -> *mut T {
        world.start((&raw mut *self).cast::<T>(), 1).cast_mut()
    }

    /// As [`Sized::at`]; rarely NULL, which stands for none, where nothing is wrong with what it holds.
    pub fn options_at(&mut self, world: &World) -> *mut T {
        let wrong = world.wrong.get();
        let at = (&raw mut *self).cast::<T>();
        match world.byte() {
            248.. if !wrong.handle && !wrong.other => null_mut(),
            247 => {
                world.must_fail();
                at.wrapping_byte_add(1)
            }
            _ => at,
        }
    }

    pub fn value(&self) -> T {
        self.value
    }
}

/// Room for a result.
pub struct Out<T> {
    room: [T; 2],
    before: T,
    missing: bool,
}

impl<T: Copy + PartialEq> Out<T> {
    pub fn new(before: T) -> Self {
        Out {
            room: [before; 2],
            before,
            missing: false,
        }
    }

    /// Where it goes; rarely nowhere, which must fail.
    pub fn at(&mut self, world: &World) -> *mut T {
        world.start(&raw mut self.room[0], 1).cast_mut()
    }

    /// As [`Out::at`]; NULL says that nobody wants it.
    pub fn maybe_at(&mut self, world: &World) -> *mut T {
        self.missing = world.byte() % 8 == 7;
        if self.missing {
            null_mut()
        } else {
            &raw mut self.room[0]
        }
    }

    /// What was written, after success; after a failure nothing may have been.
    pub fn get(&self, ok: bool) -> Option<T> {
        assert!(self.room[1] == self.before, "written beside the result");
        assert!(
            ok || self.room[0] == self.before,
            "a result was written by a call that failed"
        );
        (ok && !self.missing).then_some(self.room[0])
    }
}

/// Where a call says what went wrong.
pub struct ErrorOut {
    room: [*mut graft_error; 2],
    way: u8,
    wrong: Wrong,
}

/// What is in an error's place before a call.
const STALE: *mut graft_error = std::ptr::without_provenance_mut(64);

impl ErrorOut {
    pub fn new() -> Self {
        ErrorOut {
            room: [STALE; 2],
            way: 0,
            wrong: Wrong::default(),
        }
    }

    /// The last argument: all others are known now.
    pub fn at(&mut self, world: &World) -> *mut *mut graft_error {
        self.way = world.byte();
        self.wrong = world.take_wrong();
        match self.way {
            240..252 => null_mut(),
            252.. => (&raw mut self.room[0]).wrapping_byte_add(1),
            _ => &raw mut self.room[0],
        }
    }

    /// Checks what the call said; whether it succeeded.
    pub fn judge(self, world: &World, function: &'static str, status: graft_status) -> bool {
        let ok = world.judge(function, status, self.wrong);
        let error = self.room[0];
        assert!(self.room[1] == STALE, "written beside the error");
        if self.way >= 240 {
            assert!(
                error == STALE,
                "{function}: an error was written to where there is none"
            );
            return ok;
        }
        assert!(
            ok == error.is_null(),
            "{function} returned {status}, and its error is {error:?}"
        );
        if !ok {
            check_error(error, status);
            if self.way % 16 == 15 {
                world.pool.add(Kind::Error, error.cast(), Vec::new());
            } else {
                free(Kind::Error, error.cast());
            }
        }
        ok
    }
}

fn check_error(error: *mut graft_error, status: graft_status) {
    // SAFETY: an error that was just given out.
    unsafe {
        assert_eq!(graft_error_status(error), status, "the error says another status");
        let message = graft_error_message(error);
        assert!(!message.is_null(), "an error without a message");
        let texts = [
            graft_error_file,
            graft_error_item,
            graft_error_expected,
            graft_error_found,
        ];
        for text in texts.map(|f| f(error)).into_iter().chain([message]) {
            if !text.is_null() {
                read_text(text);
            }
        }
        let message = CStr::from_ptr(message).to_string_lossy();
        assert!(!message.contains(['\n', '\r']), "an error of several lines: {message}");
    }
}

/// Reads a text up to its NUL.
///
/// # Safety
/// It is one.
pub unsafe fn read_text(text: *const c_char) {
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    assert!(std::str::from_utf8(text.to_bytes()).is_ok(), "not UTF-8: {text:?}");
}
