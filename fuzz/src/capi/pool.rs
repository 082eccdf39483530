//! What a sequence has in hand: handles (freed ones too), memory that was given out, memory that was lent, states.

use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use graft::capi::adapter::{graft_adapter, graft_adapter_free, graft_adapter_open};
use graft::capi::batch::graft_batch_free;
use graft::capi::cancel::graft_cancel_free;
use graft::capi::error::graft_error_free;
use graft::capi::generation::graft_generation_free;
use graft::capi::memory::graft_free;
use graft::capi::model::{
    graft_model, graft_model_free, graft_model_open, graft_model_options, graft_model_options_init,
};
use graft::capi::sampling::graft_sampler_free;
use graft::capi::session::graft_session_free;
use graft::capi::status::GRAFT_OK;
use graft::capi::team::graft_team_free;
use graft::capi::trainer::graft_trainer_free;

use super::data::tiny;
use super::tally::count;

/// The kinds of handles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Error,
    Cancel,
    Team,
    Model,
    Adapter,
    Session,
    Sampler,
    Generation,
    Batch,
    Trainer,
}

/// A handle that was given out in this sequence, or before it.
#[derive(Clone)]
pub struct Entry {
    pub kind: Kind,
    pub at: *mut c_void,
    pub alive: bool,
    /// The handles (by address) that it cannot be used without.
    pub needs: Vec<*mut c_void>,
}

/// Memory under a model, until it is released.
pub struct Lent {
    bytes: Mutex<Vec<u8>>,
    released: AtomicU32,
}

/// All that the threads of a sequence share.
pub struct Pool {
    entries: Mutex<Vec<Entry>>,
    given: Mutex<Vec<*mut c_void>>,
    lent: Mutex<Vec<Box<Lent>>>,
    states: Mutex<Vec<Vec<u8>>>,
}

// SAFETY: the pointers are only passed to the library, which says what any thread may do with them.
unsafe impl Sync for Pool {}

/// Handles that sequences find, made again when one has freed them: models take long to open.
struct Base([Option<(Kind, *mut c_void)>; 6]);

// SAFETY: as for `Pool`.
unsafe impl Send for Base {}

static BASE: Mutex<Base> = Mutex::new(Base([None; 6]));

/// A folder for what is written.
pub static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("graft-fuzz-capi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for what is written");
    folder
});

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_model(name: &str) -> *mut graft_model {
    let path = tiny(name).join("model.gguf").into_os_string().into_encoded_bytes();
    let mut model = null_mut();
    // SAFETY: memory as large as is said.
    let status = unsafe {
        let mut options = std::mem::zeroed::<graft_model_options>();
        graft_model_options_init(&raw mut options, size_of_val(&options));
        options.threads = 1;
        graft_model_open(
            path.as_ptr().cast(),
            path.len(),
            &raw const options,
            &raw mut model,
            null_mut(),
        )
    };
    assert_eq!(status, GRAFT_OK, "the model {name}");
    model
}

fn open_adapter(model: *mut c_void, name: &str, adapter: &str) -> *mut graft_adapter {
    let path = tiny(name)
        .join("adapters")
        .join(adapter)
        .into_os_string()
        .into_encoded_bytes();
    let mut made = null_mut();
    // SAFETY: memory as large as is said.
    let status = unsafe {
        graft_adapter_open(
            model.cast(),
            path.as_ptr().cast(),
            path.len(),
            null(),
            &raw mut made,
            null_mut(),
        )
    };
    assert_eq!(status, GRAFT_OK, "the adapter {adapter}");
    made
}

impl Base {
    /// What is not there any more is opened again: an adapter's model before it.
    fn fill(&mut self) -> Vec<Entry> {
        let models = ["llama-tied", "qwen2"];
        let adapters = [(0, "qv"), (0, "all-linear"), (0, "f16"), (1, "qv")];
        for (at, name) in models.into_iter().enumerate() {
            if self.0[at].is_none() {
                self.0[at] = Some((Kind::Model, open_model(name).cast()));
                // An adapter belongs to the model that it was opened for.
                for (i, _) in adapters.iter().enumerate().filter(|(_, a)| a.0 == at) {
                    if let Some((_, old)) = self.0[2 + i].take() {
                        free(Kind::Adapter, old);
                    }
                }
            }
        }
        for (i, (of, adapter)) in adapters.into_iter().enumerate() {
            let model = self.0[of].map_or(null_mut(), |model| model.1);
            let open = || (Kind::Adapter, open_adapter(model, models[of], adapter).cast());
            self.0[2 + i].get_or_insert_with(open);
        }
        let entry = |(kind, at)| Entry {
            kind,
            at,
            alive: true,
            needs: Vec::new(),
        };
        self.0.into_iter().flatten().map(entry).collect()
    }
}

/// Frees a handle by the function of its kind.
pub fn free(kind: Kind, at: *mut c_void) {
    // SAFETY: handles of the library, of any kind, freed or not, are what it promises to tell apart.
    unsafe {
        match kind {
            Kind::Error => graft_error_free(at.cast()),
            Kind::Cancel => graft_cancel_free(at.cast()),
            Kind::Team => graft_team_free(at.cast()),
            Kind::Model => graft_model_free(at.cast()),
            Kind::Adapter => graft_adapter_free(at.cast()),
            Kind::Session => graft_session_free(at.cast()),
            Kind::Sampler => graft_sampler_free(at.cast()),
            Kind::Generation => graft_generation_free(at.cast()),
            Kind::Batch => graft_batch_free(at.cast()),
            Kind::Trainer => graft_trainer_free(at.cast()),
        }
    }
    let name = match kind {
        Kind::Error => "graft_error_free",
        Kind::Cancel => "graft_cancel_free",
        Kind::Team => "graft_team_free",
        Kind::Model => "graft_model_free",
        Kind::Adapter => "graft_adapter_free",
        Kind::Session => "graft_session_free",
        Kind::Sampler => "graft_sampler_free",
        Kind::Generation => "graft_generation_free",
        Kind::Batch => "graft_batch_free",
        Kind::Trainer => "graft_trainer_free",
    };
    count(name, GRAFT_OK);
}

