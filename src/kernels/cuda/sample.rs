//! A token, chosen where its logits are.

use super::driver::Address;
use super::ops::per_element;
use super::{Arg, Gpu};
use crate::error::Result;
use crate::kernels::{Draw, Edit};

/// `v` of [0, 1) in 2^64ths.
fn fraction(v: f64) -> u64 {
    (v * 2f64.powi(64)) as u64
}

/// What the kernel reads: see `docs/cuda.md`.
fn words(draw: &Draw) -> Vec<u8> {
    let (top_p, min_p) = (draw.top_p, draw.min_p);
    let filters = i32::from(top_p.is_some()) | i32::from(min_p.is_some()) << 1;
    // More than there are tokens are all.
    let top_k = draw.top_k.map_or(0, |k| i32::try_from(k).unwrap_or(i32::MAX));
    [
        &fraction(draw.unit).to_le_bytes()[..],
        &fraction(f64::from(top_p.unwrap_or(0.0))).to_le_bytes(),
        &draw.temperature.to_le_bytes(),
        &min_p.map_or(0.0, f32::ln).to_le_bytes(),
        &top_k.to_le_bytes(),
        &filters.to_le_bytes(),
    ]
    .concat()
}

impl Gpu {
    /// The token that `draw` takes by the `n` logits at `logits`, which stay as they are. `None` where that is the CPU's: no token is possible,
    /// a logit is no number, or filters leave more tokens than there is room for.
    ///
    /// # Errors
    /// Those of the driver, also of what ran before.
    pub(crate) fn draw(&self, logits: Address, n: usize, draw: &Draw) -> Result<Option<u32>> {
        let mut at = logits;
        let changed = match draw.edits.len() {
            0 => None,
            _ => Some(self.temp(n * size_of::<f32>())?),
        };
        if let Some(changed) = &changed {
            at = changed.at();
            self.copy(at, logits, n * size_of::<f32>())?;
            let edit = |e: &Edit| [e.id.to_le_bytes(), e.seen.to_le_bytes(), e.bias.to_le_bytes()];
            let edits = self.temp_of(draw.edits.iter().flat_map(edit).collect::<Vec<_>>().as_flattened())?;
            let penalties = [draw.repeat_penalty, draw.frequency_penalty, draw.presence_penalty];
            let mut args = vec![Arg::At(at), Arg::At(edits.at()), Arg::Int(draw.edits.len())];
            args.extend(penalties.map(Arg::Float));
            self.launch("edit_logits", per_element(draw.edits.len()), 256, &args)?;
        }
        let words = words(draw);
        let own;
        let rules = match draw.temperature {
            // The same for each token, so that it is a part of the token's graph.
            0.0 => self.constant(&words)?,
            _ => None,
        };
        let rules = match rules {
            Some(at) => at,
            None => {
                own = self.temp_of(&words)?;
                own.at()
            }
        };
        let (chosen, mut id) = (self.temp(size_of::<i32>())?, [0; size_of::<i32>()]);
        let args = [Arg::At(at), Arg::Int(n), Arg::At(rules), Arg::At(chosen.at())];
        self.launch("sample", [1, 1, 1], 1024, &args)?;
        self.get(chosen.at(), &mut id)?;
        Ok(u32::try_from(i32::from_le_bytes(id)).ok())
    }
}
