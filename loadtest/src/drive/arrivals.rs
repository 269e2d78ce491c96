//! When operations of an open loop are meant to start.

use std::time::Duration;

use super::Random;

/// How arrivals lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Arrivals {
    /// Independent of one another: exponential gaps, as many devices that know nothing of each other.
    #[default]
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// The schedule of an open loop: rising offsets from its beginning, without end.
#[derive(Debug, Clone)]
pub struct Offered {
    arrivals: Arrivals,
    gap: f64,
    at: f64,
    random: Random,
}

impl Offered {
    /// `rate` arrivals a second, above 0.
    #[must_use]
    pub fn new(arrivals: Arrivals, rate: f64, seed: u64) -> Self {
        Self { arrivals, gap: 1.0 / rate, at: 0.0, random: Random::new(seed) }
    }
}

impl Iterator for Offered {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.at += match self.arrivals {
            Arrivals::Uniform => self.gap,
            Arrivals::Poisson => -(1.0 - self.random.fraction()).ln() * self.gap,
        };
        Some(Duration::try_from_secs_f64(self.at).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_have_the_rate_and_only_one_has_equal_gaps() {
        for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
            let times: Vec<_> = Offered::new(arrivals, 1000.0, 7).take(20_000).collect();
            let rate = 20_000.0 / times[19_999].as_secs_f64();
            assert!((rate / 1000.0 - 1.0).abs() < 0.05, "{arrivals:?}: {rate}");
            assert!(times.is_sorted());
            let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
            let spread = gaps.map(|gap| (gap * 1000.0 - 1.0).powi(2)).sum::<f64>() / 19_999.0;
            // The variance of an exponential distribution is the square of its mean.
            let wanted = if arrivals == Arrivals::Uniform { 0.0 } else { 1.0 };
            assert!((spread - wanted).abs() < 0.1, "{arrivals:?}: {spread}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_schedule() {
        let times = |seed| Offered::new(Arrivals::Poisson, 10.0, seed).take(50).collect::<Vec<_>>();
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }
}
