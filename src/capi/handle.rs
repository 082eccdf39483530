//! Handles: what C holds of our objects.
//!
//! A handle points to a [`Slot`], which belongs to the library for ever: freeing a handle drops the object behind it, and the slot may
//! later serve another, after many others were freed. So whatever handle C passes, looking at it is sound, and one that was freed, or is of
//! another kind, is found out.
//!
//! One atomic word of a slot says everything, so that every step is one compare-exchange:
//! `[sequence: 32][kind: 8][flags: 8][users: 16]`.
//! A call *enters* (users + 1), alone or beside others, and *leaves*. Freeing sets a flag that lets nobody enter; the object goes with the
//! last who leaves: a handle can be freed from a callback of its own call, and by another thread in the middle of one.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::status::{GRAFT_ERROR_BUSY, GRAFT_ERROR_HANDLE, GRAFT_ERROR_POISONED};
use super::{Fault, Outcome};
use crate::error::Error;

const USERS: u64 = 0xffff;
/// Somebody is in alone.
const ALONE: u64 = 1 << 16;
/// Freed: nobody enters.
const FREED: u64 = 1 << 17;
/// Who was in alone panicked.
const POISONED: u64 = 1 << 18;
const KIND_AT: u32 = 24;
const KIND: u64 = 0xff << KIND_AT;
const SEQUENCE_AT: u32 = 32;

/// Freed slots that wait before the first of them is used again: how long a stale handle is surely found out.
const WAITING: usize = 1024;

/// A kind of handle: an opaque type of the header.
pub(super) trait Handle: Sized + 'static {
    /// What calls use side by side.
    type Shared: Send + Sync;
    /// What a call has to itself.
    type Own: Send;
    /// A number of its own, not 0.
    const KIND: u8;
    /// What errors call it.
    const NAME: &'static str;
}

struct Slot {
    state: AtomicU64,
    /// A `Box` of the [`Object`] while there is one.
    object: AtomicPtr<()>,
}

struct Object<H: Handle> {
    shared: H::Shared,
    own: UnsafeCell<H::Own>,
}

/// Freed slots, the oldest first.
static FREE: Mutex<VecDeque<&'static Slot>> = Mutex::new(VecDeque::new());

/// A new handle.
pub(super) fn create<H: Handle>(shared: H::Shared, own: H::Own) -> *mut H {
    let own = UnsafeCell::new(own);
    let object = Box::into_raw(Box::new(Object::<H> { shared, own }));
    let reused = {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() > WAITING { free.pop_front() } else { None }
    };
    let slot = reused.unwrap_or_else(|| {
        Box::leak(Box::new(Slot {
            state: AtomicU64::new(0),
            object: AtomicPtr::default(),
        }))
    });
    slot.object.store(object.cast(), Ordering::Relaxed);
    let sequence = slot.state.load(Ordering::Relaxed) >> SEQUENCE_AT << SEQUENCE_AT;
    // Release: who enters sees the object.
    slot.state
        .store(sequence | u64::from(H::KIND) << KIND_AT, Ordering::Release);
    std::ptr::from_ref(slot).cast_mut().cast()
}

/// A handle that is kept: it is still the same object that it was.
pub(super) struct Link<H> {
    slot: &'static Slot,
    sequence: u64,
    kind: PhantomData<fn() -> H>,
}

impl<H: Handle> Link<H> {
    /// To what `handle` is now.
    pub unsafe fn new(handle: *const H) -> Outcome<Self> {
        // SAFETY: as the caller promises.
        let slot = unsafe { slot_of(handle) }?;
        let state = slot.state.load(Ordering::Acquire);
        check::<H>(state, None)?;
        Ok(Link {
            slot,
            sequence: state >> SEQUENCE_AT,
            kind: PhantomData,
        })
    }

    /// As [`exclusive`].
    pub fn exclusive(&self) -> Outcome<Exclusive<H>> {
        enter::<H>(self.slot, Some(self.sequence), true).map(Exclusive)
    }
}

/// The object of `handle`, for a call beside others.
pub(super) unsafe fn shared<H: Handle>(handle: *const H) -> Outcome<Shared<H>> {
    // SAFETY: as the caller promises.
    enter(unsafe { slot_of(handle) }?, None, false).map(Shared)
}

/// The object of `handle`, for a call that has it to itself.
pub(super) unsafe fn exclusive<H: Handle>(handle: *mut H) -> Outcome<Exclusive<H>> {
    // SAFETY: as the caller promises.
    enter(unsafe { slot_of(handle) }?, None, true).map(Exclusive)
}

