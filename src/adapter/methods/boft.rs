//! BOFT (Liu et al. 2023, arXiv 2311.06243): x turns in N steps, each of blocks in another order, as the butterflies of a fast Fourier
//! transform; `<m>.boft_R` (N, blocks, bs, bs), `<m>.boft_s` (out, 1). Q_i = (I - S)(I + S)^-1 of S = (R - R^T) / 2, x := x M with
//! M = B_{N-1} … B_0, B_i = P_i blockdiag(Q_i) P_i^T, and y = s ⊙ (W x) + b (peft/tuners/boft/layer.py).

use crate::adapter::Lowered;
use crate::adapter::forms::{Blocks, Form};
use crate::adapter::matrix::Matrix;
use crate::adapter::methods::cayley::cayley;
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Source, bad_shape};
use crate::error::Result;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "BOFT",
    options: &[
        // The shapes tell.
        ("boft_block_size", Rule::Fine),
        ("boft_block_num", Rule::Fine),
        ("boft_n_butterfly_factor", Rule::Fine),
        ("boft_dropout", Rule::Fine),
    ],
    // `boft_P`, in old files, is what the shapes tell.
    tensors: &["boft_R", "boft_s", "boft_P"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let configured = source.folder.usize("boft_n_butterfly_factor", 1)?;
    source.lower(|module| {
        let t = module.need("boft_R")?;
        let [steps, count, size, same] = t.shape[..] else {
            return Err(bad_shape(t, "[N, blocks, bs, bs]"));
        };
        if steps != configured {
            return Err(bad_shape(
                t,
                format_args!("[{configured}, blocks, bs, bs], as boft_n_butterfly_factor says"),
            ));
        }
        if size != same || steps == 0 || count == 0 || size == 0 || steps > 32 {
            return Err(bad_shape(t, "[N, blocks, bs, bs]"));
        }
        let stored = Matrix::from_tensor(t, steps * count * size, size)?.to_f32();
        let mut forms = Vec::new();
        // The last step turns x first.
        for step in (0..steps).rev() {
            let mut blocks = Vec::with_capacity(count * size * size);
            for r in stored[step * count * size * size..][..count * size * size].chunks_exact(size * size) {
                let s: Vec<f64> = (0..size * size)
                    .map(|p| 0.5 * (f64::from(r[p]) - f64::from(r[(p % size) * size + p / size])))
                    .collect();
                blocks.extend(cayley(&s, size).map_err(|e| t.error(e))?.iter().map(|v| *v as f32));
            }
            let order = match steps {
                1 => None,
                _ => Some(butterfly(count * size, count >> step, size / 2).ok_or_else(|| {
                    bad_shape(t, "blocks of an even size, in a number that can be halved N - 1 times")
                })?),
            };
            forms.push(Form::InBlocks(Blocks { size, blocks, order }));
        }
        forms.push(Form::OutScaleNoBias(module.vector("boft_s")?));
        Ok(forms)
    })
}

/// Which of n elements stand where in the order of the blocks: in each of `parts` parts, pieces of `half` go evens first, then odds.
/// Element p in the order of the blocks is the one that P (`block_butterfly_perm`) takes to p.
fn butterfly(n: usize, parts: usize, half: usize) -> Option<Vec<u32>> {
    if parts == 0 || half == 0 || !n.is_multiple_of(parts) || !(n / parts).is_multiple_of(half) {
        return None;
    }
    let (part, pieces) = (n / parts, n / parts / half);
    let sorted: Vec<usize> = (0..pieces).step_by(2).chain((1..pieces).step_by(2)).collect();
    let mut order = vec![0; n];
    for i in 0..n {
        let (base, within) = (i / part * part, i % part);
        let to = base + sorted[within / half] * half + within % half;
        order[to] = u32::try_from(i).ok()?;
    }
    Some(order)
}
