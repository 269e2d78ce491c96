//! The small languages within a fleet file: durations and patterns of ids.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use unicity_identity::RegistrationId;

/// The longest duration, in seconds: a year.
const LONGEST_SECONDS: f64 = 366.0 * 86_400.0;

/// Reads a duration: a number and its unit (`ms`, `s`, `m`, `h`, `d`), as in `1.5s`.
///
/// # Errors
/// With a line, unless the text is one, not negative, and at most a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => {
            return Err(format!(
                "{text:?} is no duration: a number and one of ms, s, m, h, d are wanted, as in \"10s\""
            ));
        }
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} has no number before its unit"))?;
    let seconds = number * unit;
    if seconds > LONGEST_SECONDS {
        return Err(format!("{text:?} is longer than a year"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A pattern that makes an id of each number: `car-{n:05}`, `{n}-a`, or a text alone for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPattern {
    before: String,
    /// Digits at least; `None` without a number.
    width: Option<usize>,
    after: String,
}

impl IdPattern {
    /// Whether its ids differ.
    #[must_use]
    pub fn has_number(&self) -> bool {
        self.width.is_some()
    }

    /// The id of device `number`, from 1.
    ///
    /// # Errors
    /// If it is none.
    pub fn id(&self, number: usize) -> Result<RegistrationId, unicity_identity::InvalidId> {
        match self.width {
            Some(width) => format!("{}{number:0width$}{}", self.before, self.after).parse(),
            None => self.before.parse(),
        }
    }
}

impl FromStr for IdPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((before, rest)) = text.split_once('{') else {
            return Ok(Self { before: text.to_owned(), width: None, after: String::new() });
        };
        let wrong = || format!("{text:?} is no pattern: `{{n}}` or `{{n:05}}` is wanted, once");
        let (inner, after) = rest.split_once('}').ok_or_else(wrong)?;
        if after.contains(['{', '}']) || before.contains('}') {
            return Err(wrong());
        }
        let width = match inner.strip_prefix('n').ok_or_else(wrong)? {
            "" => 1,
            width => width.strip_prefix(":0").and_then(|width| width.parse().ok()).ok_or_else(wrong)?,
        };
        if !(1..=20).contains(&width) {
            return Err(wrong());
        }
        Ok(Self { before: before.to_owned(), width: Some(width), after: after.to_owned() })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.width {
            Some(width) => write!(f, "{}{{n:0{width}}}{}", self.before, self.after),
            None => f.write_str(&self.before),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in
            [("0s", 0), ("250ms", 250), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "10", "10 s", "-1s", "1..s", "1e3s", "10sec", "1000d", "s10", "1µs", "٣s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_make_ids() {
        for (pattern, id) in [
            ("car-{n}", "car-7"),
            ("car-{n:05}", "car-00007"),
            ("{n:02}.x", "07.x"),
            ("only", "only"),
            ("n", "n"),
            ("a{n:020}", "a00000000000000000007"),
        ] {
            let pattern: IdPattern = pattern.parse().unwrap();
            assert_eq!(pattern.id(7).unwrap().as_str(), id);
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
        for pattern in ["{n", "n}{n}", "{n}{n}", "{m}", "{n:}", "{n:5}", "{n:00}", "{n:021}", "{}", "{n:0x}", "{n}}"] {
            assert!(pattern.parse::<IdPattern>().is_err(), "{pattern}");
        }
        assert!("no/slash-{n}".parse::<IdPattern>().unwrap().id(1).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_them_panic(text in "\\PC{0,24}") {
            let _ = duration(&text);
            if let Ok(pattern) = text.parse::<IdPattern>() {
                let _ = pattern.id(3);
            }
        }
    }
}
