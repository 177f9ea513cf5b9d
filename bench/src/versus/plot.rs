//! The ratios that have a goal as a figure: each a line from its least to its greatest round with a dot
//! at the median, in parts of its goal, on a logarithmic scale. What is right of the line in the middle
//! has met it.

use super::scenario::{Goal, Measure};
use super::table::{Compared, Section, Spread};
use plotters::prelude::*;
use std::path::Path;

const WIDTH: u32 = 1000;
const ROW_HEIGHT: u32 = 26;
const MARGIN_HEIGHT: u32 = 90;
/// Where names end and the scale begins.
const NAMES_WIDTH: i32 = 430;

/// The least part of a goal that is shown.
const PART_MIN: f64 = 0.05;
const PART_MAX: f64 = 20.0;

/// One goal's line.
struct Bar {
    name: String,
    parts: Spread,
}

/// Draws all goals of `sections` as SVG.
pub(crate) fn draw(sections: &[Section], path: &Path) -> Result<(), String> {
    let bars: Vec<Bar> = sections
        .iter()
        .flat_map(|section| section.compared.iter().filter_map(|c| bar(&section.name, c)))
        .collect();
    let height = MARGIN_HEIGHT + ROW_HEIGHT * bars.len().max(1) as u32;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    chart(&root, &bars).map_err(|error| error.to_string())
}

fn bar(scenario: &str, compared: &Compared) -> Option<Bar> {
    let (goal, ratio) = (compared.goal?, compared.ratio?);
    let parts = match goal {
        Goal::AtLeast(goal) => {
            Spread { min: ratio.min / goal, median: ratio.median / goal, max: ratio.max / goal }
        }
        Goal::AtMost(goal) => {
            Spread { min: goal / ratio.max, median: goal / ratio.median, max: goal / ratio.min }
        }
    };
    let (of, to) = (short(&compared.of), short(&compared.to));
    let what = match compared.measure {
        Measure::Rate => "",
        Measure::P50 => " (p50)",
    };
    let name = format!("{scenario}: {of} / {to}{what} {goal}, is {:.2}", ratio.median);
    Some(Bar { name, parts })
}

/// `barewire <-> barewire` is one word.
fn short(pair: &str) -> String {
    match pair.split_once(" <-> ") {
        Some((one, other)) if other == one || other.starts_with(&format!("{one},")) => {
            other.to_owned()
        }
        _ => pair.to_owned(),
    }
}

fn chart<DB: DrawingBackend>(
    root: &DrawingArea<DB, plotters::coord::Shift>,
    bars: &[Bar],
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    root.fill(&WHITE)?;
    let rows = 0..bars.len().max(1) as i32 * 2;
    let mut chart = ChartBuilder::on(root)
        .caption("parts of the goal reached: min, median, max of the rounds", ("sans-serif", 16))
        .margin(10)
        .margin_left(NAMES_WIDTH)
        .x_label_area_size(30)
        .build_cartesian_2d((PART_MIN..PART_MAX).log_scale(), rows)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_labels(8).draw()?;
    let bottom = bars.len().max(1) as i32 * 2;
    chart.draw_series([PathElement::new(vec![(1.0, 0), (1.0, bottom)], BLACK.stroke_width(2))])?;
    for (idx, Bar { name, parts }) in bars.iter().enumerate() {
        let y = bottom - 2 * idx as i32 - 1;
        let color = if parts.median >= 1.0 { RGBColor(0, 120, 60) } else { RGBColor(190, 40, 30) };
        let at = |part: f64| (part.clamp(PART_MIN, PART_MAX), y);
        let whole = vec![at(parts.min), at(parts.max)];
        chart.draw_series([PathElement::new(whole, color.stroke_width(3))])?;
        chart.draw_series([Circle::new(at(parts.median), 5, color.filled())])?;
        let row = chart.backend_coord(&(1.0, y)).1;
        root.draw(&Text::new(name.clone(), (12, row - 7), ("sans-serif", 13)))?;
    }
    root.present()
}