/// Is told that a model no longer uses what [`Pool::lend`] gave it.
pub unsafe extern "C" fn release(lent: *mut c_void) {
    // SAFETY: `user_data` is what `lend` returned, which lives until the sequence ends.
    let lent = unsafe { &*lent.cast::<Lent>() };
    lent.released.fetch_add(1, Ordering::Relaxed);
    // Freed at once, so that who reads it after this is found out.
    *lock(&lent.bytes) = Vec::new();
}

impl Pool {
    /// The handles that are always there.
    pub fn new() -> Self {
        Pool {
            entries: Mutex::new(lock(&BASE).fill()),
            given: Mutex::default(),
            lent: Mutex::default(),
            states: Mutex::default(),
        }
    }

    /// A new handle.
    pub fn add(&self, kind: Kind, at: *mut c_void, needs: Vec<*mut c_void>) {
        assert!(!at.is_null(), "success gave NULL for a {kind:?}");
        lock(&self.entries).push(Entry {
            kind,
            at,
            alive: true,
            needs,
        });
    }

    /// Whether `at` is a handle of `kind`, not freed yet, as are those that it needs.
    pub fn usable(&self, at: *mut c_void, kind: Kind, with_needs: bool) -> bool {
        let entries = lock(&self.entries);
        let alive = |at: *mut c_void, kind: Option<Kind>| {
            let mut same = entries.iter().filter(|e| e.at == at && e.alive);
            same.find(|e| kind.is_none_or(|kind| kind == e.kind))
        };
        alive(at, Some(kind)).is_some_and(|e| !with_needs || e.needs.iter().all(|n| alive(*n, None).is_some()))
    }

    /// One of the handles that `which` takes, chosen by `choose` from their number.
    pub fn choose(&self, which: impl Fn(&Entry) -> bool, choose: impl FnOnce(usize) -> usize) -> *mut c_void {
        let entries = lock(&self.entries);
        let fit: Vec<_> = entries.iter().filter(|e| which(e)).collect();
        if fit.is_empty() {
            null_mut()
        } else {
            fit[choose(fit.len())].at
        }
    }

    /// Frees `at` as if it were a `kind`; it stays in the pool.
    pub fn free(&self, kind: Kind, at: *mut c_void) {
        lock(&self.entries)
            .iter_mut()
            .filter(|e| e.at == at && e.kind == kind)
            .for_each(|e| e.alive = false);
        free(kind, at);
    }

    /// Memory to be freed with `graft_free`.
    pub fn give(&self, memory: *mut c_void) {
        assert!(!memory.is_null(), "success gave NULL for memory");
        lock(&self.given).push(memory);
    }

    /// Some memory that was given out and perhaps freed.
    pub fn given(&self, choose: impl FnOnce(usize) -> usize) -> *mut c_void {
        let given = lock(&self.given);
        if given.is_empty() {
            null_mut()
        } else {
            given[choose(given.len())]
        }
    }

    /// Memory to lend to a model: where it is, how long, and the `user_data` of [`release`].
    pub fn lend(&self, bytes: Vec<u8>) -> (*const c_void, usize, *mut c_void) {
        let (data, len) = (bytes.as_ptr().cast(), bytes.len());
        let lent = Box::new(Lent {
            bytes: Mutex::new(bytes),
            released: AtomicU32::new(0),
        });
        let at = std::ptr::from_ref(&*lent).cast_mut().cast();
        lock(&self.lent).push(lent);
        (data, len, at)
    }

    /// Keeps a state.
    pub fn keep(&self, state: Vec<u8>) {
        lock(&self.states).push(state);
    }

    /// A state that was kept.
    pub fn state(&self, choose: impl FnOnce(usize) -> usize) -> Vec<u8> {
        let states = lock(&self.states);
        if states.is_empty() {
            Vec::new()
        } else {
            states[choose(states.len())].clone()
        }
    }

    /// Frees everything, half of it in the order in which it was made, and checks that all that was lent came back.
    pub fn close(self) {
        let mut base = lock(&BASE);
        let mut entries = self.entries.into_inner().unwrap_or_else(PoisonError::into_inner);
        for slot in &mut base.0 {
            let gone = |(_, at): &(Kind, *mut c_void)| !entries.iter().any(|e| e.at == *at && e.alive);
            if slot.is_some_and(|s| gone(&s)) {
                *slot = None;
            }
        }
        entries.retain(|e| e.alive && !base.0.iter().flatten().any(|b| b.1 == e.at));
        for turn in 0..2 {
            entries.iter().skip(turn).step_by(2).for_each(|e| free(e.kind, e.at));
        }
        for memory in lock(&self.given).drain(..) {
            graft_free(memory);
        }
        for lent in lock(&self.lent).iter() {
            assert_eq!(lent.released.load(Ordering::Relaxed), 1, "lent memory is released once");
        }
    }
}
