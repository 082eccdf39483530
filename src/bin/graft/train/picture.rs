//! The loss curve as SVG.

use graft::{Error, Result};
use plotters::prelude::*;

use super::folder::Logged;

const SIZE: (u32, u32) = (800, 450);
const TRAIN: RGBColor = RGBColor(31, 119, 180);
const EVAL: RGBColor = RGBColor(214, 39, 40);

/// Steps across, the mean loss of a learnt token upwards; each step pale, their running mean and the evaluation data strong.
pub fn loss_curve(lines: &[Logged]) -> Result<String> {
    let mut svg = String::new();
    draw(lines, &mut svg).map_err(|e| Error::internal(format!("the loss curve: {e}")))?;
    Ok(svg)
}

fn draw(lines: &[Logged], svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let train: Vec<(f64, f64)> = lines.iter().filter_map(|l| Some((l.step as f64, l.loss?))).collect();
    let eval: Vec<(f64, f64)> = lines
        .iter()
        .filter_map(|l| Some((l.step as f64, l.eval_loss?)))
        .collect();
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
        .draw_series(LineSeries::new(smooth(&train), TRAIN.stroke_width(2)))?
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
