//! Ctrl-C: ends the program, or, while something is under way that can stop cleanly, asks that to stop.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use graft::runtime::Cancel;

static ASKED: LazyLock<Cancel> = LazyLock::new(Cancel::new);
static CATCH: AtomicBool = AtomicBool::new(false);

/// Installs the handler. Without one (WASI, an odd system), Ctrl-C kills the program as ever.
pub fn install() {
    #[cfg(any(unix, windows))]
    let _ = ctrlc::set_handler(|| {
        // The second Ctrl-C in a row ends the program even where the first was to stop something.
        if !CATCH.load(Ordering::SeqCst) || ASKED.is_set() {
            std::process::exit(130);
        }
        ASKED.set();
    });
}

/// While it lives, Ctrl-C sets [`Catch::flag`] instead of ending the program.
pub struct Catch(());

impl Catch {
    /// Begins, with the flag cleared.
    pub fn begin() -> Self {
        ASKED.clear();
        CATCH.store(true, Ordering::SeqCst);
        Catch(())
    }

    /// Set by Ctrl-C.
    pub fn flag(&self) -> Cancel {
        ASKED.clone()
    }

    /// Whether Ctrl-C came.
    pub fn asked(&self) -> bool {
        ASKED.is_set()
    }
}

impl Drop for Catch {
    fn drop(&mut self) {
        CATCH.store(false, Ordering::SeqCst);
    }
}
