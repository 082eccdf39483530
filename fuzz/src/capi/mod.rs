//! Sequences of calls of the C interface: bytes choose the functions, their arguments and what callbacks do.
//!
//! Arguments are right, wrong in every way that the library promises to find out, or in between; never such that break what the header
//! asks for (a length beyond the memory, a NUL that is not there). What is known to be wrong must not succeed; a handle that is good must
//! not be refused as a handle; a failed call must leave its results alone; nothing is ever a defect.

mod batch_calls;
mod calls;
mod data;
mod pool;
mod session_calls;
mod slow_calls;
mod tally;
mod train_calls;
mod world;

pub use tally::{Row, histogram};

use pool::Pool;
use world::World;

/// The most calls of one sequence, those of callbacks included.
const CALLS: usize = 48;

/// Runs the sequence that `data` says.
///
/// # Panics
/// Where a call does what it must not.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let pool = Pool::new();
    // Now and then two threads use the same handles.
    if first % 64 == 63 {
        let (one, two) = rest.split_at(rest.len() / 2);
        std::thread::scope(|scope| {
            scope.spawn(|| play(&World::new(&pool, one, CALLS / 2, false)));
            play(&World::new(&pool, two, CALLS / 2, false));
        });
    } else {
        play(&World::new(&pool, rest, CALLS, true));
    }
    pool.close();
}

fn play(world: &World) {
    // Most calls want a session.
    for begin in [
        session_calls::new,
        session_calls::new,
        session_calls::eval,
        session_calls::sampler,
    ] {
        begin(world);
    }
    while world.go_on() {
        step(world);
    }
}

/// One call.
fn step(world: &World) {
    let mut pick = world.byte() as usize;
    let mut table = calls::OFTEN;
    if pick >= 250 {
        // What takes long.
        (pick, table) = (world.byte() as usize, calls::SELDOM);
    }
    table[pick % table.len()](world);
}
