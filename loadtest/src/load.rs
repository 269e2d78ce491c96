//! Reports that were stored.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{FORMAT, Report};

/// Why a file is not taken for a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no JSON object with a format.
    #[error("{path} is no report of loadtest: {reason}")]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Another version wrote it.
    #[error("{path} has format {found}, and this loadtest reads format {FORMAT}: use the version that wrote it")]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
}

impl Report {
    /// Reads a report from a JSON file.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let strange =
            |error: serde_json::Error| LoadError::NoReport { path: path.to_owned(), reason: error.to_string() };
        // The format comes first: of another one, nothing else can be expected to be as it is here.
        let Head { format } = serde_json::from_str(&text).map_err(strange)?;
        if format != u64::from(FORMAT) {
            return Err(LoadError::OtherFormat { path: path.to_owned(), found: format });
        }
        serde_json::from_str(&text).map_err(strange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn only_a_report_of_this_format_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let path = dir.path().join("report.json");
            std::fs::write(&path, text).unwrap();
            Report::load(&path)
        };
        let report = sample::report();
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(load(&text).unwrap(), report);
        assert!(load("{}").unwrap_err().to_string().contains("is no report of loadtest: missing field `format`"));
        assert!(load("no").is_err() && load("").is_err() && load("[]").is_err());
        assert!(load("{\"format\": 1}").unwrap_err().to_string().contains("is no report of loadtest: missing field"));
        let other = load("{\"format\": 2, \"all\": \"else\"}").unwrap_err().to_string();
        assert!(other.contains("has format 2, and this loadtest reads format 1"), "{other}");
        assert!(matches!(Report::load(&dir.path().join("none")), Err(LoadError::Read { .. })));
    }

    #[test]
    fn a_report_from_before_a_field_was_added_is_read() {
        let mut value = serde_json::to_value(sample::report()).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.remove("messages");
        fields.remove("connected");
        fields["generator"].as_object_mut().unwrap().remove("cores_allowed");
        let report: Report = serde_json::from_value(value).unwrap();
        assert_eq!((report.messages, report.connected, report.generator.cores_allowed), (0, 0, None));
    }
}
