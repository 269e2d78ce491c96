//! A fleet file as it is written. `fleet.example.toml` documents each key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// A text that is read further, and where it stands.
pub(super) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    pub(super) fleet: Fleet,
    #[serde(default, rename = "group")]
    pub(super) groups: Vec<Spanned<Group>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fleet {
    pub(super) endpoint: Option<Text>,
    pub(super) id_scope: Option<Text>,
    pub(super) ca: Option<PathBuf>,
    pub(super) hub_port: Option<u16>,
    pub(super) https_port: Option<u16>,
    #[serde(default)]
    pub(super) resolve: Vec<Text>,
    pub(super) seed: Option<u64>,
    pub(super) handshakes: Option<Spanned<usize>>,
    pub(super) client: Option<Text>,
    #[serde(default)]
    pub(super) sources: Vec<IpAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) name: Text,
    pub(super) count: Option<Spanned<usize>>,
    pub(super) id: Option<Text>,
    // A `Spanned` enum cannot be read from a dotted key.
    pub(super) attestation: Attestation,
    #[serde(default)]
    pub(super) boot: Boot,
    #[serde(default)]
    pub(super) telemetry: Telemetry,
    pub(super) duty: Option<Duty>,
    #[serde(default)]
    pub(super) reconnect: Reconnect,
    #[serde(default)]
    pub(super) token: Token,
    pub(super) flaky: Option<Flaky>,
    pub(super) clones: Option<Clones>,
    #[serde(default)]
    pub(super) methods: BTreeMap<String, Method>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Attestation {
    GroupKey { key: Option<Text>, key_env: Option<Text> },
    Keys { file: PathBuf },
    X509Issuer { chain: Option<PathBuf>, key: Option<PathBuf>, dir: Option<PathBuf> },
    X509Folder { dir: PathBuf },
    Batch { dir: PathBuf },
    Tpm { endorsement: Option<Text>, state: Option<PathBuf> },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Boot {
    pub(super) rate: Option<Spanned<f64>>,
    pub(super) over: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    pub(super) interval: Option<Text>,
    pub(super) jitter: Option<Spanned<f64>>,
    pub(super) messages: Option<u64>,
    #[serde(rename = "for")]
    pub(super) duration: Option<Text>,
    pub(super) stay: Option<bool>,
    pub(super) window: Option<Spanned<u16>>,
    pub(super) qos: Option<Spanned<u8>>,
    pub(super) body: Option<Text>,
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) values: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Value {
    Counter {
        #[serde(default)]
        start: i64,
        #[serde(default = "one")]
        step: i64,
    },
    RandomWalk {
        start: f64,
        step: f64,
        min: f64,
        max: f64,
        #[serde(default = "two")]
        decimals: usize,
    },
    Sine {
        mean: f64,
        amplitude: f64,
        period: Text,
        #[serde(default)]
        noise: f64,
        #[serde(default = "two")]
        decimals: usize,
    },
    Uniform {
        min: f64,
        max: f64,
        #[serde(default = "two")]
        decimals: usize,
    },
    Choice(Vec<String>),
    Replay {
        file: PathBuf,
        column: Option<String>,
        #[serde(default, rename = "loop")]
        again: bool,
    },
}

fn one() -> i64 {
    1
}

fn two() -> usize {
    2
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Duty {
    pub(super) connected: Text,
    pub(super) away: Text,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reconnect {
    pub(super) base: Option<Text>,
    pub(super) factor: Option<Spanned<f64>>,
    pub(super) cap: Option<Text>,
    pub(super) jitter: Option<Text>,
    pub(super) refusals: Option<Spanned<u32>>,
    pub(super) rounds: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub(super) ttl: Option<Text>,
    pub(super) renew_before: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flaky {
    #[serde(default)]
    pub(super) disturbances: Vec<Text>,
    pub(super) count: Option<u32>,
    pub(super) messages_max: Option<Spanned<u32>>,
    pub(super) pause_max: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clones {
    pub(super) count: Spanned<usize>,
    #[serde(default)]
    pub(super) attacks: Vec<Text>,
    pub(super) rounds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Method {
    pub(super) status: Option<u16>,
    pub(super) payload: Option<toml::Value>,
}
