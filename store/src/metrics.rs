//! Metrics as plain values, in the shape of the Prometheus text format, for whoever serves them.

use std::fmt::Write as _;

/// What a metric's value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// `_bucket`, `_sum` and `_count` samples.
    Histogram,
}

/// One metric with all its label values at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// Its name, with the unit in it.
    pub name: &'static str,
    /// What it tells, for people.
    pub help: &'static str,
    /// How to read the values.
    pub kind: MetricKind,
    /// The values.
    pub samples: Vec<MetricSample>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Appended to the family's name: `_bucket`, `_sum`, `_count` of a histogram; else empty.
    pub suffix: &'static str,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl MetricFamily {
    pub(crate) fn new(name: &'static str, help: &'static str, kind: MetricKind) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    /// A family of one value without labels.
    pub(crate) fn single(name: &'static str, help: &'static str, kind: MetricKind, value: f64) -> Self {
        let mut family = Self::new(name, help, kind);
        family.push(&[], value);
        family
    }

    pub(crate) fn push(&mut self, labels: &[(&'static str, String)], value: f64) {
        self.samples.push(MetricSample { suffix: "", labels: labels.to_vec(), value });
    }

    /// Adds a histogram; `counts` has one more than `bounds` (what exceeds them), none of them summed up yet.
    pub(crate) fn push_histogram(
        &mut self,
        labels: &[(&'static str, String)],
        bounds: impl Iterator<Item = f64>,
        counts: impl Iterator<Item = u64>,
        sum: f64,
    ) {
        let mut total = 0;
        let ends = bounds.map(|bound| bound.to_string()).chain(std::iter::once("+Inf".to_owned()));
        for (end, count) in ends.zip(counts) {
            total += count;
            let mut with_end = labels.to_vec();
            with_end.push(("le", end));
            self.samples.push(MetricSample { suffix: "_bucket", labels: with_end, value: total as f64 });
        }
        self.samples.push(MetricSample { suffix: "_sum", labels: labels.to_vec(), value: sum });
        self.samples.push(MetricSample { suffix: "_count", labels: labels.to_vec(), value: total as f64 });
    }
}

/// Families in the Prometheus text format (version 0.0.4).
#[must_use]
pub fn to_prometheus(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} {kind}", family.name, family.help);
        for sample in &family.samples {
            let _ = write!(out, "{}{}", family.name, sample.suffix);
            for (at, (name, value)) in sample.labels.iter().enumerate() {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(out, "{}{name}=\"{value}\"", if at == 0 { '{' } else { ',' });
            }
            let _ = writeln!(out, "{} {}", if sample.labels.is_empty() { "" } else { "}" }, sample.value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_summed_up_and_label_values_escaped() {
        let mut family = MetricFamily::new("a_seconds", "Help.", MetricKind::Histogram);
        family.push_histogram(&[("hub", "x\"y".to_owned())], [0.5, 1.0].into_iter(), [1, 2, 3].into_iter(), 7.5);
        assert_eq!(
            to_prometheus(&[family]),
            "# HELP a_seconds Help.\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{hub=\"x\\\"y\",le=\"0.5\"} 1\n\
             a_seconds_bucket{hub=\"x\\\"y\",le=\"1\"} 3\n\
             a_seconds_bucket{hub=\"x\\\"y\",le=\"+Inf\"} 6\n\
             a_seconds_sum{hub=\"x\\\"y\"} 7.5\n\
             a_seconds_count{hub=\"x\\\"y\"} 6\n"
        );
    }
}
