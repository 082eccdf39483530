//! The thread team: one leader, workers that spin briefly between operations and then park.
//!
//! A decode step has some two hundred operations of 10 to 100 us, so starting one must cost well under a microsecond. The calling
//! thread leads: it opens a job, works on it like everybody else, closes it and waits **only for workers that have
//! joined**. A worker that never gets a core (another process holds it) therefore delays nobody: the leader has done its chunks.
//!
//! One atomic word says everything that workers and leader must agree on:
//! `[epoch: 32][stop: 1][open: 1][active: 30]`.
//! A worker joins by a compare-exchange that adds one to `active` of an *open* job, so it can never join a job that
//! the leader has already closed, and the leader may return, and the closure may die, as soon as the job is closed and `active` is 0.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::{Error, Result};

const ACTIVE: u64 = (1 << 30) - 1;
const OPEN: u64 = 1 << 30;
const STOP: u64 = 1 << 31;
const EPOCH: u64 = 1 << 32;

/// How long a worker looks for the next job before it sleeps: longer than the serial gaps inside a token, much
/// shorter than anything that a battery would notice.
const SPIN: Duration = Duration::from_micros(40);

/// More threads than this are refused: a typing error rather than a machine.
pub const MAX_THREADS: usize = 1024;

/// Threads that share loops: Graft's own [`Team`], or whatever the application has.
///
/// # Safety
/// Kernels write where a chunk number says, without locks. `run` must call each number below `chunks` exactly once, return only when
/// all calls have returned, also when one of them panics (the panic then goes on in the caller), and make what they wrote visible to
/// the caller. A call from inside a chunk must not wait for the job that the chunk belongs to.
pub unsafe trait Executor: Send + Sync {
    /// Threads that work on a job, the caller included.
    fn threads(&self) -> usize;

    /// Calls `work(0)`, …, `work(chunks - 1)`, in any order, on any threads.
    fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync));
}

// SAFETY: the counter gives each chunk to one thread; `lead` waits for all who joined, and its acquire pairs with their release;
// a job inside a job is done by its caller alone.
unsafe impl Executor for Team {
    fn threads(&self) -> usize {
        Team::threads(self)
    }

    fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        Team::run(self, chunks, work);
    }
}

/// A team of threads that shares loops. See the module's head for how it works.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<(Thread, JoinHandle<()>)>,
}

struct Shared {
    /// Epoch, stop, open, active: see the module's head.
    state: AtomicU64,
    /// For each thread, the leader first: the next chunk of its share that nobody has taken.
    next: Vec<Cursor>,
    /// A leader is at work. Who finds it set runs its job alone.
    led: AtomicBool,
    /// Set by the first panic: the others take no further chunk.
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Written by the leader between jobs, read by workers that have joined one.
    job: UnsafeCell<Job>,
    /// One flag a worker: "I am about to park, wake me".
    parked: Vec<AtomicBool>,
}

/// A counter on a cache line of its own (two, as they are fetched in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Cursor(AtomicUsize);

#[derive(Clone, Copy)]
struct Job {
    /// The closure, its lifetime erased; valid while the job is open or somebody is active.
    work: *const (dyn Fn(usize) + Sync),
    chunks: usize,
}

// SAFETY: `job` is written only by the one leader (`led`) while no job is open and nobody is active, and read only
// by threads that joined an open job; the state word orders the two (release on open, acquire on join).
unsafe impl Sync for Shared {}
// SAFETY: the pointer inside `job` is only a borrowed closure that is `Sync`; it may be called from any thread.
unsafe impl Send for Shared {}

fn nothing(_: usize) {}

