//! Configuration: TOML with unknown keys refused, every value checked with its line and a remedy, all faults at once.
//!
//! `raw` is the file as written, this module what it means. `config/unicity.toml` documents each key.

mod raw;
mod webhook;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use unicity_identity::{AccessPolicyName, ClonePolicy, HubHost, HubName, KeyFingerprint};
use unicity_provisioning::x509::StalePolicy;
use unicity_provisioning::{CloneSettings, UnicityMode};

use crate::error::{CommandError, Outcome};

pub(crate) use raw::{LogFormat, PARTITIONS_DEFAULT};
pub(crate) use webhook::WebhookConfig;

/// What the server is to do, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) mqtt: Option<Address>,
    pub(crate) https: Option<Address>,
    pub(crate) admin: Option<Address>,
    pub(crate) hostnames: Vec<String>,
    pub(crate) hub_host: Option<HubHost>,
    pub(crate) drain_seconds: u64,
    /// Whether devices may register here; else only hubs are served.
    pub(crate) provisioning: bool,
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) hubs: Vec<HubConfig>,
    pub(crate) mode: UnicityMode,
    pub(crate) clones: CloneSettings,
    pub(crate) allow_shared: BTreeSet<KeyFingerprint>,
    pub(crate) stale_crl: StalePolicy,
    pub(crate) crl_files: Vec<PathBuf>,
    pub(crate) crl_poll_seconds: u64,
    /// Operators' functions that may choose hubs.
    pub(crate) webhook: Option<WebhookConfig>,
    pub(crate) limits: raw::Limits,
    pub(crate) registry: raw::Registry,
    pub(crate) telemetry: raw::Telemetry,
    pub(crate) log: raw::Log,
}

/// One `[[hub]]`.
#[derive(Debug, Clone)]
pub(crate) struct HubConfig {
    pub(crate) name: HubName,
    pub(crate) host: Option<HubHost>,
    pub(crate) aliases: Vec<HubHost>,
    pub(crate) weight: u32,
    pub(crate) partitions: u32,
    pub(crate) apply_allocation: bool,
    /// The one policy that may make, change and delete its device identities.
    pub(crate) assigned_by: Option<AccessPolicyName>,
}

/// An address to listen on, and where it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    /// Such as `--mqtt` or `unicity.toml:12`.
    pub(crate) origin: String,
}

impl Address {
    /// Reads `IP:PORT`, `NAME:PORT`, `:PORT` or `PORT`.
    pub(crate) fn parse(text: &str, origin: &str) -> Result<Self, String> {
        let full = match text.strip_prefix(':') {
            Some(port) => format!("[::]:{port}"),
            None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => format!("[::]:{text}"),
            None => text.to_owned(),
        };
        let socket = match full.parse() {
            Ok(socket) => socket,
            Err(_) => full
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.next())
                .ok_or_else(|| format!("{text:?} is not an address with a port; write it like \"0.0.0.0:8883\""))?,
        };
        Ok(Self { socket, origin: origin.to_owned() })
    }
}

/// One fault of a configuration file.
#[derive(Debug)]
struct Fault {
    line: usize,
    text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// Reads and checks a configuration file.
pub(crate) fn load(path: &Path) -> Outcome<Config> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CommandError::new(format!("cannot read the configuration {}: {error}", path.display()))
            .hint("name an existing file with --config, or leave it out to run with defaults")
    })?;
    parse(&text, path)
}

/// The defaults, as an empty file gives them.
pub(crate) fn defaults() -> Config {
    parse("", Path::new("defaults")).unwrap_or_else(|error| unreachable!("an empty file has no faults: {error}"))
}

fn parse(text: &str, path: &Path) -> Outcome<Config> {
    let line_of = |offset: usize| text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    let fail = |faults: &[Fault]| {
        let list: Vec<_> = faults.iter().map(|fault| format!("{}:{}: {fault}", path.display(), fault.line)).collect();
        CommandError::new(format!("the configuration is not usable\n  {}", list.join("\n  ")))
            .hint("config/unicity.toml documents every key with its default; no key may be unknown")
    };
    let raw = raw::Raw::deserialize(toml::Deserializer::new(text)).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        let source = text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
        fail(&[Fault { line, text: format!("`{source}`: {}", error.message().replace('\n', " ")) }])
    })?;
    let mut check = Checker { faults: Vec::new(), line_of: &line_of, path };
    let config = check.config(raw);
    if check.faults.is_empty() { Ok(config) } else { Err(fail(&check.faults)) }
}

