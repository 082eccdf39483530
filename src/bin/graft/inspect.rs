use crate::args::InspectArgs; use crate::output::Done; pub fn run(_a: &InspectArgs) -> Done { Ok(()) }