impl Team {
    /// A team of `threads` threads, the caller included: `threads - 1` workers are started. 1 means no workers.
    ///
    /// # Errors
    /// `Usage` for 0 or more than [`MAX_THREADS`]; `Io`-like `Limit` when the system refuses a thread.
    pub fn new(threads: usize) -> Result<Self> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(Error::usage("number of threads out of range")
                .item("threads")
                .expected(format!("1 to {MAX_THREADS}"))
                .found(threads));
        }
        let nothing: &'static (dyn Fn(usize) + Sync) = &nothing;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: std::iter::repeat_with(Cursor::default).take(threads).collect(),
            led: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
            job: UnsafeCell::new(Job {
                work: nothing,
                chunks: 0,
            }),
            parked: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut team = Team {
            shared: shared.clone(),
            workers: Vec::with_capacity(threads - 1),
        };
        for id in 0..threads - 1 {
            let shared = shared.clone();
            let handle = thread::Builder::new()
                .name(format!("graft-{id}"))
                .spawn(move || shared.worker(id))
                .map_err(|e| Error::limit(format!("cannot start a worker thread: {e}")).item("threads"))?;
            // On an error above `team` is dropped here, which stops the workers that did start.
            team.workers.push((handle.thread().clone(), handle));
        }
        Ok(team)
    }

    /// Threads of the team, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(0)`, …, `work(chunks - 1)`, each once, on any thread of the team and in any order; returns when all are done.
    ///
    /// Each thread has a share of neighbouring chunks, which suits memory that is read ahead, and takes from the others' when its own
    /// are done, so slow and fast threads both stay busy. Allocates nothing. From inside a job, or while another thread leads one,
    /// the caller does all chunks itself.
    ///
    /// # Panics
    /// If a chunk panics, no further chunks are started and the first panic goes on in the caller, after every
    /// worker has left the job. The team stays usable.
    pub fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        if chunks <= 1 || self.workers.is_empty() || self.shared.led.swap(true, Ordering::Acquire) {
            (0..chunks).for_each(work);
            return;
        }
        let panic = self.lead(chunks, work);
        self.shared.led.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// [`run`](Self::run), with a panic made an `Internal` error.
    pub fn try_run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) -> Result<()> {
        catch_unwind(AssertUnwindSafe(|| self.run(chunks, work))).map_err(|panic| {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("unknown cause");
            Error::internal(format!("a worker thread panicked: {text}"))
        })
    }

    /// The job from opening to the last worker's leaving. `led` is held.
    fn lead(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) -> Option<Box<dyn Any + Send>> {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; below, this function returns only when the job is closed and nobody is active.
        let work: *const (dyn Fn(usize) + Sync) = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(work)
        };
        // SAFETY: we lead, no job is open and nobody is active (the last leader waited for that): nobody reads `job`.
        unsafe { *shared.job.get() = Job { work, chunks } };
        for (thread, next) in shared.next.iter().enumerate() {
            next.0.store(shared.share(thread, chunks).start, Ordering::Relaxed);
        }
        let epoch = (shared.state.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        // SeqCst here and in `worker`: either the worker sees the open job or we see that it is parked.
        shared.state.store(epoch | OPEN, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for (parked, (thread, _)) in shared.parked.iter().zip(&self.workers) {
            if parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::Relaxed) {
                thread.unpark();
            }
        }
        // SAFETY: the job is ours and open.
        unsafe { shared.take_chunks(0) };

        // Close, then wait for those who joined. They are in the middle of a chunk: spin first, then give way.
        let mut state = shared.state.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let mut spins = 0u32;
        while state & ACTIVE != 0 {
            spins += 1;
            if spins < 20_000 {
                std::hint::spin_loop()
            } else {
                thread::yield_now()
            }
            state = shared.state.load(Ordering::Acquire);
        }
        if !shared.panicked.load(Ordering::Relaxed) {
            return None;
        }
        shared.panicked.store(false, Ordering::Relaxed);
        shared.panic.lock().unwrap_or_else(|e| e.into_inner()).take()
    }
}

impl Drop for Team {
    /// Stops and joins all workers: no thread is left.
    fn drop(&mut self) {
        self.shared.state.fetch_or(STOP, Ordering::SeqCst);
        for (thread, handle) in self.workers.drain(..) {
            thread.unpark();
            // A worker catches the panics of its jobs, so joining cannot fail.
            let _ = handle.join();
        }
    }
}

impl Shared {
    /// The chunks that are `thread`'s first.
    fn share(&self, thread: usize, chunks: usize) -> Range<usize> {
        let threads = self.next.len();
        thread * chunks / threads..(thread + 1) * chunks / threads
    }

    /// Does chunks until none is left: those of `thread`'s share, then what is left of the others'.
    ///
    /// # Safety
    /// The caller leads the open job or has joined it.
    unsafe fn take_chunks(&self, thread: usize) {
        // SAFETY: the caller's promise: the leader writes `job` only when nobody is active.
        let job = unsafe { *self.job.get() };
        // SAFETY: as above; the closure lives until the leader returns, and it waits for us.
        let work = unsafe { &*job.work };
        let threads = self.next.len();
        let done = catch_unwind(AssertUnwindSafe(|| {
            for whose in (thread..threads).chain(0..thread) {
                let end = self.share(whose, job.chunks).end;
                loop {
                    let chunk = self.next[whose].0.fetch_add(1, Ordering::Relaxed);
                    if chunk >= end {
                        break;
                    }
                    if self.panicked.load(Ordering::Relaxed) {
                        return;
                    }
                    work(chunk);
                }
            }
        }));
        if let Err(panic) = done {
            self.panicked.store(true, Ordering::Relaxed);
            self.panic
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .get_or_insert(panic);
        }
    }

