//! What is left out at the beginning of a run.

use std::str::FromStr;
use std::time::Duration;

/// How long a run warms up: `5s`, `500ms` or a number of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Warmup {
    /// Not at all.
    #[default]
    None,
    /// This long.
    For(Duration),
    /// Until so many operations are done.
    Operations(u64),
}

/// A text that is neither a duration nor a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a time such as 5s or 500ms nor a number of operations")]
pub struct InvalidWarmup(String);

impl FromStr for Warmup {
    type Err = InvalidWarmup;

    fn from_str(text: &str) -> Result<Self, InvalidWarmup> {
        if let Ok(operations) = text.parse() {
            return Ok(if operations == 0 { Self::None } else { Self::Operations(operations) });
        }
        crate::duration(text).map(Self::For).ok_or_else(|| InvalidWarmup(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_has_a_unit_or_counts() {
        for (text, warmup) in [
            ("0", Warmup::None),
            ("200", Warmup::Operations(200)),
            ("5s", Warmup::For(Duration::from_secs(5))),
            ("500ms", Warmup::For(Duration::from_millis(500))),
            ("2m", Warmup::For(Duration::from_secs(120))),
        ] {
            assert_eq!(text.parse(), Ok(warmup), "{text}");
        }
        for text in ["", "s", "-1", "5 s", "5h3", "1.5"] {
            assert!(text.parse::<Warmup>().is_err(), "{text}");
        }
    }
}
