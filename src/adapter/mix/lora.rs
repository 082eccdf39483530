//! LoRA: the factors of each module mixed as the type says, brought to one rank.

use super::options::{CombinationType, Combine};
use super::sources::{self, Part, Site};
use super::{Combined, CombinedSite, Tensor, config, operators, values};
use crate::error::{Error, Result};
use crate::format::PeftFolder;
use crate::format::safetensors::Dtype;
use crate::linalg;
use crate::rng::Rng;

/// Bytes that the updates of one module may take while they are mixed, and that the result may take.
const MAX_BYTES: u64 = 4 << 30;

pub(super) fn combine(
    folders: &[&PeftFolder],
    weights: &[f32],
    options: &Combine,
    progress: &mut dyn FnMut(f32),
) -> Result<Combined> {
    let (sites, kept) = sources::lora_sites(folders)?;
    let rank = new_rank(&sites, folders.len(), options);
    check(&sites, rank, options)?;

    let mut rng = Rng::new(options.seed.unwrap_or(0));
    let (mut combined, mut tensors) = (Vec::new(), Vec::new());
    let cost = |s: &Site| s.shape().0 as f64 * s.shape().1 as f64;
    let (all, mut done) = (sites.iter().map(cost).sum::<f64>(), 0.0);
    for site in &sites {
        let weights: Vec<f32> = site.parts.iter().map(|p| weights[p.adapter]).collect();
        let mixed = match options.kind {
            CombinationType::Cat => cat(site, &weights)?,
            kind if kind.is_svd() => approximated(site, &weights, rank, options, &mut rng)?,
            _ => factorwise(site, &weights, options, &mut rng)?,
        };
        let (inputs, outputs) = site.shape();
        let (a, b) = if site.embedding {
            ("lora_embedding_A", "lora_embedding_B")
        } else {
            ("lora_A.weight", "lora_B.weight")
        };
        let mut add = |factor: &str, shape: [usize; 2], values| {
            tensors.push(Tensor {
                name: format!("base_model.model.{}.{factor}", site.path),
                dtype: Dtype::F32,
                shape: shape.to_vec(),
                values,
            });
        };
        add(a, [rank, inputs], zero_rows(mixed.a, rank * inputs));
        add(b, [outputs, rank], zero_columns(mixed.b, mixed.rank, rank));
        combined.push(CombinedSite {
            path: site.path.clone(),
            adapters: site.parts.len(),
            energy: mixed.energy,
        });
        done += cost(site);
        progress((done / all) as f32);
    }
    for t in kept {
        tensors.push(Tensor {
            name: t.name.to_owned(),
            dtype: t.dtype,
            shape: t.shape.to_vec(),
            values: values(&t)?,
        });
    }
    let paths: Vec<&str> = sites.iter().map(|s| s.path.as_str()).collect();
    let mut config = config::of(folders, &paths);
    config::set_rank(&mut config, rank);
    Ok(Combined {
        method: "LORA",
        rank: Some(rank),
        sites: combined,
        config,
        tensors,
    })
}

/// The rank of the result at every module.
fn new_rank(sites: &[Site], adapters: usize, options: &Combine) -> usize {
    let parts = || sites.iter().flat_map(|s| &s.parts);
    let largest = |parts: &mut dyn Iterator<Item = &Part>| parts.map(Part::rank).max().unwrap_or(0);
    match options.kind {
        CombinationType::Cat => (0..adapters)
            .map(|i| largest(&mut parts().filter(|p| p.adapter == i)))
            .sum(),
        _ => options.svd_rank.unwrap_or_else(|| largest(&mut parts())),
    }
}

/// Checks every module before the first is mixed: ranks, and the memory it takes.
fn check(sites: &[Site], rank: usize, options: &Combine) -> Result<()> {
    let too_much = |what: &str, bytes: Option<usize>| {
        let found = bytes.map_or("more than can be counted".into(), |b| format!("{b} bytes"));
        Error::limit(what)
            .expected(format!("at most {MAX_BYTES} bytes"))
            .found(found)
    };
    let fits = |bytes: &Option<usize>| bytes.is_some_and(|b| u64::try_from(b).is_ok_and(|b| b <= MAX_BYTES));
    let mut total = Some(0usize);
    for site in sites {
        let (inputs, outputs) = site.shape();
        let add = |total: usize| total.checked_add(rank.checked_mul(inputs + outputs)?.checked_mul(4)?);
        total = total.and_then(add);
        match options.kind {
            CombinationType::Cat | CombinationType::Svd => {}
            // All updates, their sum, and a transposed copy of it.
            kind if kind.is_svd() => {
                let bytes = inputs
                    .checked_mul(outputs)
                    .and_then(|n| n.checked_mul(4 * (site.parts.len() + 2)));
                if !fits(&bytes) {
                    return Err(too_much("the updates of the module take too much memory", bytes).item(&site.path));
                }
            }
            kind => {
                let first = site.parts.first().map_or(0, Part::rank);
                if let Some(other) = site.parts.iter().find(|p| p.rank() != first) {
                    let e = Error::mismatch(format!("{} needs the same rank in all adapters", kind.name()));
                    let e = e
                        .expected(format!("{first}; or cat, or a type with svd"))
                        .found(other.rank());
                    return Err(other.a.error(e));
                }
            }
        }
    }
    match fits(&total) {
        true => Ok(()),
        false => Err(too_much("the result takes too much memory", total)),
    }
}

