//! `--svg`: a roofline picture.
//!
//! To the right: multiply-adds for each byte that comes from memory. Upwards: multiply-adds a second. Both logarithmic, so that
//! the memory's limit is a straight slope and the limits of arithmetic are level; nothing can lie above its roof. How far
//! below a point lies is what there is to gain.

use super::ops::Table;
use super::svg::{Anchor, LETTER, Point, SMALL, Svg};
use crate::machine::Limits;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 640.0;
/// The plot within the picture.
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 25.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = HEIGHT - 60.0;

const INK: &str = "#222";
const GRID: &str = "#e4e4e4";
const ROOF: &str = "#888";
/// Operations with less of a phase's time than this, in percent, are left out.
const LEAST_SHARE: f64 = 2.0;

/// A point of the picture.
pub struct Mark {
    label: String,
    /// Multiply-adds a byte.
    intensity: f64,
    gmac_per_s: f64,
    radius: f64,
    color: &'static str,
}

/// The colour of a phase.
#[derive(Clone, Copy)]
pub struct Color(&'static str);

pub const PROMPT: Color = Color("#1f5fb4");
pub const GENERATION: Color = Color("#c4570c");

impl Mark {
    /// A whole phase.
    pub fn phase(label: String, gmac_per_s: f64, gb_per_s: f64, color: Color) -> Self {
        Mark {
            label,
            intensity: gmac_per_s / gb_per_s,
            gmac_per_s,
            radius: 8.0,
            color: color.0,
        }
    }

    /// The operations of a phase that multiply and take time.
    pub fn operations(table: &Table, color: Color) -> impl Iterator<Item = Self> {
        let matter = |percent: f64| percent >= LEAST_SHARE;
        let rows = table
            .ops
            .iter()
            .filter(move |r| r.macs > 0 && r.bytes > 0 && matter(r.percent_of_phase));
        rows.map(move |r| Mark {
            label: format!("{} ({:.0} %)", r.name(), r.percent_of_phase),
            intensity: r.gmac_per_s / r.gb_per_s,
            gmac_per_s: r.gmac_per_s,
            radius: 4.0,
            color: color.0,
        })
    }
}

/// The logarithmic plane: the smallest and largest value of each side.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    /// What holds all marks and the roofs, with room for labels.
    fn around(limits: &Limits, marks: &[Mark]) -> Self {
        let fit = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            round_out(low, high)
        };
        let ridge = limits.fast.gmac_per_s() / limits.read_gb_per_s;
        let top = limits.fast.gmac_per_s().max(limits.f32_gmac_per_s);
        Axes {
            x: fit(&mut marks.iter().map(|m| m.intensity).chain([ridge / 10.0, ridge * 10.0])),
            y: fit(&mut marks.iter().map(|m| m.gmac_per_s).chain([top / 50.0, top * 1.1])),
        }
    }

    fn at(&self, intensity: f64, gmac_per_s: f64) -> Point {
        let part = |v: f64, (low, high): (f64, f64)| (v / low).ln() / (high / low).ln();
        (
            LEFT + part(intensity, self.x) * (RIGHT - LEFT),
            BOTTOM - part(gmac_per_s, self.y) * (BOTTOM - TOP),
        )
    }

    fn draw(&self, svg: &mut Svg) {
        for value in ticks(self.x) {
            let (x, _) = self.at(value, self.y.0);
            svg.line((x, TOP), (x, BOTTOM), GRID, 1.0);
            svg.text((x, BOTTOM + 18.0), 0.0, Anchor::Middle, 12.0, INK, &value.to_string());
        }
        for value in ticks(self.y) {
            let (_, y) = self.at(self.x.0, value);
            svg.line((LEFT, y), (RIGHT, y), GRID, 1.0);
            svg.text((LEFT - 8.0, y + 4.0), 0.0, Anchor::End, 12.0, INK, &value.to_string());
        }
        let middle = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        let x_name = "multiply-adds for each byte of weights, keys and values";
        svg.text((middle.0, BOTTOM + 44.0), 0.0, Anchor::Middle, 13.0, INK, x_name);
        svg.text((22.0, middle.1), -90.0, Anchor::Middle, 13.0, INK, "GMAC/s");
    }

    /// The slope of the memory and the level roofs of arithmetic; gives the space that their labels take.
    fn roofs(&self, svg: &mut Svg, limits: &Limits) -> Vec<Rect> {
        let read = limits.read_gb_per_s;
        let mut taken = Vec::new();
        let mut level = [
            ("f32", limits.f32_gmac_per_s),
            (limits.fast.name(), limits.fast.gmac_per_s()),
        ];
        level.sort_by(|a, b| a.1.total_cmp(&b.1));
        // The lower one has its label below, so that the two do not meet where the roofs are close.
        for ((name, roof), below) in level.into_iter().zip([15.0, -6.0]) {
            let (from, to) = (self.at(roof / read, roof), self.at(self.x.1, roof));
            svg.line(from, to, ROOF, 2.0);
            let words = format!("{name} {roof:.0} GMAC/s");
            let at = (from.0 + 30.0, from.1 + below);
            svg.text(at, 0.0, Anchor::Start, 12.0, ROOF, &words);
            taken.push(Rect::of_text(at, &words));
        }
        // From the left or the lower edge, whichever the slope meets first, to the highest roof.
        let ridge = level[1].1 / read;
        let start = self.x.0.max(self.y.0 / read);
        let (from, to) = (self.at(start, start * read), self.at(ridge, ridge * read));
        svg.line(from, to, ROOF, 2.0);
        let degrees = (to.1 - from.1).atan2(to.0 - from.0).to_degrees();
        let words = format!("read {read:.1} GB/s");
        let along = 0.3;
        let at = (from.0 + along * (to.0 - from.0), from.1 + along * (to.1 - from.1));
        let turn = degrees.to_radians();
        let above = (at.0 + 7.0 * turn.sin(), at.1 - 7.0 * turn.cos());
        svg.text(above, degrees, Anchor::Middle, 12.0, ROOF, &words);
        let half = width(&words) / 2.0;
        let (wide, high) = (half * turn.cos().abs() + SMALL, half * turn.sin().abs() + SMALL);
        taken.push(Rect {
            from: (above.0 - wide, above.1 - high),
            to: (above.0 + wide, above.1 + high),
        });
        taken
    }
}

