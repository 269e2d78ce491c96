//! Axes: where a value lies, and where the marks are.

use crate::view::numbers::short;

/// How values spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Evenly, from 0 to this.
    Linear { end: f64 },
    /// By the logarithm.
    Log { begin: f64, end: f64 },
    /// Quantiles by their nines, from 0 to this many: 0.9 is 1, 0.99 is 2.
    Nines { end: f64 },
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    /// Values with marks, and what stands at them; rising.
    pub(super) marks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to a round number that is not below `max`, with three to six marks.
    pub(super) fn linear(max: f64) -> Self {
        let step = round_step(max.max(1e-9) / 5.0);
        let marks = (max / step).ceil().max(1.0);
        Self { scale: Scale::Linear { end: step * marks }, marks: evenly(step, marks, "") }
    }

    /// From 0 to exactly `max`, for time.
    pub(super) fn time(seconds: f64) -> Self {
        let max = seconds.max(1e-9);
        let (unit, name) = match max {
            max if max >= 7200.0 => (3600.0, " h"),
            max if max >= 300.0 => (60.0, " min"),
            _ => (1.0, " s"),
        };
        let step = round_step(max / unit / 6.0);
        let marks = evenly(step, (max / unit / step).floor(), name);
        let marks = marks.into_iter().map(|(value, text)| (value * unit, text)).collect();
        Self { scale: Scale::Linear { end: max }, marks }
    }

    /// Times in microseconds, by whole decades or, where that is a narrow range, by 1, 2 and 5.
    pub(super) fn log_time(min_us: f64, max_us: f64) -> Self {
        let (min, max) = (min_us.max(1.0), max_us.max(min_us).max(1.0));
        let (first, last) = (min.log10().floor(), max.log10().ceil().max(min.log10().floor() + 1.0));
        let steps: &[f64] = if last - first > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut values = Vec::new();
        let mut decade = first;
        while decade <= last {
            values.extend(steps.iter().map(|step| step * 10f64.powf(decade)));
            decade += 1.0;
        }
        // The range ends at the marks next to it.
        let begin = values.iter().copied().rfind(|value| *value <= min * 1.001).unwrap_or(1.0);
        let end = values.iter().copied().find(|value| *value >= max * 0.999 && *value > begin).unwrap_or(begin * 10.0);
        values.retain(|value| *value >= begin && *value <= end);
        let marks = values.into_iter().map(|value| (value, plain_time(value))).collect();
        Self { scale: Scale::Log { begin, end }, marks }
    }

    /// Quantiles up to one sample of `samples`.
    pub(super) fn nines(samples: f64) -> Self {
        let end = samples.max(10.0).log10();
        let named = [(0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")];
        let more = [(0.9999, "99.99 %"), (0.99999, "99.999 %")];
        // So many nines leave no room between the first marks.
        let crowded = |quantile: f64| quantile == 0.5 && end > 4.95;
        let marks = named
            .into_iter()
            .chain(more)
            .filter(|(quantile, _)| nines(*quantile, end) < end + 1e-9 && !crowded(*quantile));
        Self { scale: Scale::Nines { end }, marks: marks.map(|(quantile, text)| (quantile, text.to_owned())).collect() }
    }

    /// Where a value lies, from 0 at the beginning to 1 at the end; what is beyond lies at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear { end } => value / end,
            Scale::Log { begin, end } => (value.max(begin) / begin).ln() / (end / begin).ln(),
            Scale::Nines { end } => nines(value, end) / end,
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

fn nines(quantile: f64, at_most: f64) -> f64 {
    if quantile >= 1.0 { at_most } else { -(1.0 - quantile).log10() }
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|round| *round >= step * 0.999)
        .unwrap_or(10.0 * decade)
}

fn evenly(step: f64, marks: f64, unit: &str) -> Vec<(f64, String)> {
    let mut all = Vec::new();
    let mut mark = 0.0;
    while mark <= marks {
        all.push((mark * step, format!("{}{unit}", trimmed(mark * step))));
        mark += 1.0;
    }
    all
}

/// Without zeros that say nothing: a mark is exact.
fn trimmed(value: f64) -> String {
    let text = short(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn plain_time(micros: f64) -> String {
    match micros {
        size if size >= 0.999e6 => format!("{} s", trimmed(size / 1e6)),
        size if size >= 0.999e3 => format!("{} ms", trimmed(size / 1e3)),
        size => format!("{} µs", trimmed(size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn marks_are_round_and_hold_all_values() {
        for (max, expected) in [
            (950.0, vec!["0", "200", "400", "600", "800", "1,000"]),
            (0.93, vec!["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (3.0, vec!["0", "1", "2", "3"]),
            (118_000.0, vec!["0", "50,000", "100,000", "150,000"]),
        ] {
            let axis = Axis::linear(max);
            assert_eq!(texts(&axis), expected);
            assert!(axis.place(max) <= 1.0 && axis.place(max) > 0.5);
        }
        assert_eq!(texts(&Axis::linear(0.0)).first(), Some(&"0"));
    }

    #[test]
    fn time_has_the_unit_of_its_length() {
        assert_eq!(texts(&Axis::time(20.3)), ["0 s", "5 s", "10 s", "15 s", "20 s"]);
        assert_eq!(texts(&Axis::time(620.0)), ["0 min", "2 min", "4 min", "6 min", "8 min", "10 min"]);
        assert!((Axis::time(620.0).marks[1].0 - 120.0).abs() < 1e-9);
    }

    #[test]
    fn times_by_their_logarithm() {
        assert_eq!(texts(&Axis::log_time(90.0, 900.0)), ["50 µs", "100 µs", "200 µs", "500 µs", "1 ms"]);
        let wide = Axis::log_time(90.0, 2_000_000.0);
        assert_eq!(texts(&wide), ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        assert!((wide.place(10_000.0) - 0.5).abs() < 1e-9);
        assert_eq!((wide.place(0.0), wide.place(1e9)), (0.0, 1.0));
        assert!(Axis::log_time(0.0, 0.0).marks.len() > 1);
        assert!(Axis::log_time(1000.0, 1000.0).marks.len() > 1);
    }

    #[test]
    fn each_nine_takes_the_same_room() {
        let axis = Axis::nines(10_000.0);
        assert_eq!(texts(&axis), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        for (quantile, place) in [(0.0, 0.0), (0.9, 0.25), (0.99, 0.5), (0.999, 0.75), (1.0, 1.0)] {
            assert!((axis.place(quantile) - place).abs() < 1e-9, "{quantile}");
        }
        assert_eq!(texts(&Axis::nines(1.0)), ["0 %", "50 %", "90 %"]);
        assert_eq!(texts(&Axis::nines(1e7)), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
    }
}
