//! Which charts a report has.

use maud::{Markup, html};

use super::axis::Axis;
use super::bars::stage_bars;
use super::line::{LineChart, Series};
use crate::view::numbers::{byte_unit, bytes, count, short, time};
use crate::{Report, SecondOfRun, Stage, StageTimes};

/// Lines in the chart of percentiles beside those of the whole operation.
const STAGE_LINES: usize = 3;

/// Entries of the time line shorter than this have no rate worth drawing, in seconds.
const SHORTEST: f64 = 0.2;

pub(super) fn charts(report: &Report) -> Markup {
    let timed: Vec<&StageTimes> = report.stages.iter().filter(|times| times.stage != Stage::TotalUncorrected).collect();
    let lines = [throughput(report), percentiles(report), server_cpu(report), server_memory(report), sessions(report)];
    let mut lines: Vec<Markup> = lines.into_iter().flatten().map(|chart| chart.markup()).collect();
    if !timed.is_empty() {
        // Beside the percentiles, which are of the same times.
        lines.insert(lines.len().min(2), stage_bars(&timed));
    }
    html! { section class="charts" aria-label="Charts" { @for chart in &lines { (chart) } } }
}

/// A value a second of each entry of the time line that is long enough.
fn per_second(timeline: &[SecondOfRun], value: impl Fn(&SecondOfRun) -> Option<f64>) -> Vec<(f64, f64)> {
    let begins = [0.0].into_iter().chain(timeline.iter().map(|second| second.at));
    timeline
        .iter()
        .zip(begins)
        .filter(|(second, begin)| second.at - begin >= SHORTEST)
        .filter_map(|(second, begin)| Some((second.at, value(second)? / (second.at - begin))))
        .collect()
}

fn greatest(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|(_, y)| *y).fold(0.0, f64::max)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

fn throughput(report: &Report) -> Option<LineChart> {
    let done = per_second(&report.timeline, |second| Some(number(second.completed)));
    if done.is_empty() {
        return None;
    }
    let failed = per_second(&report.timeline, |second| Some(number(second.failed)));
    let max = greatest(&done).max(greatest(&failed)).max(report.offered_per_second.unwrap_or(0.0));
    let mut description = format!(
        "On average {} operations a second were done, at most {} in one second.",
        short(report.completed_per_second),
        short(greatest(&done))
    );
    let mut series = vec![Series { name: "done".to_owned(), class: "a", points: done, filled: true }];
    if let Some(offered) = report.offered_per_second {
        let points = vec![(0.0, offered), (report.seconds, offered)];
        series.push(Series { name: "offered".to_owned(), class: "quiet", points, filled: false });
    }
    if report.failed > 0 {
        description.push_str(&format!(" {} failed.", count(report.failed)));
        series.push(Series { name: "failed".to_owned(), class: "bad", points: failed, filled: false });
    }
    Some(LineChart {
        id: "throughput-chart",
        title: "Operations a second".to_owned(),
        description,
        x: Axis::time(report.seconds),
        y: Axis::linear(max),
        series,
    })
}