struct Checker<'a> {
    faults: Vec<Fault>,
    line_of: &'a dyn Fn(usize) -> usize,
    path: &'a Path,
}

impl Checker<'_> {
    fn fault<T>(&mut self, at: &Spanned<T>, text: impl Into<String>) {
        self.faults.push(Fault { line: (self.line_of)(at.span().start), text: text.into() });
    }

    fn address(&mut self, key: &str, value: Option<Spanned<String>>) -> Option<Address> {
        let value = value?;
        let origin =
            format!("{}:{}, `{key} = {:?}`", self.path.display(), (self.line_of)(value.span().start), value.get_ref());
        match Address::parse(value.get_ref(), &origin) {
            Ok(address) => Some(address),
            Err(why) => {
                self.fault(&value, format!("{key}: {why}"));
                None
            }
        }
    }

    fn parsed<T: std::str::FromStr<Err: fmt::Display>>(&mut self, key: &str, value: &Spanned<String>) -> Option<T> {
        match value.get_ref().parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(value, format!("{key}: {error}"));
                None
            }
        }
    }

    fn range(&mut self, key: &str, value: &Spanned<u64>, min: u64, max: u64) {
        if !(min..=max).contains(value.get_ref()) {
            self.fault(value, format!("{key} = {}: must be {min} to {max}", value.get_ref()));
        }
    }

    fn config(&mut self, raw: raw::Raw) -> Config {
        let server = raw.server;
        let limits = raw.limits;
        for (key, value, min, max) in limits.ranges() {
            self.range(key, value, min, max);
        }
        for (key, value, min, max) in raw.registry.ranges() {
            self.range(key, value, min, max);
        }
        for (key, value, min, max) in raw.telemetry.ranges() {
            self.range(key, value, min, max);
        }
        self.range("drain_seconds", &server.drain_seconds, 1, 60);
        self.range("crl_poll_seconds", &raw.x509.crl_poll_seconds, 1, 3600);
        let hubs = self.hubs(raw.hub, server.provisioning);
        let crl_files = self.crl_files(&raw.x509.crl_files);
        let webhook = raw.allocation.webhook.map(|webhook| self.webhook(webhook));
        for name in &server.hostnames {
            self.parsed::<HubHost>("hostnames", name);
        }
        Config {
            mqtt: self.address("mqtt", server.mqtt),
            https: self.address("https", server.https),
            admin: self.address("admin", server.admin),
            hostnames: server.hostnames.iter().map(|name| name.get_ref().clone()).collect(),
            hub_host: server.hub_host.as_ref().and_then(|host| self.parsed("hub_host", host)),
            drain_seconds: *server.drain_seconds.get_ref(),
            provisioning: server.provisioning,
            tls: raw.tls.map(|tls| (tls.certificate, tls.key)),
            hubs,
            mode: match raw.unicity.mode {
                raw::Mode::Strict => UnicityMode::Strict,
                raw::Mode::Compat => UnicityMode::Compat,
            },
            clones: CloneSettings {
                policy: match raw.unicity.clone_policy {
                    raw::ClonePolicy::Newest => ClonePolicy::Newest,
                    raw::ClonePolicy::Oldest => ClonePolicy::Oldest,
                    raw::ClonePolicy::Quarantine => ClonePolicy::Quarantine,
                },
                continuity: raw.unicity.continuity,
            },
            allow_shared: raw
                .unicity
                .allow_shared
                .iter()
                .filter_map(|text| self.parsed("allow_shared", text))
                .collect(),
            stale_crl: match raw.x509.stale_crl {
                raw::StaleCrl::Warn => StalePolicy::Warn,
                raw::StaleCrl::Refuse => StalePolicy::Refuse,
            },
            crl_files,
            crl_poll_seconds: *raw.x509.crl_poll_seconds.get_ref(),
            webhook,
            limits,
            registry: raw.registry,
            telemetry: raw.telemetry,
            log: raw.log,
        }
    }

    fn crl_files(&mut self, raw: &[Spanned<PathBuf>]) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for file in raw {
            if !file.get_ref().is_absolute() {
                let text = format!(
                    "crl_files: {:?} is no absolute path, and where a service runs is not where you do",
                    file.get_ref()
                );
                self.fault(file, text);
            } else if files.contains(file.get_ref()) {
                self.fault(file, format!("crl_files: {:?} stands in the list already", file.get_ref()));
            } else if files.len() == raw::CRL_FILES_MAX {
                self.fault(file, format!("crl_files: more than {}", raw::CRL_FILES_MAX));
                break;
            }
            files.push(file.get_ref().clone());
        }
        files
    }

    fn hubs(&mut self, raw: Vec<raw::Hub>, provisioning: bool) -> Vec<HubConfig> {
        let several = raw.len() > 1;
        let mut hubs: Vec<HubConfig> = Vec::new();
        for hub in raw {
            self.range("weight", &hub.weight, 1, 1000);
            self.range("partitions", &hub.partitions, 1, 32);
            let Some(name) = self.parsed::<HubName>("name", &hub.name) else { continue };
            if hubs.iter().any(|other| other.name == name) {
                self.fault(&hub.name, format!("name: a hub {name:?} stands above already; give each its own name"));
            }
            if several && hub.host.is_none() {
                self.fault(&hub.name, "host is missing; with more than one hub, each needs a host name of its own");
            }
            let host: Option<HubHost> = hub.host.as_ref().and_then(|host| self.parsed("host", host));
            let mut aliases = Vec::new();
            for alias in &hub.aliases {
                aliases.extend(self.parsed::<HubHost>("aliases", alias));
            }
            let taken = |name: &HubHost| {
                hubs.iter().any(|other| other.host.as_ref() == Some(name) || other.aliases.contains(name))
            };
            if let Some(double) = host.iter().chain(&aliases).find(|name| taken(name)) {
                let text = format!("host {double} belongs to a hub above already; a CONNECT's hub is told by its host");
                self.fault(&hub.name, text);
            }
            if let Some(policy) = hub.assigned_by.as_ref().filter(|_| provisioning) {
                let text = "assigned_by: this node's own provisioning service would hand devices to the hub as well; set \
                            `[server] provisioning = false`";
                self.fault(policy, text);
            }
            let assigned_by = hub.assigned_by.as_ref().and_then(|name| self.parsed("assigned_by", name));
            hubs.push(HubConfig {
                name,
                host,
                aliases,
                weight: u32::try_from(*hub.weight.get_ref()).unwrap_or(1),
                partitions: u32::try_from(*hub.partitions.get_ref()).unwrap_or(1),
                apply_allocation: hub.apply_allocation,
                assigned_by,
            });
        }
        hubs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new("unicity.toml")).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = parse("", Path::new("x")).unwrap();
        assert!(config.hubs.is_empty() && config.mqtt.is_none());
        assert_eq!(*config.limits.token_skew_seconds.get_ref(), 300);
    }

    #[test]
    fn the_shipped_files_load() {
        for name in ["unicity.toml", "two-hubs.toml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name);
            load(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/two-hubs.toml");
        assert_eq!(load(&path).unwrap().hubs.len(), 2);
    }

    #[test]
    fn four_nodes_have_addresses_of_their_own() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/three-hubs");
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let nodes: Vec<Config> =
            files.iter().map(|path| load(path).unwrap_or_else(|error| panic!("{error}"))).collect();
        let places: BTreeSet<_> = nodes.iter().map(|node| node.mqtt.as_ref().unwrap().socket.ip()).collect();
        assert_eq!((nodes.len(), places.len()), (4, 4));
        for node in &nodes {
            let (hub, place) = (&node.hubs[0], node.mqtt.as_ref().unwrap().socket.ip().to_string());
            assert_eq!(node.hostnames, [place]);
            assert_eq!(node.provisioning, !hub.apply_allocation, "{}", hub.name);
            assert_eq!(hub.assigned_by.is_some(), !node.provisioning, "{}", hub.name);
        }
    }

    #[test]
    fn faults_name_line_key_and_remedy() {
        for (text, parts) in [
            ("\n[server]\nmqqt = \"x\"\n", &["unicity.toml:3", "mqqt"][..]),
            ("[server]\nmqtt = \"here\"\n", &["unicity.toml:2", "mqtt", "0.0.0.0:8883"]),
            ("[server]\nmqtt = 5\n", &["unicity.toml:2", "mqtt"]),
            ("[limits]\nhandshakes_max = 0\n", &["unicity.toml:2", "handshakes_max", "must be 1"]),
            ("[[hub]]\nname = \"A\"\n", &["unicity.toml:2", "hub name", "lower-case"]),
            (
                "[[hub]]\nname = \"a\"\n[[hub]]\nname = \"a\"\nhost = \"b\"\n",
                &["unicity.toml:4", "above already", "unicity.toml:2", "host is missing"],
            ),
            (
                "[[hub]]\nname = \"a\"\nassigned_by = \"p\"\n",
                &["unicity.toml:3", "assigned_by", "provisioning = false"],
            ),
            ("[server]\nprovisioning = false\n[[hub]]\nname = \"a\"\nassigned_by = \"a b\"\n", &["unicity.toml:5"]),
            ("[unicity]\nmode = \"lax\"\n", &["unicity.toml:2", "strict"]),
            ("[unicity]\nclone_policy = \"first\"\n", &["unicity.toml:2", "oldest", "quarantine"]),
            ("[unicity]\nallow_shared = [\"abc\"]\n", &["unicity.toml:2", "allow_shared", "64 hexadecimal digits"]),
            ("[x509]\ncrl_files = [\n\"here.crl\"]\n", &["unicity.toml:3", "here.crl", "absolute"]),
            ("[x509]\ncrl_files = [\"/a\",\n\"/a\"]\n", &["unicity.toml:3", "already"]),
            ("[x509]\ncrl_poll_seconds = 0\n", &["unicity.toml:2", "crl_poll_seconds", "1 to 3600"]),
            ("[allocation.webhook]\nhosts = []\n", &["unicity.toml:2", "hosts", "host:port"]),
            ("[allocation.webhook]\nattempts = 3\n", &["unicity.toml:1", "hosts"]),
            (
                "[allocation.webhook]\nhosts = [\n\"https://f.example/x\",\n\"f.example:0\", \"F.example\",\n\"f.example:443\"]\n",
                &["unicity.toml:3", "no port", "unicity.toml:4", "unicity.toml:5", "already"],
            ),
            (
                "[allocation.webhook]\nhosts = [\"f\"]\ntimeout_seconds = 0\nattempts = 0\nreply_bytes_max = 1\n",
                &["unicity.toml:3", "1 to 30", "unicity.toml:4", "1 to 20", "unicity.toml:5", "256 to 1048576"],
            ),
            (
                "[allocation.webhook]\nhosts = [\"f\"]\nsecret_file = \"here\"\nca_file = \"here.pem\"\n",
                &["unicity.toml:3", "secret_file", "absolute", "unicity.toml:4", "ca_file"],
            ),
            ("[allocation.webhook]\nhosts = [\"f\"]\nurl = \"x\"\n", &["unicity.toml:3", "url"]),
            ("[server\n", &["unicity.toml:1"]),
        ] {
            let error = error(text);
            for part in parts {
                assert!(error.contains(part), "{part:?} not in {error}");
            }
        }
    }

    #[test]
    fn addresses_in_their_spellings() {
        for (text, socket) in
            [("127.0.0.1:1", "127.0.0.1:1"), (":5", "[::]:5"), ("8883", "[::]:8883"), ("[::1]:2", "[::1]:2")]
        {
            assert_eq!(Address::parse(text, "x").unwrap().socket, socket.parse().unwrap());
        }
        assert!(Address::parse("127.0.0.1", "x").is_err());
        assert!(Address::parse("", "x").is_err());
    }

    #[test]
    fn functions_and_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let authority = rcgen::generate_simple_self_signed(["functions.example".to_owned()]).unwrap();
        let (ca, secret) = (file("ca.pem", &authority.cert.pem()), file("secret", &"s".repeat(32)));
        let settings = |secret: &str, ca: &str| {
            let text = format!(
                "[allocation.webhook]\nhosts = [\"Functions.example\", \"[::1]:8443\"]\nsecret_file = {secret:?}\nca_file = {ca:?}\n"
            );
            parse(&text, Path::new("unicity.toml")).unwrap().webhook.unwrap().settings()
        };
        let found = settings(&secret, &ca).unwrap();
        let hosts: Vec<String> = found.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["[::1]:8443", "functions.example:443"]);
        assert!(found.secret.is_some() && !found.allow_private);
        assert_eq!((found.timeout.as_secs(), found.attempts, found.reply_bytes_max), (5, 5, 65_536));
        for (secret, ca, part) in [
            ("/nowhere/secret", ca.as_str(), "/nowhere/secret"),
            (&secret, "/nowhere/ca.pem", "/nowhere/ca.pem"),
            (&file("short", "x"), &ca, "16 to 1024 bytes"),
            (&secret, &file("none.pem", "no certificate"), "it has 0 certificates"),
        ] {
            let error = settings(secret, ca).unwrap_err().to_string();
            assert!(error.contains(part), "{part:?} not in {error}");
        }
    }
}
