//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::charts;
use crate::view::numbers::{bytes, count, millis, short, time};
use crate::view::text::{cores_of, found, headline, own_figures, place};
use crate::{ProcessUsage, Report, Stage};

/// Nothing may be loaded or run; the style is in the file.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

const STYLE: &str = include_str!("style.css");

/// The report as one HTML file.
#[must_use]
pub fn render_html(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { "loadtest " (report.workload) ", " (report.began) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (report.workload) }
                    p { (headline(report)) }
                    p class="quiet" { (place(report)) }
                }
                main {
                    (verdicts(report))
                    (warnings(report))
                    (tiles(report))
                    (charts(report))
                    (stages(report))
                    (own(report))
                    (errors(report))
                    (processes(report))
                    (settings(report))
                }
            }
        }
    };
    page.into_string()
}

fn verdicts(report: &Report) -> Markup {
    if report.verdicts.is_empty() {
        return html! {};
    }
    let missed = report.verdicts.iter().filter(|verdict| !verdict.met).count();
    let all = report.verdicts.len();
    html! {
        section id="verdicts" class=(if missed == 0 { "verdicts met" } else { "verdicts missed" }) {
            h2 { @if missed == 0 { "All thresholds met" } @else { (missed) " of " (all) " thresholds missed" } }
            table {
                thead { tr { th scope="col" { "figure" } th scope="col" { "wanted" } th scope="col" { "found" } th scope="col" { "verdict" } } }
                tbody {
                    @for verdict in &report.verdicts {
                        tr {
                            th scope="row" { code { (verdict.figure) } }
                            td { (verdict.wanted) }
                            td { (found(verdict)) }
                            td { strong class=(if verdict.met { "good" } else { "bad" }) { @if verdict.met { "met" } @else { "missed" } } }
                        }
                    }
                }
            }
        }
    }
}

fn warnings(report: &Report) -> Markup {
    html! {
        @if !report.warnings.is_empty() {
            section id="warnings" class="warnings" {
                h2 { "Read with care" }
                ul { @for warning in &report.warnings { li { (warning) } } }
            }
        }
    }
}

/// The figures that are asked for first.
#[expect(clippy::cast_precision_loss, reason = "times of a run are far below 2^53 microseconds")]
fn tiles(report: &Report) -> Markup {
    let mut tiles = vec![("done a second".to_owned(), short(report.completed_per_second))];
    let whole = report.stages.iter().find(|times| times.stage == Stage::Total).or(report.stages.first());
    if let Some(times) = whole {
        tiles.push((format!("{}, median", times.stage.name()), time(times.p50_us as f64)));
        tiles.push((format!("{}, 99th percentile", times.stage.name()), time(times.p99_us as f64)));
    }
    if let Some(server) = &report.server {
        tiles.push(("server time an operation".to_owned(), time(server.cpu_us_per_operation)));
        tiles.extend(server.bytes_per_connection.map(|size| ("server memory a connection".to_owned(), bytes(size))));
    }
    tiles.push(("failed".to_owned(), count(report.failed)));
    html! {
        dl class="tiles" { @for (name, value) in &tiles { div { dt { (name) } dd { (value) } } } }
    }
}

fn stages(report: &Report) -> Markup {
    html! {
        @if !report.stages.is_empty() {
            section {
                h2 { "Stages, in milliseconds" }
                div class="wide" {
                    table class="numbers" {
                        thead { tr {
                            th scope="col" { "stage" }
                            @for name in ["count", "min", "mean", "p50", "p90", "p99", "p99.9", "max"] { th scope="col" { (name) } }
                        } }
                        tbody {
                            @for times in &report.stages {
                                tr {
                                    th scope="row" { (times.stage.name()) }
                                    td { (count(times.count)) }
                                    td { (millis(times.min_us)) }
                                    td { (short(times.mean_us / 1000.0)) }
                                    @for value in [times.p50_us, times.p90_us, times.p99_us, times.p999_us, times.max_us] {
                                        td { (millis(value)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The workload's own figures.
fn own(report: &Report) -> Markup {
    html! {
        @if !report.figures.is_empty() {
            section id="figures" {
                h2 { "Figures of this workload" }
                dl class="settings" { @for (name, value) in own_figures(report) { div { dt { code { (name) } } dd { (value) } } } }
            }
        }
    }
}

fn errors(report: &Report) -> Markup {
    html! {
        @if !report.errors.is_empty() {
            section id="errors" {
                h2 { "Failures" }
                div class="wide" {
                    table {
                        thead { tr { th scope="col" { "count" } th scope="col" { "stage" } th scope="col" { "kind" } th scope="col" { "the first of them" } } }
                        tbody {
                            @for error in &report.errors {
                                tr {
                                    td class="number" { (count(error.count)) }
                                    td { (error.stage.name()) }
                                    td { code { (error.kind) } }
                                    td class="text" { (error.first) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn processes(report: &Report) -> Markup {
    let server = report.server.as_ref().map(|usage| ("server", usage));
    let all: Vec<(&str, &ProcessUsage)> = server.into_iter().chain([("generator", &report.generator)]).collect();
    html! {
        section id="processes" {
            h2 { "Processes" }
            div class="wide" {
                table class="numbers" {
                    thead { tr {
                        th scope="col" { "process" }
                        @for name in ["cores", "processor time", "an operation", "memory before", "after", "peak", "a connection", "context switches"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for (name, usage) in all { (process(name, usage)) } }
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "times and sizes of a run are far below 2^53")]
fn process(name: &str, usage: &ProcessUsage) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            td { (cores_of(usage)) }
            td { (time(usage.cpu_us as f64)) }
            td { (time(usage.cpu_us_per_operation)) }
            td { (bytes(usage.rss_before_bytes as f64)) }
            td { (bytes(usage.rss_after_bytes as f64)) }
            td { (bytes(usage.rss_peak_bytes as f64)) }
            td { @if let Some(size) = usage.bytes_per_connection { (bytes(size)) } @else { "–" } }
            td { (count(usage.context_switches)) }
        }
    }
}

fn settings(report: &Report) -> Markup {
    html! {
        @if !report.settings.is_empty() {
            section {
                h2 { "Settings" }
                dl class="settings" { @for (name, value) in &report.settings { div { dt { code { (name) } } dd { (value) } } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = render_html(&sample::report());
        assert!(page.starts_with("<!DOCTYPE html>"));
        for refused in ["http://", "https://", "<script", "url(", "@import", "src="] {
            assert!(!page.contains(refused), "{refused}");
        }
        assert_eq!(page.matches("<svg").count(), 6);
    }

    #[test]
    fn what_a_server_said_is_text() {
        let mut report = sample::report();
        let evil = "</style><script>alert(1)</script><img src=x onerror='a'>\" &";
        report.errors[0].first = evil.to_owned();
        report.errors[0].kind = evil.to_owned();
        report.workload = evil.to_owned();
        report.warnings = vec![evil.to_owned()];
        report.settings.insert(evil.to_owned(), evil.to_owned());
        report.verdicts[0].figure = evil.to_owned();
        report.environment.processor = evil.to_owned();
        let page = render_html(&report);
        assert!(!page.contains("<script") && !page.contains("<img"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }

    #[test]
    fn a_report_of_nothing_is_a_page_too() {
        let mut report = sample::report();
        report.stages.clear();
        report.timeline.clear();
        report.errors.clear();
        report.warnings.clear();
        report.verdicts.clear();
        report.settings.clear();
        report.figures.clear();
        report.server = None;
        let page = render_html(&report);
        assert!(page.contains("id=\"processes\"") && !page.contains("<svg") && !page.contains("id=\"errors\""));
    }
}
