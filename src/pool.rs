//! The thread team: one leader, workers that spin briefly between operations and then park.
