//! What the adapters cost: the same session with and without them, alternating.

use std::time::Instant;

use graft::{Adapter, Result};
use serde::Serialize;

use super::{Bench, Phase};

/// The cost of adapters.
#[derive(Serialize)]
pub struct Cost {
    /// Percent of the speed without them that is lost; the median of neighbouring pairs.
    pub prompt_percent: f64,
    pub generation_percent: f64,
    /// Microseconds to put them on or off between two tokens.
    switch_us: f64,
    /// Milliseconds to open and attach them once more.
    attach_ms: f64,
}

/// Measures `adapters` in the bench's session, which has them on; `attach` opens and attaches them.
pub fn measure(bench: &mut Bench, adapters: &[(Adapter, f32)], attach: &dyn Fn() -> Result<()>) -> Result<Cost> {
    let prompt_percent = loss(bench, adapters, Phase::Prompt)?;
    let generation_percent = loss(bench, adapters, Phase::Generation)?;
    // Prompts and repeated layers go on before the first token only.
    bench.session.reset();
    let mut switches = Vec::new();
    for i in 0..200 {
        let on: &[_] = if i % 2 == 0 { &[] } else { adapters };
        let start = Instant::now();
        bench.session.set_adapters(on)?;
        switches.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let mut attaches = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        attach()?;
        attaches.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Cost {
        prompt_percent,
        generation_percent,
        switch_us: median(switches),
        attach_ms: median(attaches),
    })
}

/// Percent of the speed that is lost in `phase`.
fn loss(bench: &mut Bench, adapters: &[(Adapter, f32)], phase: Phase) -> Result<f64> {
    let mut losses = Vec::new();
    for i in 0..=bench.repeat {
        let mut seconds = [0.0; 2];
        for (on, seconds) in seconds.iter_mut().enumerate() {
            bench.session.reset();
            bench.session.set_adapters(if on == 0 { &[] } else { adapters })?;
            let start = Instant::now();
            bench.run(phase, 0, |_| Ok(()))?;
            *seconds = start.elapsed().as_secs_f64();
        }
        if i > 0 {
            losses.push(100.0 * (1.0 - seconds[0] / seconds[1]));
        }
    }
    Ok(median(losses))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Cost {
    /// The line for people.
    pub fn line(&self) -> String {
        format!(
            "adapters    cost {:.1} % of the prompt's speed, {:.1} % of generation's · on or off in {:.1} us · opened and attached in {:.1} ms\n",
            self.prompt_percent, self.generation_percent, self.switch_us, self.attach_ms
        )
    }
}
