//! `[allocation.webhook]`: which functions may choose hubs, and how they are asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use toml::Spanned;
use unicity_outbound::client::{Endpoint, Trust};
use unicity_outbound::webhook::{Secret, WebhookSettings};
use unicity_provisioning::allocation::WebhookHost;
use zeroize::Zeroizing;

use super::Checker;
use super::raw::plain;
use crate::error::{CommandError, Context as _, Outcome};

/// Most hosts of functions.
const HOSTS_MAX: usize = 64;

/// `[allocation]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAllocation {
    pub(super) webhook: Option<RawWebhook>,
}

/// `[allocation.webhook]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    hosts: Spanned<Vec<Spanned<String>>>,
    #[serde(default = "timeout_seconds")]
    timeout_seconds: Spanned<u64>,
    #[serde(default = "attempts")]
    attempts: Spanned<u64>,
    secret_file: Option<Spanned<PathBuf>>,
    ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    allow_private: bool,
    #[serde(default = "reply_bytes_max")]
    reply_bytes_max: Spanned<u64>,
}

fn timeout_seconds() -> Spanned<u64> {
    plain(5)
}

fn attempts() -> Spanned<u64> {
    plain(5)
}

fn reply_bytes_max() -> Spanned<u64> {
    plain(65_536)
}

/// The same, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookConfig {
    pub(crate) hosts: BTreeSet<WebhookHost>,
    timeout_seconds: u64,
    attempts: u32,
    secret_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    allow_private: bool,
    reply_bytes_max: usize,
}

impl Checker<'_> {
    pub(super) fn webhook(&mut self, raw: RawWebhook) -> WebhookConfig {
        self.range("timeout_seconds", &raw.timeout_seconds, 1, 30);
        self.range("attempts", &raw.attempts, 1, 20);
        self.range("reply_bytes_max", &raw.reply_bytes_max, 256, 1_048_576);
        let mut hosts = BTreeSet::new();
        for text in raw.hosts.get_ref() {
            let Some(host) = self.parsed::<WebhookHost>("hosts", text) else { continue };
            if !hosts.insert(host) {
                self.fault(text, format!("hosts: {:?} stands in the list already", text.get_ref()));
            }
        }
        match raw.hosts.get_ref().len() {
            0 => {
                self.fault(&raw.hosts, "hosts: it is empty; name each as host:port, or leave [allocation.webhook] out")
            }
            count if count > HOSTS_MAX => {
                self.fault(&raw.hosts, format!("hosts: {count} are named, at most {HOSTS_MAX} may be"))
            }
            _ => {}
        }
        let mut file = |key: &str, path: Option<Spanned<PathBuf>>| {
            let path = path?;
            if !path.get_ref().is_absolute() {
                let text = format!(
                    "{key}: {:?} is no absolute path, and where a service runs is not where you do",
                    path.get_ref()
                );
                self.fault(&path, text);
            }
            Some(path.into_inner())
        };
        WebhookConfig {
            hosts,
            timeout_seconds: raw.timeout_seconds.into_inner(),
            attempts: u32::try_from(raw.attempts.into_inner()).unwrap_or(1),
            secret_file: file("secret_file", raw.secret_file),
            ca_file: file("ca_file", raw.ca_file),
            allow_private: raw.allow_private,
            reply_bytes_max: usize::try_from(raw.reply_bytes_max.into_inner()).unwrap_or(usize::MAX),
        }
    }
}

impl WebhookConfig {
    /// Reads the files that it names.
    pub(crate) fn settings(&self) -> Outcome<WebhookSettings> {
        let trust = match &self.ca_file {
            Some(path) => authority(path)?,
            None => Trust::Platform,
        };
        if let Some(host) = self.hosts.iter().find(|host| Endpoint::new(&host.host, host.port, trust.clone()).is_err())
        {
            return Err(CommandError::new(format!("[allocation.webhook] hosts: no certificate can name {host}")));
        }
        let secret = match &self.secret_file {
            None => None,
            Some(path) => {
                let content = Zeroizing::new(read("secret_file", path)?);
                Some(Secret::new(&content).context(format!("[allocation.webhook] secret_file {}", path.display()))?)
            }
        };
        Ok(WebhookSettings {
            hosts: self.hosts.iter().cloned().collect(),
            trust,
            allow_private: self.allow_private,
            timeout: Duration::from_secs(self.timeout_seconds),
            attempts: self.attempts,
            secret,
            reply_bytes_max: self.reply_bytes_max,
        })
    }
}

fn read(key: &str, path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        CommandError::new(format!("[allocation.webhook] {key}: cannot read {}: {error}", path.display()))
            .hint("the service's user must be able to read it")
    })
}

fn authority(path: &Path) -> Outcome<Trust> {
    let pem = read("ca_file", path)?;
    let what = format!("[allocation.webhook] ca_file {}", path.display());
    let found: Vec<CertificateDer<'static>> =
        rustls_pemfile::certs(&mut pem.as_slice()).collect::<Result<_, _>>().context(&what)?;
    match found.as_slice() {
        [one] => Ok(Trust::Ca(one.to_vec())),
        other => Err(CommandError::new(format!("{what}: it has {} certificates, and must have one", other.len()))),
    }
}
