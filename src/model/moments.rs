//! What the inputs of linear maps are over a text, recorded while a pass runs: how large each is, and in which directions they point.

use super::sites::Site;

/// The inputs of all linear maps of a model.
pub struct Moments {
    inputs: Vec<Inputs>,
    /// By [`Site::index`]: where in `inputs`. Maps of the same input share it.
    of_site: Vec<Option<usize>>,
}

/// Rows x of one width, n of them, each divided by the root of its length: at the first token some inputs are a thousand times as large as
/// ever after, and what is lost there matters, since all later tokens look at it, but not alone.
pub struct Inputs {
    rows: u64,
    /// For each column the sum of x².
    squares: Vec<f64>,
    /// `[DIRECTIONS][cols]`: sums of x with random signs. Each sum is a random mix of the rows, and the mixes together have, but for chance,
    /// the rows' second moments: `E[S^T S] = DIRECTIONS * X^T X`.
    sums: Vec<f32>,
}

/// Random mixes of the rows that are kept of each input.
pub const DIRECTIONS: usize = 64;

impl Moments {
    /// Of a model with `n_layers`, before any row.
    pub fn new(n_layers: usize) -> Self {
        Moments {
            inputs: Vec::new(),
            of_site: vec![None; Site::count(n_layers)],
        }
    }

    /// Counts rows `x`, `[m][cols]`, that the modules at `sites` are given.
    pub fn add<const N: usize>(&mut self, sites: [Site; N], x: &[f32], cols: usize) {
        let i = self.of_site[sites[0].index()].unwrap_or(self.inputs.len());
        if i == self.inputs.len() {
            self.inputs.push(Inputs {
                rows: 0,
                squares: vec![0.0; cols],
                sums: vec![0.0; DIRECTIONS * cols],
            });
            sites.iter().for_each(|site| self.of_site[site.index()] = Some(i));
        }
        x.chunks_exact(cols).for_each(|row| self.inputs[i].add(row));
    }

    /// What the module at `site` is given; `None` where nothing ran.
    pub fn at(&self, site: Site) -> Option<&Inputs> {
        Some(&self.inputs[self.of_site[site.index()]?])
    }
}

impl Inputs {
    fn add(&mut self, row: &[f32]) {
        let length = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        let inv = if length > 0.0 {
            length.sqrt().recip() as f32
        } else {
            0.0
        };
        for (sum, x) in self.squares.iter_mut().zip(row) {
            *sum += f64::from(x * inv) * f64::from(x * inv);
        }
        let signs = signs(self.rows);
        for (d, sums) in self.sums.chunks_exact_mut(row.len()).enumerate() {
            let factor = if signs >> d & 1 == 0 { inv } else { -inv };
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
        }
        self.rows += 1;
    }

    /// The mean of x² for each column.
    pub fn squares(&self) -> impl Iterator<Item = f64> {
        self.squares.iter().map(|sum| sum / self.rows as f64)
    }

    /// `[DIRECTIONS][cols]`: vectors s whose sum of s s^T is, but for chance, the mean of x x^T.
    pub fn directions(&self) -> impl Iterator<Item = f32> {
        let scale = (self.rows as f64 * DIRECTIONS as f64).sqrt().recip() as f32;
        self.sums.iter().map(move |sum| sum * scale)
    }
}

/// A sign for each direction, as bits: those of row `n` (SplitMix64).
fn signs(n: u64) -> u64 {
    let mut z = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}