/// The whole operation, what it would be without correction, and the stages that take longest.
fn percentiles(report: &Report) -> Option<LineChart> {
    let of = |stage: Stage| report.stages.iter().find(|times| times.stage == stage);
    let mut shown: Vec<(&StageTimes, &'static str)> = Vec::new();
    shown.extend(of(Stage::Total).map(|times| (times, "a")));
    shown.extend(of(Stage::TotalUncorrected).map(|times| (times, "quiet")));
    let mut others: Vec<&StageTimes> = report.stages.iter().filter(|times| times.stage < Stage::Total).collect();
    others.sort_by_key(|times| std::cmp::Reverse(times.p50_us));
    // Where the first answer is `assigned`, two stages are one line.
    others.dedup_by(|later, earlier| later.quantiles == earlier.quantiles);
    others.truncate(STAGE_LINES);
    // In the order of the way that a device goes.
    others.sort_by_key(|times| times.stage);
    shown.extend(others.into_iter().zip(["b", "c", "d"]));
    let (first, _) = *shown.first()?;
    let points = |times: &StageTimes| times.quantiles.iter().map(|(quantile, us)| (*quantile, number(*us))).collect();
    let min = shown.iter().map(|(times, _)| times.min_us).min().unwrap_or(1);
    let max = shown.iter().map(|(times, _)| times.max_us).max().unwrap_or(1);
    let samples = shown.iter().map(|(times, _)| times.count).max().unwrap_or(1);
    Some(LineChart {
        id: "percentiles-chart",
        title: "Time by percentile".to_owned(),
        description: format!(
            "Of {}: half took at most {}, 99 % at most {}, the longest {}.",
            first.stage.name(),
            time(number(first.p50_us)),
            time(number(first.p99_us)),
            time(number(first.max_us))
        ),
        x: Axis::nines(number(samples)),
        y: Axis::log_time(number(min), number(max)),
        series: shown
            .into_iter()
            .map(|(times, class)| Series { name: name(times.stage), class, points: points(times), filled: false })
            .collect(),
    })
}

fn name(stage: Stage) -> String {
    match stage {
        Stage::TotalUncorrected => "total, uncorrected".to_owned(),
        stage => stage.name().to_owned(),
    }
}

fn server_cpu(report: &Report) -> Option<LineChart> {
    let points = per_second(&report.timeline, |second| second.server_cpu_ms.map(|ms| ms / 1000.0));
    let greatest = Some(greatest(&points)).filter(|_| !points.is_empty())?;
    let average = report.server.map_or(String::new(), |usage| format!(" On average {} cores.", short(usage.cores)));
    Some(LineChart {
        id: "server-cpu-chart",
        title: "Server: cores in use".to_owned(),
        description: format!("At most {} cores in one second.{average}", short(greatest)),
        x: Axis::time(report.seconds),
        y: Axis::linear(greatest),
        series: vec![Series { name: "cores".to_owned(), class: "b", points, filled: true }],
    })
}

fn server_memory(report: &Report) -> Option<LineChart> {
    let sizes = report.timeline.iter().filter_map(|second| Some((second.at, number(second.server_rss_bytes?))));
    let mut sizes: Vec<_> = sizes.collect();
    if sizes.is_empty() {
        return None;
    }
    sizes.splice(0..0, report.server.map(|usage| (0.0, number(usage.rss_before_bytes))));
    let max = greatest(&sizes);
    let (unit, name) = byte_unit(max);
    let (first, last) = (sizes.first()?.1, sizes.last()?.1);
    let points = sizes.into_iter().map(|(at, size)| (at, size / unit)).collect();
    Some(LineChart {
        id: "server-memory-chart",
        title: format!("Server: resident memory, {name}"),
        description: format!("From {} to {}, at most {}.", bytes(first), bytes(last), bytes(max)),
        x: Axis::time(report.seconds),
        y: Axis::linear(max / unit),
        series: vec![Series { name: "resident".to_owned(), class: "c", points, filled: true }],
    })
}

fn sessions(report: &Report) -> Option<LineChart> {
    let points: Vec<_> = report.timeline.iter().map(|second| (second.at, number(second.connected))).collect();
    let most = Some(greatest(&points)).filter(|most| *most > 0.0)?;
    Some(LineChart {
        id: "sessions-chart",
        title: "Sessions open".to_owned(),
        description: format!("At most {}; {} at the end.", short(most), count(report.connected)),
        x: Axis::time(report.seconds),
        y: Axis::linear(most),
        series: vec![Series { name: "open".to_owned(), class: "d", points, filled: true }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_rate_is_that_of_an_entrys_own_length() {
        let mut timeline = sample::report().timeline;
        timeline.truncate(2);
        (timeline[0].at, timeline[0].completed) = (1.0, 10);
        (timeline[1].at, timeline[1].completed) = (3.0, 10);
        let rate = |second: &SecondOfRun| Some(number(second.completed));
        assert_eq!(per_second(&timeline, rate), [(1.0, 10.0), (3.0, 5.0)]);
        timeline[1].at = 1.01;
        assert_eq!(per_second(&timeline, rate), [(1.0, 10.0)]);
    }

    #[test]
    fn what_did_not_occur_is_not_drawn() {
        let ids = ["throughput", "percentiles", "stages", "server-cpu", "server-memory", "sessions"];
        let drawn = |report: &Report| {
            let text = charts(report).into_string();
            ids.into_iter().filter(|id| text.contains(&format!("id=\"{id}-chart\""))).collect::<Vec<_>>()
        };
        let mut report = sample::report();
        assert_eq!(drawn(&report), ids);
        report.timeline.iter_mut().for_each(|second| {
            (second.connected, second.server_cpu_ms, second.server_rss_bytes) = (0, None, None);
        });
        assert_eq!(drawn(&report), ["throughput", "percentiles", "stages"]);
        report.stages.clear();
        assert_eq!(drawn(&report), ["throughput"]);
        report.timeline.clear();
        assert_eq!(drawn(&report), [""; 0]);
    }

    #[test]
    fn what_would_hide_in_a_crowd_is_left_to_the_table() {
        let chart = percentiles(&sample::report()).unwrap();
        let names: Vec<_> = chart.series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["total", "tls", "assigned", "hub-tls"]);
    }
}
