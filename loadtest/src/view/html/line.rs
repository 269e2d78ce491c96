//! A chart of lines.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::axis::Axis;

pub(super) const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// A line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    /// Colour and kind of stroke, by the style sheet.
    pub(super) class: &'static str,
    /// Rising in the first.
    pub(super) points: Vec<(f64, f64)>,
    /// The area below is tinted.
    pub(super) filled: bool,
}

/// A chart.
#[derive(Debug, Clone)]
pub(super) struct LineChart {
    /// Names it in the page: letters and hyphens.
    pub(super) id: &'static str,
    pub(super) title: String,
    /// What it shows, for who cannot see it.
    pub(super) description: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

impl LineChart {
    pub(super) fn markup(&self) -> Markup {
        let (title, description) = (format!("{}-title", self.id), format!("{}-description", self.id));
        html! {
            figure id=(self.id) class="chart" {
                figcaption {
                    strong { (self.title) }
                    // One line needs no legend: the title names it.
                    @if self.series.len() > 1 {
                        span class="legend" {
                            @for series in &self.series {
                                span { i class=(format!("key {}", series.class)) {} (series.name) }
                            }
                        }
                    }
                }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby=(format!("{title} {description}")) {
                    title id=(title) { (self.title) }
                    desc id=(description) { (self.description) }
                    @for (value, text) in &self.y.marks {
                        @let y = coordinate(self.y_of(*value));
                        line class="grid" x1=(coordinate(LEFT)) x2=(coordinate(WIDTH - RIGHT)) y1=(y) y2=(y) {}
                        text class="mark end" x=(coordinate(LEFT - 7.0)) y=(coordinate(self.y_of(*value) + 4.0)) { (text) }
                    }
                    @for (value, text) in &self.x.marks {
                        @let x = coordinate(self.x_of(*value));
                        line class="tick" x1=(x) x2=(x) y1=(coordinate(HEIGHT - BOTTOM)) y2=(coordinate(HEIGHT - BOTTOM + 4.0)) {}
                        text class="mark middle" x=(x) y=(coordinate(HEIGHT - 7.0)) { (text) }
                    }
                    @for series in &self.series {
                        @if series.filled {
                            path class=(format!("area {}", series.class)) d=(self.area(series)) {}
                        }
                        path class=(format!("line {}", series.class)) d=(self.path(series)) {}
                    }
                }
            }
        }
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, series: &Series) -> String {
        let mut path = String::new();
        for (number, (x, y)) in series.points.iter().enumerate() {
            let command = if number == 0 { 'M' } else { 'L' };
            // Writing to a string cannot fail.
            let _ = write!(path, "{command}{} {}", coordinate(self.x_of(*x)), coordinate(self.y_of(*y)));
        }
        path
    }

    fn area(&self, series: &Series) -> String {
        let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { return String::new() };
        let ground = coordinate(HEIGHT - BOTTOM);
        let (first, last) = (coordinate(self.x_of(first.0)), coordinate(self.x_of(last.0)));
        format!("{}L{last} {ground}L{first} {ground}Z", self.path(series))
    }
}

/// A tenth of a unit is finer than a screen shows.
pub(super) fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lie_within_the_chart_and_texts_are_escaped() {
        let chart = LineChart {
            id: "x",
            title: "<b>".to_owned(),
            description: "a \"b\" & c".to_owned(),
            x: Axis::time(10.0),
            y: Axis::linear(100.0),
            series: vec![Series {
                name: "one".to_owned(),
                class: "a",
                points: vec![(0.0, 0.0), (10.0, 100.0), (99.0, f64::NAN)],
                filled: true,
            }],
        };
        let text = chart.markup().into_string();
        assert!(text.contains("d=\"M62 224L578 10L578 224\""), "{text}");
        assert!(text.contains("d=\"M62 224L578 10L578 224L578 224L62 224Z\""), "{text}");
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b>") && !text.contains("NaN"), "{text}");
        assert!(!text.contains("legend"), "{text}");
    }
}
