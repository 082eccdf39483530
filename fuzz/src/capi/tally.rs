//! How often each function said what.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use graft::capi::status::{GRAFT_ERROR_POISONED, graft_status};

/// Statuses that are documented.
const STATUSES: usize = GRAFT_ERROR_POISONED as usize + 1;

/// A function, and how often it returned each status (0 for functions that return none).
pub type Row = (&'static str, [u64; STATUSES]);

static TALLY: Mutex<BTreeMap<&str, [u64; STATUSES]>> = Mutex::new(BTreeMap::new());

/// Counts a call.
pub(super) fn count(function: &'static str, status: graft_status) {
    let known = usize::try_from(status).ok().filter(|s| *s < STATUSES);
    let known = known.unwrap_or_else(|| panic!("{function} returned {status}"));
    let mut tally = TALLY.lock().unwrap_or_else(PoisonError::into_inner);
    tally.entry(function).or_default()[known] += 1;
}

/// All that was counted, by name.
pub fn histogram() -> Vec<Row> {
    let tally = TALLY.lock().unwrap_or_else(PoisonError::into_inner);
    tally.iter().map(|(name, counts)| (*name, *counts)).collect()
}
