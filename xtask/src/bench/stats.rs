//! Medians and ranges of rounds.

use std::collections::BTreeMap;

/// What the rounds of one figure gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// None of no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, least, most })
    }

    /// Median and range, as `show` writes a number.
    pub(crate) fn text(&self, show: impl Fn(f64) -> String) -> String {
        format!("{} ({} to {})", show(self.median), show(self.least), show(self.most))
    }
}

/// Figures by name, a value a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounds(pub(crate) BTreeMap<String, Vec<f64>>);

impl Rounds {
    pub(crate) fn push(&mut self, name: impl Into<String>, value: f64) {
        self.0.entry(name.into()).or_default().push(value);
    }

    pub(crate) fn values(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn spread(&self, name: &str) -> Option<Spread> {
        Spread::of(self.values(name))
    }

    /// What `combine` makes of two figures of the same round, for each round.
    pub(crate) fn combined(&self, a: &str, b: &str, combine: impl Fn(f64, f64) -> f64) -> Option<Spread> {
        let pairs = self.values(a).iter().zip(self.values(b));
        Spread::of(&pairs.map(|(a, b)| combine(*a, *b)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[f64::NAN, 1.0]).unwrap().most, 1.0);
        assert_eq!(Spread::of(&[1.0, 2.0, 3.0]).unwrap().text(|value| format!("{value:.0}")), "2 (1 to 3)");
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut rounds = Rounds::default();
        for (a, b) in [(10.0, 20.0), (30.0, 40.0), (50.0, 60.0)] {
            rounds.push("a", a);
            rounds.push("b", b);
        }
        let ratio = rounds.combined("a", "b", |a, b| a / b).unwrap();
        assert_eq!((ratio.least, ratio.median), (0.5, 0.75));
        assert_eq!(rounds.combined("a", "none", |a, b| a / b), None);
    }
}
