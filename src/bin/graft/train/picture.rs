//! The loss curve as SVG.

use graft::{Error, Result};
use plotters::prelude::*;

const SIZE: (u32, u32) = (800, 450);
const TRAIN: RGBColor = RGBColor(31, 119, 180);
const EVAL: RGBColor = RGBColor(214, 39, 40);

/// Points of a curve at most: more than anybody sees.
const MOST: usize = 4096;

/// Losses of steps; of a long training means of as many neighbours as it takes to be no more than [`MOST`].
pub struct Curve {
    /// The last step of each, and the mean loss.
    points: Vec<(f64, f64)>,
    /// Steps of a point.
    each: usize,
    /// Of those behind the last point.
    sum: f64,
    count: usize,
}

impl Default for Curve {
    fn default() -> Self {
        Curve {
            points: Vec::new(),
            each: 1,
            sum: 0.0,
            count: 0,
        }
    }
}

impl Curve {
    /// One more step.
    pub fn push(&mut self, step: usize, loss: f64) {
        (self.sum, self.count) = (self.sum + loss, self.count + 1);
        if self.count < self.each {
            return;
        }
        self.points.push((step as f64, self.sum / self.count as f64));
        (self.sum, self.count) = (0.0, 0);
        if self.points.len() == MOST {
            let pairs = self.points.as_chunks::<2>().0.iter();
            self.points = pairs.map(|[a, b]| (b.0, (a.1 + b.1) / 2.0)).collect();
            self.each *= 2;
        }
    }

    /// The mean of the last tenth.
    pub fn last(&self) -> Option<f64> {
        let last = &self.points[self.points.len() - self.points.len().div_ceil(10)..];
        (!last.is_empty()).then(|| last.iter().map(|p| p.1).sum::<f64>() / last.len() as f64)
    }
}

/// Steps across, the mean loss of a learnt token upwards; each step pale, their running mean and the evaluation data strong.
pub fn loss_curve(train: &Curve, eval: &[(usize, f64)]) -> Result<String> {
    let mut svg = String::new();
    draw(&train.points, eval, &mut svg).map_err(|e| Error::internal(format!("the loss curve: {e}")))?;
    Ok(svg)
}

fn draw(
    train: &[(f64, f64)],
    eval: &[(usize, f64)],
    svg: &mut String,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let eval: Vec<(f64, f64)> = eval.iter().map(|(step, loss)| (*step as f64, *loss)).collect();
    let losses = || train.iter().chain(&eval).map(|p| p.1);
    let (low, high) = (losses().fold(f64::INFINITY, f64::min), losses().fold(0.0, f64::max));
    if !low.is_finite() {
        return Ok(());
    }
    let margin = ((high - low) * 0.05).max(1e-3);
    let last = train.last().map_or(1.0, |p| p.0).max(2.0);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(1.0..last, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    chart.draw_series(LineSeries::new(train.iter().copied(), TRAIN.mix(0.3)))?;
    chart
        .draw_series(LineSeries::new(smooth(train), TRAIN.stroke_width(2)))?
        .label("training data")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], TRAIN.stroke_width(2)));
    if !eval.is_empty() {
        chart
            .draw_series(LineSeries::new(eval.iter().copied(), EVAL.stroke_width(2)))?
            .label("evaluation data")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], EVAL.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}

/// A running mean over a twentieth of the steps.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let share = 1.0 / (points.len() as f64 / 20.0).max(1.0);
    let mut mean = points.first().map_or(0.0, |p| p.1);
    points
        .iter()
        .map(|(x, y)| {
            mean += (y - mean) * share;
            (*x, mean)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_training_has_means_for_points() {
        let mut curve = Curve::default();
        for step in 1..=100 {
            curve.push(step, step as f64);
        }
        assert_eq!(
            (curve.points.len(), curve.points[6], curve.last()),
            (100, (7.0, 7.0), Some(95.5))
        );
        for step in 101..=3 * MOST {
            curve.push(step, step as f64);
        }
        // 4 steps each, of which all have come to a point.
        assert_eq!((curve.each, curve.points.len()), (4, 3 * MOST / 4));
        assert_eq!(curve.points[6], (28.0, 26.5));
        assert!(curve.points.is_sorted());
    }
}
