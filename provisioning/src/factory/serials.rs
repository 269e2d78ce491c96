//! The list of a batch's serial numbers, and how a registration id is made of each.

use std::collections::HashMap;
use std::str::FromStr;

use unicity_identity::{InvalidId, RegistrationId};

/// Most devices of one batch.
pub const SERIALS_MAX: usize = 1_000_000;

const PLACE: &str = "{serial}";

/// A registration id with a place for the serial number, such as `sensor-{serial}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdPattern {
    before: String,
    after: String,
}

/// The pattern has no place for the serial number, or two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id pattern has {{serial}} in it once, such as sensor-{{serial}}")]
pub struct InvalidPattern;

impl FromStr for IdPattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        match text.split_once(PLACE) {
            Some((before, after)) if !after.contains(PLACE) => {
                Ok(Self { before: before.to_owned(), after: after.to_owned() })
            }
            _ => Err(InvalidPattern),
        }
    }
}

impl IdPattern {
    /// The registration id of a serial number.
    ///
    /// # Errors
    /// [`InvalidId`] if the two make none.
    pub fn id(&self, serial: &str) -> Result<RegistrationId, InvalidId> {
        format!("{}{serial}{}", self.before, self.after).parse()
    }
}

/// Why a list of serial numbers is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SerialError {
    /// Nothing in it.
    #[error("the list of serial numbers is empty")]
    Empty,
    /// More than a batch holds.
    #[error("more than {SERIALS_MAX} serial numbers in one batch")]
    TooMany,
    /// One that makes no registration id.
    #[error("line {line}: {error}")]
    Invalid {
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        error: InvalidId,
    },
    /// One that is there already; letters' case does not count.
    #[error("line {line}: {id} is there already, in line {first}")]
    Duplicate {
        /// Its line, from 1.
        line: usize,
        /// Its registration id.
        id: RegistrationId,
        /// The line that it repeats.
        first: usize,
    },
}

/// Reads a list: one serial number a line; blank lines and lines that begin with `#` do not count.
///
/// # Errors
/// [`SerialError`] with the line.
pub fn parse_serials(text: &str, pattern: &IdPattern) -> Result<Vec<RegistrationId>, SerialError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut seen: HashMap<RegistrationId, usize> = HashMap::new();
    let mut out = Vec::new();
    for (serial, line) in text.lines().map(str::trim).zip(1..) {
        if serial.is_empty() || serial.starts_with('#') {
            continue;
        }
        if out.len() == SERIALS_MAX {
            return Err(SerialError::TooMany);
        }
        let id = pattern.id(serial).map_err(|error| SerialError::Invalid { line, error })?;
        if let Some(first) = seen.insert(id.clone(), line) {
            return Err(SerialError::Duplicate { line, id, first });
        }
        out.push(id);
    }
    if out.is_empty() { Err(SerialError::Empty) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_every_habit() {
        let ids = |text: &str, pattern: &str| {
            parse_serials(text, &pattern.parse().unwrap())
                .map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(ids("\u{feff}A1\r\n# two\n\n a2 \n", "{serial}").unwrap(), ["a1", "a2"]);
        assert_eq!(ids("7", "sensor-{serial}-eu").unwrap(), ["sensor-7-eu"]);
        assert_eq!(ids("\n#x\n", "{serial}"), Err(SerialError::Empty));
        assert!(matches!(ids("a\nb c", "{serial}"), Err(SerialError::Invalid { line: 2, .. })));
        let twice = ids("a\n\nb\nA", "{serial}").unwrap_err();
        assert_eq!(twice.to_string(), "line 4: a is there already, in line 1");
        for bad in ["sensor", "", "{serial}{serial}"] {
            assert_eq!(bad.parse::<IdPattern>(), Err(InvalidPattern), "{bad}");
        }
    }
}
