//! Why a step did not succeed.

use std::fmt;

/// A step's failure; what it prints says what to do.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// A tool that is needed is absent and could not be installed, or did not start.
    Setup {
        /// What is missing.
        what: String,
        /// What a person can do about it.
        remedy: String,
    },
    /// A command ran and failed; its own output has the details.
    Command {
        /// The command line.
        command: String,
        /// How it ended, as the system says it.
        status: String,
    },
    /// The step's own finding, complete in itself.
    Found(String),
    /// The step has printed all there is to say.
    Said,
}

impl Fail {
    pub(crate) fn setup(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Setup { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Found(message) => f.write_str(message),
            Self::Said => Ok(()),
            Self::Setup { what, remedy } => write!(f, "set-up failed: {what}\n  remedy: {remedy}"),
            Self::Command { command, status } => write!(f, "`{command}` failed ({status})"),
        }
    }
}
