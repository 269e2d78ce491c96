//! Which public key an audit log is checked with.

use std::path::PathBuf;

use clap::Args;
use unicity_audit::VerifierKey;

use crate::audit_key;
use crate::cli::Global;
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// The log's public key, or a file that holds it; pki/audit.vkey of the data directory if not given.
    #[arg(long, value_name = "FILE|KEY")]
    pub(crate) vkey: Option<String>,
}

impl KeyArgs {
    /// The key.
    pub(crate) fn load(&self, global: &Global) -> Outcome<VerifierKey> {
        self.find(global)?.ok_or_else(|| {
            CommandError::new("no public key to check the audit log with").hint(
                "name it with --vkey; the server's is pki/audit.vkey of its data directory. Take it by another way than the log, \
                 or whoever forges one forges the other",
            )
        })
    }

    /// The key, if one is named or in the data directory.
    pub(crate) fn find(&self, global: &Global) -> Outcome<Option<VerifierKey>> {
        let path = match &self.vkey {
            None => {
                let path = DataDir::new(&global.data).pki(audit_key::PUBLIC);
                if !path.exists() {
                    return Ok(None);
                }
                path
            }
            Some(text) => match text.parse() {
                Ok(key) => return Ok(Some(key)),
                // A key has two plus signs and a file seldom one: what is no file is told as the key that it seems to be.
                Err(error) if text.matches('+').count() >= 2 && !PathBuf::from(text).exists() => {
                    return Err(error).context("--vkey");
                }
                Err(_) => PathBuf::from(text),
            },
        };
        let text = std::fs::read_to_string(&path).context(format!("cannot read {}", path.display()))?;
        text.parse().map(Some).context(path.display())
    }
}
