//! A bar a stage: the median in full colour on the 99th percentile.

use maud::{Markup, html};

use super::line::{WIDTH, coordinate};
use crate::StageTimes;
use crate::view::numbers::time;

const ROW: f64 = 26.0;
const LEFT: f64 = 128.0;
const RIGHT: f64 = 168.0;

#[expect(clippy::cast_precision_loss, reason = "times of a run are far below 2^53 microseconds")]
pub(super) fn stage_bars(stages: &[&StageTimes]) -> Markup {
    let longest = stages.iter().map(|times| times.p99_us).max().unwrap_or(1).max(1) as f64;
    let length = |micros: u64| coordinate((micros as f64 / longest * (WIDTH - LEFT - RIGHT)).max(1.0));
    let height = stages.iter().map(|_| ROW).sum::<f64>() + 4.0;
    let rows = stages.iter().scan(0.0, |next, times| {
        let top = *next;
        *next += ROW;
        Some((top, *times))
    });
    html! {
        figure id="stages-chart" class="chart" {
            figcaption {
                strong { "Time by stage" }
                span class="legend" {
                    span { i class="key block p50" {} "median" }
                    span { i class="key block p99" {} "99th percentile" }
                }
            }
            svg viewBox=(format!("0 0 {WIDTH} {}", coordinate(height))) role="img" aria-labelledby="bars-title bars-description" {
                title id="bars-title" { "Time by stage" }
                desc id="bars-description" { "Median and 99th percentile of each stage; the table of stages has the numbers." }
                @for (top, times) in rows {
                    text class="name end" x=(coordinate(LEFT - 9.0)) y=(coordinate(top + 17.0)) { (times.stage.name()) }
                    rect class="bar p99" x=(coordinate(LEFT)) y=(coordinate(top + 4.0)) width=(length(times.p99_us)) height="18" rx="2" {}
                    rect class="bar p50" x=(coordinate(LEFT)) y=(coordinate(top + 4.0)) width=(length(times.p50_us)) height="18" rx="2" {}
                    text class="mark" x=(coordinate(WIDTH - RIGHT + 10.0)) y=(coordinate(top + 17.0)) {
                        (time(times.p50_us as f64)) " · " (time(times.p99_us as f64))
                    }
                }
            }
        }
    }
}