/// 1, 2 and 5 times the powers of ten from `low` to `high`.
fn ticks((low, high): (f64, f64)) -> impl Iterator<Item = f64> {
    let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    // Parsed rather than computed: exactly the number that is printed.
    let values = decades.flat_map(|d| ["1", "2", "5"].map(|m| format!("{m}e{d}").parse().unwrap_or(1.0)));
    values.filter(move |v| (low..=high).contains(v))
}

/// The ticks around `low` and `high`.
fn round_out(low: f64, high: f64) -> (f64, f64) {
    let wide = (low / 10.0, high * 10.0);
    let below = ticks(wide).filter(|v| *v <= low).fold(wide.0, f64::max);
    let above = ticks(wide).filter(|v| *v >= high).fold(wide.1, f64::min);
    (below, above)
}

fn width(words: &str) -> f64 {
    words.chars().count() as f64 * LETTER
}

/// What letters have below their base line.
const BELOW: f64 = 3.0;

/// Space that is taken.
#[derive(Clone, Copy)]
struct Rect {
    from: Point,
    to: Point,
}

impl Rect {
    /// Small text that starts at a point of its base line.
    fn of_text((x, y): Point, words: &str) -> Self {
        Rect {
            from: (x, y - SMALL + 1.0),
            to: (x + width(words), y + BELOW),
        }
    }

    fn around((x, y): Point, radius: f64) -> Self {
        Rect {
            from: (x - radius, y - radius),
            to: (x + radius, y + radius),
        }
    }

    fn meets(&self, other: &Rect) -> bool {
        self.from.0 < other.to.0 && other.from.0 < self.to.0 && self.from.1 < other.to.1 && other.from.1 < self.to.1
    }

    fn in_plot(&self) -> bool {
        self.from.0 > LEFT && self.to.0 < RIGHT && self.from.1 > TOP && self.to.1 < BOTTOM
    }
}