/// The new factors of a module: A, `[rank][inputs]`, and B, `[outputs][rank]`.
struct Mixed {
    rank: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    energy: Option<(f64, f64)>,
}

fn cat(site: &Site, weights: &[f32]) -> Result<Mixed> {
    let (a, b, rank) = stacked(site, weights)?;
    Ok(Mixed {
        rank,
        a,
        b,
        energy: None,
    })
}

/// All `w s A` below one another and all B side by side, and the sum of their ranks.
fn stacked(site: &Site, weights: &[f32]) -> Result<(Vec<f32>, Vec<f32>, usize)> {
    let mut a = Vec::new();
    let mut bs = Vec::new();
    for (part, weight) in site.parts.iter().zip(weights) {
        let factor = weight * part.scale;
        a.extend(values(&part.a)?.into_iter().map(|x| x * factor));
        bs.push((values(&part.b)?, part.rank()));
    }
    let mut b = Vec::new();
    for row in 0..site.shape().1 {
        for (values, rank) in &bs {
            b.extend_from_slice(&values[row * rank..(row + 1) * rank]);
        }
    }
    Ok((a, b, bs.iter().map(|b| b.1).sum()))
}

/// A mixed with A and B with B.
fn factorwise(site: &Site, weights: &[f32], options: &Combine, rng: &mut Rng) -> Result<Mixed> {
    let products: Vec<f64> = site
        .parts
        .iter()
        .zip(weights)
        .map(|(p, &w)| f64::from(w) * f64::from(p.scale))
        .collect();
    // The sign goes to one factor only.
    let for_a: Vec<f32> = products.iter().map(|p| p.abs().sqrt().copysign(*p) as f32).collect();
    let for_b: Vec<f32> = for_a.iter().map(|w| w.abs()).collect();
    let operator = options.operator();
    let tensors = |of: fn(&Part) -> Result<Vec<f32>>| site.parts.iter().map(of).collect::<Result<Vec<_>>>();
    Ok(Mixed {
        rank: site.parts.first().map_or(0, Part::rank),
        a: operator.mix(tensors(|p| values(&p.a))?, &for_a, rng),
        b: operator.mix(tensors(|p| values(&p.b))?, &for_b, rng),
        energy: None,
    })
}

/// The updates mixed, and the best factors of `rank` for that.
fn approximated(site: &Site, weights: &[f32], rank: usize, options: &Combine, rng: &mut Rng) -> Result<Mixed> {
    let (inputs, outputs) = site.shape();
    let svd = if options.kind == CombinationType::Svd {
        let (a, b, sum) = stacked(site, weights)?;
        linalg::svd_of_product(outputs, sum, inputs, &b, &a, rank)
    } else {
        let updates = site.parts.iter().map(update).collect::<Result<Vec<_>>>()?;
        let mixed = options.operator().mix(updates, weights, rng);
        linalg::svd(outputs, inputs, &mixed, rank)
    };
    let linalg::Svd { k, u, s, vt, energy } = svd.map_err(|e| e.item(&site.path))?;
    let kept = s.iter().map(|&s| f64::from(s).powi(2)).sum();
    let mut b: Vec<f32> = u.iter().enumerate().map(|(i, u)| u * s[i % k]).collect();
    let mut a = vt;
    if let Some(q) = options.svd_clamp {
        let most = operators::quantile([b.as_slice(), a.as_slice()].concat(), q);
        // A quantile below 0 makes the limits cross; then the upper one holds, as in torch.
        a.iter_mut().chain(&mut b).for_each(|x| *x = x.max(-most).min(most));
    }
    Ok(Mixed {
        rank: k,
        a,
        b,
        energy: Some((energy, kept)),
    })
}

/// `s B A`, `[outputs][inputs]`.
fn update(part: &Part) -> Result<Vec<f32>> {
    let (inputs, outputs) = part.shape();
    let mut product = linalg::product(outputs, part.rank(), inputs, &values(&part.b)?, &values(&part.a)?)?;
    product.iter_mut().for_each(|x| *x *= part.scale);
    Ok(product)
}

/// Zeros behind `a`, up to `len`.
fn zero_rows(mut a: Vec<f32>, len: usize) -> Vec<f32> {
    a.resize(len, 0.0);
    a
}

/// `b`, `[rows][from]`, as `[rows][to]`, with zeros at the end of each row.
fn zero_columns(b: Vec<f32>, from: usize, to: usize) -> Vec<f32> {
    if from == to {
        return b;
    }
    let mut wide = vec![0.0; b.len() / from * to];
    for (wide, row) in wide.chunks_exact_mut(to).zip(b.chunks_exact(from)) {
        wide[..from].copy_from_slice(row);
    }
    wide
}
