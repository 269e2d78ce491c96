//! What a command says when it fails: the cause, where, and a hint; and its exit code.

use std::fmt;

/// A failed command.
#[derive(Debug)]
pub(crate) struct CommandError {
    message: String,
    hint: Option<String>,
    /// 1: refused or failed; 2: wrong usage.
    pub(crate) exit: u8,
    /// The status of the answer that says so, if one did.
    pub(crate) http_status: Option<u16>,
    /// The stable error code in it, such as 409201.
    pub(crate) code: Option<u64>,
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, CommandError>;

impl CommandError {
    /// Refused or failed.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), hint: None, exit: 1, http_status: None, code: None }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { exit: 2, ..Self::new(message) }
    }

    /// Adds the status of the answer.
    pub(crate) fn status(self, status: u16) -> Self {
        Self { http_status: Some(status), ..self }
    }

    /// Adds the error code of the answer.
    pub(crate) fn code(self, code: Option<u64>) -> Self {
        Self { code, ..self }
    }

    /// Adds what the user can do.
    pub(crate) fn hint(self, hint: impl fmt::Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Names what was being done when something failed.
pub(crate) trait Context<T> {
    /// `what` reads like "cannot write PATH".
    fn context(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: std::error::Error> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| {
            let mut message = format!("{what}: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !message.contains(&cause_text) {
                    message.push_str(": ");
                    message.push_str(&cause_text);
                }
                source = cause.source();
            }
            CommandError::new(message)
        })
    }
}