/// Frees `handle`. NULL is nothing to do.
pub(super) unsafe fn free<H: Handle>(handle: *mut H) -> Outcome<()> {
    if handle.is_null() {
        return Ok(());
    }
    // SAFETY: as the caller promises.
    let slot = unsafe { slot_of(handle) }?;
    let mut state = slot.state.load(Ordering::Acquire);
    loop {
        check::<H>(state, None)?;
        match slot
            .state
            .compare_exchange_weak(state, state | FREED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) if state & USERS == 0 => {
                destroy::<H>(slot);
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(now) => state = now,
        }
    }
}

unsafe fn slot_of<H: Handle>(handle: *const H) -> Outcome<&'static Slot> {
    let slot = handle.cast::<Slot>();
    if slot.is_null() {
        return Err(wrong::<H>("NULL"));
    }
    if !slot.is_aligned() {
        return Err(wrong::<H>("a pointer that is no handle"));
    }
    // SAFETY: not NULL, aligned, and handles come from this library, as the caller promises: slots, which live for ever.
    Ok(unsafe { &*slot })
}

fn wrong<H: Handle>(found: &str) -> Fault {
    let e = Error::usage("not a handle of this kind");
    Fault(
        GRAFT_ERROR_HANDLE,
        e.expected(format_args!("a {}", H::NAME)).found(found),
    )
}

fn check<H: Handle>(state: u64, sequence: Option<u64>) -> Outcome<()> {
    let kind = (state & KIND) >> KIND_AT;
    if kind == 0 || state & FREED != 0 || sequence.is_some_and(|s| s != state >> SEQUENCE_AT) {
        return Err(wrong::<H>("one that was freed"));
    }
    if kind != u64::from(H::KIND) {
        return Err(wrong::<H>("a handle of another kind"));
    }
    Ok(())
}

/// What is entered: left when it is dropped.
struct Guard<H: Handle> {
    slot: &'static Slot,
    object: NonNull<Object<H>>,
    alone: bool,
}

fn enter<H: Handle>(slot: &'static Slot, sequence: Option<u64>, alone: bool) -> Outcome<Guard<H>> {
    let fault = |status, what: &str| Fault(status, Error::usage(format!("the {} {what}", H::NAME)));
    let mut state = slot.state.load(Ordering::Acquire);
    loop {
        check::<H>(state, sequence)?;
        if alone && state & POISONED != 0 {
            let what = "was left in the middle of a call by a defect: it can only be freed";
            return Err(fault(GRAFT_ERROR_POISONED, what));
        }
        if alone && state & ALONE != 0 || state & USERS == USERS {
            let what = "is in use: by another thread, or by the call whose callback this is";
            return Err(fault(GRAFT_ERROR_BUSY, what));
        }
        let entered = (state + 1) | if alone { ALONE } else { 0 };
        match slot
            .state
            .compare_exchange_weak(state, entered, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => break,
            Err(now) => state = now,
        }
    }
    let object = slot.object.load(Ordering::Relaxed).cast();
    // SAFETY: a slot with a kind has an object, of the type that the kind stands for.
    let object = unsafe { NonNull::new_unchecked(object) };
    Ok(Guard { slot, object, alone })
}

