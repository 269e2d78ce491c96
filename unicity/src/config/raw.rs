//! The configuration file as written. Every field has a default; a key that is not here is an error.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Raw {
    pub(crate) server: Server,
    pub(crate) tls: Option<Tls>,
    pub(crate) hub: Vec<Hub>,
    pub(crate) unicity: Unicity,
    pub(crate) x509: X509,
    pub(super) allocation: super::webhook::RawAllocation,
    pub(crate) limits: Limits,
    pub(crate) registry: Registry,
    pub(crate) telemetry: Telemetry,
    pub(crate) log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    pub(crate) mqtt: Option<Spanned<String>>,
    pub(crate) https: Option<Spanned<String>>,
    pub(crate) admin: Option<Spanned<String>>,
    pub(crate) hostnames: Vec<Spanned<String>>,
    pub(crate) hub_host: Option<Spanned<String>>,
    pub(crate) drain_seconds: Spanned<u64>,
    pub(crate) provisioning: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            mqtt: None,
            https: None,
            admin: None,
            hostnames: Vec::new(),
            hub_host: None,
            drain_seconds: plain(3),
            provisioning: true,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hub {
    pub(crate) name: Spanned<String>,
    pub(crate) host: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) aliases: Vec<Spanned<String>>,
    #[serde(default = "one")]
    pub(crate) weight: Spanned<u64>,
    #[serde(default = "partitions")]
    pub(crate) partitions: Spanned<u64>,
    #[serde(default = "yes")]
    pub(crate) apply_allocation: bool,
    pub(crate) assigned_by: Option<Spanned<String>>,
}

/// Partitions of a hub unless told; `ARCHITECTURE.md` says what is known of the number.
pub(crate) const PARTITIONS_DEFAULT: u32 = 4;

pub(super) fn plain<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn one() -> Spanned<u64> {
    plain(1)
}

fn partitions() -> Spanned<u64> {
    plain(u64::from(PARTITIONS_DEFAULT))
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Unicity {
    pub(crate) mode: Mode,
    pub(crate) allow_shared: Vec<Spanned<String>>,
    pub(crate) clone_policy: ClonePolicy,
    pub(crate) continuity: bool,
}

/// What happens when two devices seem to hold one credential.
#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClonePolicy {
    #[default]
    Newest,
    Oldest,
    Quarantine,
}

#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Strict,
    Compat,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct X509 {
    pub(crate) stale_crl: StaleCrl,
    pub(crate) crl_files: Vec<Spanned<PathBuf>>,
    pub(crate) crl_poll_seconds: Spanned<u64>,
}

impl Default for X509 {
    fn default() -> Self {
        Self { stale_crl: StaleCrl::default(), crl_files: Vec::new(), crl_poll_seconds: plain(5) }
    }
}

/// Most files that revocation lists are read from.
pub(crate) const CRL_FILES_MAX: usize = 256;

/// What becomes of devices whose authority's revocation list is out of date.
#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StaleCrl {
    #[default]
    Warn,
    Refuse,
}

macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident { $($field:ident = $default:expr, $min:expr, $max:expr;)* } $({ $($other:ident: $type:ty = $value:expr;)* })?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $(pub(crate) $field: Spanned<u64>,)*
            $($(pub(crate) $other: $type,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: plain($default),)* $($($other: $value,)*)? }
            }
        }

        impl $name {
            /// Each number with its key and the range that it must lie in.
            pub(crate) fn ranges(&self) -> Vec<(&'static str, &Spanned<u64>, u64, u64)> {
                vec![$((stringify!($field), &self.$field, $min, $max),)*]
            }
        }
    };
}

numbers! {
    /// Limits on what a stranger can reach.
    Limits {
        handshake_timeout_seconds = 10, 1, 120;
        handshakes_max = 2_048, 1, 65_536;
        connect_timeout_seconds = 10, 1, 120;
        connections_max = 100_000, 1, 1_000_000;
        unauthenticated_per_peer_max = 512, 1, 100_000;
        keep_alive_max_seconds = 1_740, 30, 65_535;
        subscriptions_max = 50, 4, 1_000;
        in_flight_max = 128, 1, 10_000;
        token_skew_seconds = 300, 0, 86_400;
        attest_failures_per_minute = 60, 1, 1_000_000;
        payload_bytes_max = 8_192, 0, 65_536;
        service_requests_per_second_per_key = 5_000, 1, 1_000_000;
    } { drop_on_token_expiry: bool = true; }
}

numbers! {
    /// The registry.
    Registry {
        queue_max = 4_096, 16, 1_000_000;
        overlay_records_max = 800_000, 1_000, 10_000_000;
        cache_mebibytes = 320, 8, 65_536;
    }
}

numbers! {
    /// The telemetry log.
    Telemetry {
        segment_mebibytes = 64, 1, 4_096;
        retention_hours = 168, 1, 876_000;
        retention_mebibytes_per_partition = 16_384, 2, 16_777_216;
        queue_max = 4_096, 16, 1_000_000;
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    /// For people.
    Pretty,
    /// A JSON object a line.
    Json,
}