    /// A worker's life.
    fn worker(&self, id: usize) {
        let mut seen = 0;
        loop {
            let state = self.wait(id, seen);
            if state & STOP != 0 {
                return;
            }
            if self
                .state
                .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                seen = state >> 32;
                // SAFETY: we have just joined the open job.
                unsafe { self.take_chunks(id + 1) };
                self.state.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Spins, then parks, until there is an open job of another epoch than `seen`, or the end.
    fn wait(&self, id: usize, seen: u64) -> u64 {
        let wanted = |state: u64| state & STOP != 0 || (state & OPEN != 0 && state >> 32 != seen);
        loop {
            let start = Instant::now();
            loop {
                for _ in 0..64 {
                    let state = self.state.load(Ordering::Acquire);
                    if wanted(state) {
                        return state;
                    }
                    std::hint::spin_loop();
                }
                if start.elapsed() > SPIN {
                    break;
                }
            }
            self.parked[id].store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let state = self.state.load(Ordering::SeqCst);
            if !wanted(state) {
                thread::park();
            }
            self.parked[id].store(false, Ordering::Relaxed);
        }
    }
}

/// Physical cores that this process may use: the default size of a team. Hyper-threads share the multipliers that
/// the kernels keep busy, so they are not counted.
pub fn physical_cores() -> usize {
    let available = thread::available_parallelism().map_or(1, usize::from);
    let mut cores = std::collections::BTreeSet::new();
    for cpu in 0..MAX_THREADS {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}"))
                .ok()
                .and_then(|text| text.trim().parse::<i64>().ok())
        };
        match (read("physical_package_id"), read("core_id")) {
            (Some(package), Some(core)) => cores.insert((package, core)),
            _ => break,
        };
    }
    // Inside a container every virtual CPU may claim to be the same core: then the list says nothing.
    if cores.len() > 1 {
        available.min(cores.len())
    } else {
        available
    }
    .min(MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: every chunk is counted exactly once.
    fn each_once(team: &Team, chunks: usize) {
        let hits: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
        team.run(chunks, &|c| {
            hits[c].fetch_add(1, Ordering::Relaxed);
        });
        assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn every_chunk_runs_once_on_any_team() {
        for threads in [1, 2, 3, 8] {
            let team = Team::new(threads).unwrap();
            assert_eq!(team.threads(), threads);
            for chunks in [0, 1, 2, 3, 7, 64, 1000] {
                each_once(&team, chunks);
            }
        }
    }

    #[test]
    fn very_many_tiny_jobs() {
        let team = Team::new(4).unwrap();
        let sum = AtomicUsize::new(0);
        for job in 0..50_000 {
            // The closure dies after every run: a late worker would read a dead stack frame.
            let local = [job, 1, 2];
            team.run(3, &|c| {
                sum.fetch_add(local[c], Ordering::Relaxed);
            });
        }
        assert_eq!(sum.into_inner(), (0..50_000usize).sum::<usize>() + 3 * 50_000);
    }

    #[test]
    fn parked_workers_wake_and_parked_teams_drop() {
        for _ in 0..20 {
            let team = Team::new(3).unwrap();
            each_once(&team, 10);
            thread::sleep(SPIN * 20);
            each_once(&team, 10);
            thread::sleep(SPIN * 20);
        }
        for _ in 0..200 {
            drop(Team::new(3).unwrap());
        }
    }

    #[test]
    fn workers_take_part() {
        let team = Team::new(2).unwrap();
        let ids = Mutex::new(std::collections::HashSet::new());
        // Both chunks wait for each other, which only two threads can do; parked or not, the worker has to come.
        let barrier = std::sync::Barrier::new(2);
        team.run(2, &|_| {
            barrier.wait();
            ids.lock().unwrap().insert(thread::current().id());
        });
        assert_eq!(ids.into_inner().unwrap().len(), 2);
    }

    #[test]
    fn a_panic_comes_back_and_the_team_goes_on() {
        for threads in [1, 2, 4] {
            let team = Team::new(threads).unwrap();
            for bad in 0..200 {
                let e = team
                    .try_run(8, &|c| {
                        if c == bad % 8 {
                            std::panic::resume_unwind(Box::new("chunk broke"));
                        }
                    })
                    .unwrap_err();
                assert_eq!(e.to_string(), "a worker thread panicked: chunk broke");
                each_once(&team, 16);
            }
        }
    }

    #[test]
    fn nested_and_concurrent_runs_do_not_deadlock() {
        let team = Team::new(2).unwrap();
        let sum = AtomicUsize::new(0);
        let both = || {
            for _ in 0..2000 {
                team.run(4, &|_| {
                    team.run(3, &|_| {
                        sum.fetch_add(1, Ordering::Relaxed);
                    })
                });
            }
        };
        thread::scope(|s| {
            s.spawn(both);
            s.spawn(both);
        });
        assert_eq!(sum.into_inner(), 2 * 2000 * 12);
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert!(Team::new(0).is_err());
        assert!(Team::new(MAX_THREADS + 1).is_err());
        assert!((1..=MAX_THREADS).contains(&physical_cores()));
    }
}
