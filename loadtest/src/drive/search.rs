//! The search for the highest rate that meets a latency objective: first twice as much each time, then halves of what is left.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;

/// A latency objective: `p99<=50ms`. Figures: `p50`, `p90`, `p99`, `p999`, `max`, `mean`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    figure: Figure,
    limit: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    P50,
    P90,
    P99,
    P999,
    Max,
    Mean,
}

const FIGURES: [(&str, Figure); 6] = [
    ("p50", Figure::P50),
    ("p90", Figure::P90),
    ("p999", Figure::P999),
    ("p99", Figure::P99),
    ("max", Figure::Max),
    ("mean", Figure::Mean),
];

/// A text that is no objective.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no objective; write FIGURE<=TIME, FIGURE one of p50, p90, p99, p999, max, mean: p99<=50ms")]
pub struct InvalidObjective(String);

impl FromStr for Objective {
    type Err = InvalidObjective;

    fn from_str(text: &str) -> Result<Self, InvalidObjective> {
        let parsed = || {
            let (name, limit) = text.split_once("<=")?;
            let &(_, figure) = FIGURES.iter().find(|(known, _)| *known == name.trim())?;
            Some(Self { figure, limit: crate::duration(limit.trim())? })
        };
        parsed().ok_or_else(|| InvalidObjective(text.to_owned()))
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FIGURES.iter().find(|(_, figure)| *figure == self.figure).map_or("", |(name, _)| name);
        write!(f, "{name} <= {:?}", self.limit)
    }
}

impl Objective {
    /// The figure in question.
    #[must_use]
    pub fn found(&self, times: &Histogram<u64>) -> Duration {
        let micros = match self.figure {
            Figure::P50 => times.value_at_quantile(0.5),
            Figure::P90 => times.value_at_quantile(0.9),
            Figure::P99 => times.value_at_quantile(0.99),
            Figure::P999 => times.value_at_quantile(0.999),
            Figure::Max => times.max(),
            Figure::Mean => times.mean() as u64,
        };
        Duration::from_micros(micros)
    }

    /// Whether times meet it; none at all do not.
    #[must_use]
    pub fn is_met(&self, times: Option<&Histogram<u64>>) -> bool {
        times.is_some_and(|times| !times.is_empty() && self.found(times) <= self.limit)
    }
}

/// One rate that was tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Operations a second.
    pub rate: f64,
    /// Whether the objective was met.
    pub met: bool,
}

/// A search under way. Ask for [`next`](Self::next), try it, [`tell`](Self::tell).
#[derive(Debug, Clone)]
pub struct Search {
    first: f64,
    precision: f64,
    steps_max: usize,
    steps: Vec<Step>,
}

impl Search {
    /// Begins at `first` operations a second, ends when the answer is known to `precision` (0.05: five of a hundred), or
    /// after `steps_max`.
    #[must_use]
    pub fn new(first: f64, precision: f64, steps_max: usize) -> Self {
        Self { first, precision, steps_max, steps: Vec::new() }
    }

    /// What to try next; none when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        if self.steps.len() >= self.steps_max {
            return None;
        }
        match (self.best(), self.lowest_missed()) {
            (None, None) => Some(self.first),
            (Some(best), None) => Some(best * 2.0),
            (None, Some(missed)) => (missed > self.first / 1024.0).then_some(missed / 2.0),
            (Some(best), Some(missed)) => (missed > best * (1.0 + self.precision)).then_some((best + missed) / 2.0),
        }
    }

    /// What became of a rate.
    pub fn tell(&mut self, rate: f64, met: bool) {
        self.steps.push(Step { rate, met });
    }

    /// The highest rate that met the objective, below all that missed it.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        let missed = self.lowest_missed().unwrap_or(f64::INFINITY);
        self.steps.iter().filter(|step| step.met && step.rate < missed).map(|step| step.rate).reduce(f64::max)
    }

    fn lowest_missed(&self) -> Option<f64> {
        self.steps.iter().filter(|step| !step.met).map(|step| step.rate).reduce(f64::min)
    }

    /// What was tried, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(capacity: f64, first: f64) -> Search {
        let mut search = Search::new(first, 0.05, 40);
        while let Some(rate) = search.next() {
            search.tell(rate, rate <= capacity);
        }
        search
    }

    #[test]
    fn it_converges_on_any_capacity_from_either_side() {
        for capacity in [1.0, 37.0, 1000.0, 5432.1, 250_000.0] {
            for first in [1.0, 100.0, 1000.0] {
                let search = found(capacity, first);
                let best = search.best().unwrap();
                assert!(best <= capacity && best >= capacity * 0.95, "{capacity} from {first}: {best}");
                assert!(search.steps().len() <= 24, "{capacity} from {first}: {} steps", search.steps().len());
            }
        }
    }

    #[test]
    fn a_server_that_can_nothing_ends_the_search() {
        let search = found(0.0, 1000.0);
        assert_eq!(search.best(), None);
        assert!(search.steps().len() < 15);
        let mut endless = Search::new(1.0, 0.05, 5);
        while let Some(rate) = endless.next() {
            endless.tell(rate, true);
        }
        assert_eq!(endless.best(), Some(16.0));
    }

    #[test]
    fn a_rate_above_one_that_missed_is_not_the_answer() {
        let mut search = Search::new(100.0, 0.05, 9);
        search.tell(200.0, false);
        search.tell(400.0, true);
        search.tell(100.0, true);
        assert_eq!(search.best(), Some(100.0));
    }

    #[test]
    fn objectives_are_read_and_judged() {
        let objective: Objective = "p99<=50ms".parse().unwrap();
        assert_eq!(objective.to_string(), "p99 <= 50ms");
        let mut times = Histogram::new(3).unwrap();
        assert!(!objective.is_met(Some(&times)) && !objective.is_met(None));
        for _ in 0..99 {
            times.record(1000).unwrap();
        }
        times.record(60_000).unwrap();
        assert!(objective.is_met(Some(&times)));
        assert!(!"max <= 50ms".parse::<Objective>().unwrap().is_met(Some(&times)));
        assert!("mean<=2ms".parse::<Objective>().unwrap().is_met(Some(&times)));
        for text in ["", "p99", "p98<=1s", "p99<50ms", "p99<=50", "p99<=ms"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }
}
