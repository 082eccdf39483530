//! A progress bar for what takes over a second, on a terminal only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows nothing for the first second.
#[derive(Clone)]
pub struct Progress(Arc<Inner>);

struct Inner {
    bar: ProgressBar,
    started: Instant,
}

const STEPS: u64 = 1000;

impl Progress {
    /// A bar that says what is being done.
    pub fn new(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} % {eta:>4}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_string());
        Progress(Arc::new(Inner {
            bar,
            started: Instant::now(),
        }))
    }

    /// Says it in other words.
    pub fn say(&self, what: &str) {
        self.0.bar.set_message(what.to_string());
    }

    /// How much is done, 0 to 1.
    pub fn set(&self, share: f32) {
        let bar = &self.0.bar;
        if bar.is_hidden() && self.0.started.elapsed() > Duration::from_secs(1) {
            // Draws only if stderr is a terminal.
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_position((share.clamp(0.0, 1.0) * STEPS as f32) as u64);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.bar.finish_and_clear();
    }
}
