//! A value that the first of several threads makes while the others do what does not need it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU8, Ordering};

const NOT_BEGUN: u8 = 0;
const BEGUN: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

/// Looks at a value that is being made before a thread gives way: it takes a microsecond or two.
const SPINS: u32 = 20_000;

/// A place for such a value. There is no lock, and nobody sleeps. Nobody can wait for ever either, in whatever order the chunks of a job
/// are done and by however many threads: who waits has offered to make the value, so that somebody else is at it.
pub(crate) struct Awaited<'a, T> {
    state: AtomicU8,
    value: UnsafeCell<&'a mut T>,
}

// SAFETY: the value is written by the one thread that took the state from NOT_BEGUN to BEGUN, and read only when it is DONE; release and
// acquire of the state order the two.
unsafe impl<T: Send + Sync> Sync for Awaited<'_, T> {}

impl<'a, T> Awaited<'a, T> {
    /// One whose value is to be made in `place`.
    pub fn new(place: &'a mut T) -> Self {
        Awaited {
            state: AtomicU8::new(NOT_BEGUN),
            value: UnsafeCell::new(place),
        }
    }

    /// Makes the value if nobody has begun to.
    pub fn offer(&self, make: impl FnOnce(&mut T)) {
        // The look before keeps the exchange, which waits for memory, away from all but the first.
        if self.state.load(Ordering::Relaxed) != NOT_BEGUN
            || self
                .state
                .compare_exchange(NOT_BEGUN, BEGUN, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        /// Says what became of it, also when `make` panics.
        struct End<'a>(&'a AtomicU8, u8);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(self.1, Ordering::Release);
            }
        }
        let mut end = End(&self.state, FAILED);
        // SAFETY: see `Sync`.
        make(unsafe { &mut *self.value.get() });
        end.1 = DONE;
    }

    /// The value, once it is made.
    ///
    /// # Panics
    /// If making it panicked, or if it was not offered before.
    pub fn get(&self) -> &T {
        let mut spins = 0;
        loop {
            match self.state.load(Ordering::Acquire) {
                // SAFETY: see `Sync`.
                DONE => return unsafe { &*self.value.get() },
                BEGUN if spins < SPINS => std::hint::spin_loop(),
                BEGUN => std::thread::yield_now(),
                NOT_BEGUN => panic!("nobody was asked to make what is waited for"),
                _ => panic!("what is waited for could not be made"),
            }
            spins = (spins + 1).min(SPINS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn one_makes_it_and_all_see_it() {
        for _ in 0..500 {
            let (mut place, made) = (vec![0; 100], AtomicUsize::new(0));
            let value = Awaited::new(&mut place);
            std::thread::scope(|s| {
                for _ in 0..4 {
                    s.spawn(|| {
                        value.offer(|v| {
                            made.fetch_add(1, Ordering::Relaxed);
                            v.fill(7);
                        });
                        assert!(value.get().iter().all(|v| *v == 7));
                    });
                }
            });
            assert_eq!(made.into_inner(), 1);
        }
    }

    #[test]
    fn a_panic_reaches_those_who_wait() {
        let mut place = 0;
        let value = Awaited::new(&mut place);
        assert!(catch_unwind(AssertUnwindSafe(|| value.get())).is_err(), "not offered");
        let maker = catch_unwind(AssertUnwindSafe(|| value.offer(|_| panic!("broken"))));
        assert!(maker.is_err());
        value.offer(|_| unreachable!("it was begun"));
        assert!(catch_unwind(AssertUnwindSafe(|| value.get())).is_err());
    }
}
