//! Threads that several models share. A model that is given none has a team of its own.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::graft_error;
use super::handle::{self, Handle};
use super::input::out;
use super::status::graft_status;
use super::{call, quiet};
use crate::error::Error;
use crate::pool::{Executor, MAX_THREADS, Team};

/// Threads that share the work of models. Any thread; models keep what they were given.
pub struct graft_team {
    _opaque: (),
}

impl Handle for graft_team {
    type Shared = Arc<dyn Executor>;
    type Own = ();
    const KIND: u8 = 3;
    const NAME: &'static str = "graft_team";
}

/// A piece of work: to be called with `data` and a number.
pub type graft_work = unsafe extern "C" fn(data: *mut c_void, number: usize);

/// Calls `work(data, 0)`, ..., `work(data, n - 1)`, each exactly once, in any order, on any threads, and returns when all have returned.
/// What they wrote must then be visible to the caller. (`dispatch_apply_f` on Apple's systems does this.) It is called from several
/// threads at a time, and from inside `work`.
pub type graft_run_callback =
    Option<unsafe extern "C" fn(n: usize, work: graft_work, data: *mut c_void, user_data: *mut c_void)>;

/// The application's threads.
struct Callback {
    threads: usize,
    run: unsafe extern "C" fn(usize, graft_work, *mut c_void, *mut c_void),
    user_data: *mut c_void,
    release: graft_release_callback,
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the caller of `graft_team_of_callback` promises that any thread may call it, once.
            unsafe { release(self.user_data) };
        }
    }
}

// SAFETY: the header asks for a callback that any thread may call with this pointer.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

/// A job, as a piece of work sees it.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// One chunk; a panic stays here instead of crossing into C.
unsafe extern "C" fn chunk(data: *mut c_void, number: usize) {
    // SAFETY: `run` below passes a job, which lives until all chunks have returned.
    let job = unsafe { &*data.cast::<Job>() };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.work)(number))) {
        job.panicked.store(true, Ordering::Relaxed);
        *job.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
    }
}

// SAFETY: that each number is called once, that all have returned, and that their writes are visible, is what the header asks of the
// callback; a panic goes on in the caller.
unsafe impl Executor for Callback {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        let job = Job {
            work,
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        };
        // SAFETY: as the caller of `graft_team_of_callback` promises.
        unsafe { (self.run)(chunks, chunk, (&raw const job).cast_mut().cast(), self.user_data) };
        if job.panicked.load(Ordering::Relaxed)
            && let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner)
        {
            resume_unwind(panic);
        }
    }
}

/// A team of `threads` threads, the calling one included (1 to 1024; 0 for one a physical core).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_team_new(
    threads: u32,
    team: *mut *mut graft_team,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let team = out(team, "team")?;
            let threads = match threads {
                0 => crate::pool::physical_cores(),
                n => n as usize,
            };
            let shared: Arc<dyn Executor> = Arc::new(Team::new(threads)?);
            team.put(handle::create(shared, ()));
            Ok(())
        })
    }
}

/// Is told that memory is no longer used.
pub type graft_release_callback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// The application's own threads: `run` shares work among about `threads` of them. `run` and `user_data` must be good until the team and
/// all models that were given it are gone: then `release` is called (by any thread, once; not where this call fails). It may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_team_of_callback(
    threads: u32,
    run: graft_run_callback,
    user_data: *mut c_void,
    release: graft_release_callback,
    team: *mut *mut graft_team,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let team = out(team, "team")?;
            let threads = threads as usize;
            if threads == 0 || threads > MAX_THREADS {
                let e = Error::usage("number of threads out of range").item("threads");
                return Err(e.expected(format!("1 to {MAX_THREADS}")).found(threads).into());
            }
            let Some(run) = run else {
                return Err(Error::usage("a callback is missing").item("run").into());
            };
            let shared: Arc<dyn Executor> = Arc::new(Callback {
                threads,
                run,
                user_data,
                release,
            });
            team.put(handle::create(shared, ()));
            Ok(())
        })
    }
}

/// Frees a team; models that were given it keep its threads. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_team_free(team: *mut graft_team) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(team) });
}