impl<H: Handle> Drop for Guard<H> {
    fn drop(&mut self) {
        let poisoned = if self.alone && std::thread::panicking() {
            POISONED
        } else {
            0
        };
        let alone = if self.alone { ALONE } else { 0 };
        let mut state = self.slot.state.load(Ordering::Relaxed);
        loop {
            let left = ((state - 1) & !alone) | poisoned;
            match self
                .slot
                .state
                .compare_exchange_weak(state, left, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if left & FREED != 0 && left & USERS == 0 => return destroy::<H>(self.slot),
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }
}

/// Drops the object of a freed slot that nobody is in and nobody can enter: there is one such moment for each object.
fn destroy<H: Handle>(slot: &'static Slot) {
    let object = slot
        .object
        .swap(std::ptr::null_mut(), Ordering::Relaxed)
        .cast::<Object<H>>();
    // SAFETY: made by `Box::into_raw` in `create`, of this type as the kind says; nobody else has it (see above).
    let object = unsafe { Box::from_raw(object) };
    // What goes with it may run code of the caller's (a release callback): a defect there must not cross.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(object)));
    let sequence = (slot.state.load(Ordering::Relaxed) >> SEQUENCE_AT) + 1;
    slot.state.store(sequence << SEQUENCE_AT, Ordering::Release);
    FREE.lock().unwrap_or_else(PoisonError::into_inner).push_back(slot);
}

/// An object that is entered beside others.
pub(super) struct Shared<H: Handle>(Guard<H>);

impl<H: Handle> Deref for Shared<H> {
    type Target = H::Shared;

    fn deref(&self) -> &H::Shared {
        // SAFETY: the object lives until all who entered have left; this part of it is only ever borrowed shared.
        unsafe { &(*self.0.object.as_ptr()).shared }
    }
}

/// An object that is entered alone.
pub(super) struct Exclusive<H: Handle>(Guard<H>);

impl<H: Handle> Exclusive<H> {
    /// The part that others may be using.
    pub fn shared(&self) -> &H::Shared {
        // SAFETY: as in `Shared::deref`.
        unsafe { &(*self.0.object.as_ptr()).shared }
    }
}

impl<H: Handle> Deref for Exclusive<H> {
    type Target = H::Own;

    fn deref(&self) -> &H::Own {
        // SAFETY: the object lives until all who entered have left; who is in alone is the only one to touch this part.
        unsafe { &*(*self.0.object.as_ptr()).own.get() }
    }
}

impl<H: Handle> DerefMut for Exclusive<H> {
    fn deref_mut(&mut self) -> &mut H::Own {
        // SAFETY: as in `deref`.
        unsafe { &mut *(*self.0.object.as_ptr()).own.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Counted;
    impl Handle for Counted {
        type Shared = Arc<()>;
        type Own = u32;
        const KIND: u8 = 200;
        const NAME: &'static str = "graft_counted";
    }
    struct Other;
    impl Handle for Other {
        type Shared = ();
        type Own = ();
        const KIND: u8 = 201;
        const NAME: &'static str = "graft_other";
    }

    fn status<T>(outcome: Outcome<T>) -> i32 {
        outcome.err().map_or(0, |Fault(status, _)| status)
    }

    /// Every wrong use is found out, and the object is dropped exactly when the last who is in leaves.
    #[test]
    fn a_handle_is_entered_left_and_freed() {
        let alive = Arc::new(());
        let h = create::<Counted>(alive.clone(), 1);
        // SAFETY: handles of this module, or NULL.
        unsafe {
            assert_eq!(status(exclusive::<Counted>(std::ptr::null_mut())), GRAFT_ERROR_HANDLE);
            assert_eq!(status(shared::<Other>(h.cast())), GRAFT_ERROR_HANDLE);
            assert_eq!(status(free::<Other>(h.cast())), GRAFT_ERROR_HANDLE);
            let link = Link::new(h).ok().unwrap();
            let mut alone = exclusive(h).ok().unwrap();
            *alone += 1;
            assert_eq!(status(exclusive(h)), GRAFT_ERROR_BUSY);
            assert_eq!(status(link.exclusive()), GRAFT_ERROR_BUSY);
            let beside = shared(h).ok().unwrap();
            assert_eq!(status(free(h)), 0);
            assert_eq!(status(free(h)), GRAFT_ERROR_HANDLE);
            assert_eq!(status(shared(h)), GRAFT_ERROR_HANDLE);
            drop(alone);
            assert_eq!(Arc::strong_count(&beside), 2);
            drop(beside);
            assert_eq!(Arc::strong_count(&alive), 1);
            assert_eq!(status(link.exclusive()), GRAFT_ERROR_HANDLE);
            assert_eq!(status(free(h)), GRAFT_ERROR_HANDLE);
        }
    }

    #[test]
    fn a_panic_poisons_what_was_entered_alone() {
        let h = create::<Counted>(Arc::new(()), 1);
        // SAFETY: handles of this module.
        unsafe {
            let panicked = catch_unwind(|| {
                let _alone = exclusive(h).ok().unwrap();
                panic!("on purpose");
            });
            assert!(panicked.is_err());
            assert_eq!(status(exclusive(h)), GRAFT_ERROR_POISONED);
            assert!(shared(h).is_ok());
            assert_eq!(status(free(h)), 0);
        }
    }

    /// Threads that enter, free and create at random: an object is never seen after its drop (its count would be off).
    #[test]
    fn threads_may_do_anything() {
        let alive = Arc::new(());
        let handles: Vec<usize> = (0..64)
            .map(|_| create::<Counted>(alive.clone(), 0).expose_provenance())
            .collect();
        std::thread::scope(|scope| {
            for t in 0..4 {
                let handles = &handles;
                scope.spawn(move || {
                    let mut rng = crate::rng::Rng::new(t);
                    for _ in 0..20_000 {
                        let h = handles[(rng.next() % 64) as usize] as *mut Counted;
                        // SAFETY: handles of this module.
                        unsafe {
                            match rng.next() % 50 {
                                0 => drop(free(h)),
                                n if n % 2 == 0 => drop(exclusive(h).map(|mut own| *own += 1)),
                                _ => drop(shared(h).map(|one| assert!(Arc::strong_count(&one) > 1))),
                            }
                        }
                    }
                });
            }
        });
        for h in handles {
            // SAFETY: handles of this module.
            let _ = unsafe { free(h as *mut Counted) };
        }
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
