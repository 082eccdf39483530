//! RoAd (Petruk et al. 2024, arXiv 2409.00119): outputs, bias included, turn and stretch in pairs. In each group of `group_size` the first
//! half pairs with the second, rot(y) = (-y2, y1); y := f ⊙ y + h ⊙ rot(y) with f = α cos θ, h = α sin θ of `<m>.road_theta` and
//! `<m>.road_alpha`: one value a pair (road_1), one a feature (road_2), or two a feature, for f and for h (road_4) (peft/tuners/road/layer.py).

use crate::adapter::Lowered;
use crate::adapter::forms::{Form, Pairs};
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Source, bad_shape};
use crate::error::{Error, Result};

/// The method.
pub const METHOD: Method = Method {
    peft_type: "ROAD",
    options: &[
        ("variant", Rule::OneOf(&["road_1", "road_2", "road_4"])),
        ("group_size", Rule::Fine),
    ],
    tensors: &["road_theta", "road_alpha"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let folder = source.folder;
    let variant = folder.str("variant")?.unwrap_or("road_1");
    let group = folder.usize("group_size", 64)?;
    if group == 0 || group % 2 != 0 {
        let e = Error::invalid("value out of range")
            .expected("an even number above 0")
            .found(group);
        return Err(folder.error(e, "group_size"));
    }
    let half = group / 2;
    source.lower(|module| {
        let (theta, alpha) = (module.vector("road_theta")?, module.vector("road_alpha")?);
        if theta.len() != alpha.len() {
            return Err(bad_shape(module.need("road_alpha")?, format_args!("[{}]", theta.len())));
        }
        // Numbers stored for a group.
        let stored = match variant {
            "road_1" => half,
            "road_2" => group,
            _ => group.saturating_mul(2),
        };
        if theta.len() % stored != 0 {
            let e = format_args!("a multiple of {stored} ({variant}, groups of {group})");
            return Err(bad_shape(module.need("road_theta")?, e));
        }
        let out = theta.len() / stored * group;
        let (mut f, mut h, mut partner) = (Vec::new(), Vec::new(), Vec::new());
        for j in 0..out {
            let (at_f, at_h, sign) = places(variant, group, j);
            let first = j % group < half;
            f.push(alpha[at_f] * theta[at_f].cos());
            h.push(sign * alpha[at_h] * theta[at_h].sin());
            partner.push(if first { j + half } else { j - half } as u32);
        }
        Ok(vec![Form::OutPairs(Pairs { f, h, partner })])
    })
}

/// Where feature `j` finds the numbers of its f and of its h, and the sign of its h.
pub fn places(variant: &str, group: usize, j: usize) -> (usize, usize, f32) {
    let (half, g, within) = (group / 2, j / group, j % group);
    let (f, h) = match variant {
        "road_1" => (g * half + within % half, g * half + within % half),
        "road_2" => (j, j),
        _ => (2 * g * group + within, (2 * g + 1) * group + within),
    };
    (f, h, if within < half { -1.0 } else { 1.0 })
}
