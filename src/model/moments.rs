//! What the inputs of linear maps are over a text: the sum of squares of each, recorded while a pass runs.

use super::sites::Site;

/// Sums over all rows that ran since it was made.
pub struct Moments {
    /// By [`Site::index`]; empty where nothing ran.
    sums: Vec<Vec<f64>>,
}

impl Moments {
    /// Of a model with `n_layers`, before any row.
    pub fn new(n_layers: usize) -> Self {
        Moments {
            sums: vec![Vec::new(); Site::count(n_layers)],
        }
    }

    /// Counts rows `x`, `[m][cols]`, that the module at `site` is given.
    pub fn add(&mut self, site: Site, x: &[f32], cols: usize) {
        let sums = &mut self.sums[site.index()];
        sums.resize(cols, 0.0);
        for row in x.chunks_exact(cols) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x * x));
        }
    }

    /// The sums of squares of the inputs at `site`; `None` where nothing ran, or what ran was not finite.
    pub fn at(&self, site: Site) -> Option<Vec<f32>> {
        let sums: Vec<f32> = self.sums[site.index()].iter().map(|sum| *sum as f32).collect();
        (!sums.is_empty() && sums.iter().all(|sum| sum.is_finite())).then_some(sums)
    }
}
