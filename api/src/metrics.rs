//! The metrics page: Prometheus' text exposition format 0.0.4.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
    /// One line of a histogram: its name ends in `_bucket` (with a label `le`), `_sum` or `_count`.
    Histogram,
}

/// One line of the metrics page.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSample {
    /// The Prometheus name, for a line of a histogram with its suffix.
    pub name: Cow<'static, str>,
    /// What the number means, one line. The first sample of a family gives it for all.
    pub help: Cow<'static, str>,
    /// Its kind.
    pub kind: MetricKind,
    /// Label names and values, in the order shown.
    pub labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The number. Counts are exact up to 2^53.
    pub value: f64,
}

/// Something that can be asked for its numbers; called for each scrape, so it must return at once.
pub type MetricsSource = Arc<dyn Fn() -> Vec<MetricSample> + Send + Sync>;

impl MetricSample {
    /// The name that `HELP` and `TYPE` stand under.
    fn family(&self) -> &str {
        match self.kind {
            MetricKind::Histogram => {
                let name = self.name.as_ref();
                ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
            }
            MetricKind::Counter | MetricKind::Gauge => &self.name,
        }
    }
}

/// Writes samples as a metrics page. Samples of one family are brought together, since the format wants one `HELP` and one
/// `TYPE` a family and all its lines after them; families keep the order of their first sample.
#[must_use]
pub fn exposition(samples: &[MetricSample]) -> String {
    let mut families: Vec<(&str, Vec<&MetricSample>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for sample in samples {
        let family = sample.family();
        let place = *places.entry(family).or_insert_with(|| {
            families.push((family, Vec::new()));
            families.len() - 1
        });
        families[place].1.push(sample);
    }
    let mut page = String::with_capacity(samples.len() * 96);
    for (family, samples) in families {
        let Some(first) = samples.first() else { continue };
        let kind = match first.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let _ = writeln!(page, "# HELP {family} {}", escaped(&first.help, false));
        let _ = writeln!(page, "# TYPE {family} {kind}");
        for sample in samples {
            page.push_str(&sample.name);
            for (index, (name, value)) in sample.labels.iter().enumerate() {
                let _ = write!(page, "{}{name}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(value, true));
            }
            if !sample.labels.is_empty() {
                page.push('}');
            }
            let _ = writeln!(page, " {}", number(sample.value));
        }
    }
    page
}

fn escaped(text: &str, quotes: bool) -> Cow<'_, str> {
    let special = |c: char| matches!(c, '\\' | '\n') || (quotes && c == '"');
    if !text.contains(special) {
        return text.into();
    }
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"").into() } else { text.into() }
}

fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".into()
    } else if value == f64::NEG_INFINITY {
        "-Inf".into()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(
        name: &'static str,
        kind: MetricKind,
        labels: &[(&'static str, &'static str)],
        value: f64,
    ) -> MetricSample {
        MetricSample {
            name: name.into(),
            help: "What it is.\nTwo lines \\ \"quoted\".".into(),
            kind,
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            value,
        }
    }

    #[test]
    fn one_head_a_family_and_all_its_lines_together() {
        use MetricKind::{Counter, Gauge, Histogram};
        let page = exposition(&[
            sample("a_total", Counter, &[("x", "1")], 1.0),
            sample("s_bucket", Histogram, &[("le", "0.1")], 2.0),
            sample("b", Gauge, &[], 0.5),
            sample("a_total", Counter, &[("x", "\"2\\\n"), ("y", "z")], 12_345_678_901.0),
            sample("s_bucket", Histogram, &[("le", "+Inf")], 3.0),
            sample("s_sum", Histogram, &[], 0.25),
            sample("s_count", Histogram, &[], 3.0),
        ]);
        let help = "What it is.\\nTwo lines \\\\ \"quoted\".";
        assert_eq!(
            page,
            format!(
                "# HELP a_total {help}\n# TYPE a_total counter\na_total{{x=\"1\"}} 1\n\
                 a_total{{x=\"\\\"2\\\\\\n\",y=\"z\"}} 12345678901\n\
                 # HELP s {help}\n# TYPE s histogram\ns_bucket{{le=\"0.1\"}} 2\ns_bucket{{le=\"+Inf\"}} 3\ns_sum 0.25\n\
                 s_count 3\n# HELP b {help}\n# TYPE b gauge\nb 0.5\n"
            )
        );
    }
}