/// The picture.
pub fn draw(title: &str, limits: &Limits, marks: &[Mark]) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let axes = Axes::around(limits, marks);
    axes.draw(&mut svg);
    let mut taken = axes.roofs(&mut svg, limits);
    svg.text((LEFT, 24.0), 0.0, Anchor::Start, 15.0, INK, title);
    for (x, color, words) in [
        (LEFT, PROMPT, "● prompt and its operations (share of its time)"),
        (LEFT + 330.0, GENERATION, "● generation and its operations"),
    ] {
        svg.text((x, 44.0), 0.0, Anchor::Start, 12.0, color.0, words);
    }

    let points: Vec<Point> = marks.iter().map(|m| axes.at(m.intensity, m.gmac_per_s)).collect();
    taken.extend(points.iter().zip(marks).map(|(p, m)| Rect::around(*p, m.radius)));
    // The phases first, then from above to below: each label at the nearest free place.
    let mut order: Vec<usize> = (0..marks.len()).collect();
    order.sort_by(|&a, &b| {
        let large_first = marks[b].radius.total_cmp(&marks[a].radius);
        large_first.then(points[a].1.total_cmp(&points[b].1))
    });
    for i in order {
        let (point, mark) = (points[i], &marks[i]);
        if let Some(label) = label_place(point, mark, &taken) {
            // Text and leader meet at the side that faces the point.
            let (side, anchor) = match label.from.0 > point.0 {
                true => (label.from.0, Anchor::Start),
                false => (label.to.0, Anchor::End),
            };
            let base = label.to.1 - BELOW;
            svg.veil(label.from, label.to);
            svg.line(point, (side, base - 4.0), mark.color, 0.6);
            svg.text((side, base), 0.0, anchor, SMALL, mark.color, &mark.label);
            taken.push(label);
        }
    }
    for (point, mark) in points.iter().zip(marks) {
        svg.circle(*point, mark.radius, mark.color);
    }
    svg.finish()
}

/// The nearest place beside a point where its label meets nothing.
fn label_place(point: Point, mark: &Mark, taken: &[Rect]) -> Option<Rect> {
    let gap = 14.0;
    (0..40).find_map(|step| {
        let down = f64::from((step + 1) / 2) * 6.0 * if step % 2 == 0 { -1.0 } else { 1.0 };
        let y = point.1 + 4.0 + down;
        let sides = [point.0 + gap, point.0 - gap - width(&mark.label)];
        let labels = sides.map(|x| Rect::of_text((x, y), &mark.label));
        let free = |label: &Rect| label.in_plot() && !taken.iter().any(|t| t.meets(label));
        labels.into_iter().find(free)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Fast;

    /// Oracle: the definition of the axes, and that labels meet neither each other nor a point.
    #[test]
    fn everything_has_its_place() {
        let limits = Limits {
            read_gb_per_s: 10.0,
            peak_gb_per_s: None,
            f32_gmac_per_s: 100.0,
            fast: Fast::Int8(200.0),
        };
        let mark = |i: usize| Mark {
            label: format!("operation {i}"),
            intensity: 100.0,
            gmac_per_s: 50.0 + i as f64,
            radius: 4.0,
            color: PROMPT.0,
        };
        let marks: Vec<Mark> = (0..8).map(mark).collect();
        let axes = Axes::around(&limits, &marks);
        // The ridge is at 20: a decade to each side. The highest roof is 200: a fiftieth below, a tenth above.
        assert_eq!((axes.x, axes.y), ((2.0, 200.0), (2.0, 500.0)));
        assert_eq!(axes.at(2.0, 2.0), (LEFT, BOTTOM));
        assert_eq!(axes.at(200.0, 500.0), (RIGHT, TOP));
        let (x, y) = axes.at(20.0, 1000f64.sqrt());
        assert!((x - (LEFT + RIGHT) / 2.0).abs() < 1e-9 && (y - (TOP + BOTTOM) / 2.0).abs() < 1e-9);

        let mut taken: Vec<Rect> = marks
            .iter()
            .map(|m| Rect::around(axes.at(m.intensity, m.gmac_per_s), 4.0))
            .collect();
        for m in &marks {
            let label = label_place(axes.at(m.intensity, m.gmac_per_s), m, &taken).expect("room for eight");
            assert!(label.in_plot() && !taken.iter().any(|t| t.meets(&label)));
            taken.push(label);
        }
        let picture = draw("a < b", &limits, &marks);
        assert_eq!(picture.matches("<circle").count(), 8);
        assert!(picture.contains("a &lt; b") && picture.contains("operation 7") && picture.ends_with("</svg>\n"));
        assert_eq!(ticks((0.04, 2.0)).collect::<Vec<_>>(), [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]);
        assert_eq!((round_out(3.0, 7.0), round_out(5.0, 5.0)), ((2.0, 10.0), (5.0, 5.0)));
    }
}
