//! Where leaves come from: a running server, or a log's directory.

use std::path::{Path, PathBuf};

use hyper::Method;
use serde_json::Value;
use unicity_audit::directory::Directory;
use unicity_audit::{Bounds, InclusionProof, Reader};
use unicity_identity::sas::percent_encode;
use unicity_provisioning::leaf_filter::LeafFilter;
use unicity_store::audit::AUDIT_DIR;

use crate::cli::Global;
use crate::client::{Audience, Client};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

/// Leaves of one answer of a server.
const PAGE: usize = 1000;

/// A log that is read.
pub(crate) enum Leaves {
    /// That of a running server.
    Server(Box<Client>),
    /// One in a directory.
    Directory(PathBuf),
}

/// Leaves with their indexes, the newest first.
pub(crate) struct Found {
    pub(crate) leaves: Vec<(u64, Value)>,
    /// Nothing below was looked at.
    pub(crate) next: Option<u64>,
    /// Leaves that were looked at.
    pub(crate) scanned: u64,
}

/// The log's directory in the data directory.
pub(crate) fn default_directory(global: &Global) -> PathBuf {
    DataDir::new(&global.data).path().join(AUDIT_DIR)
}

impl Leaves {
    /// The directory, if one is named; else the running server; else the directory of the data directory.
    pub(crate) fn open(global: &Global, directory: Option<&Path>) -> Outcome<Self> {
        if let Some(directory) = directory {
            return Ok(Self::Directory(directory.to_owned()));
        }
        if is_running(global) {
            return Ok(Self::Server(Box::new(Client::open(&global.target(), &Audience::Dps)?)));
        }
        let directory = default_directory(global);
        if !directory.exists() {
            return Err(CommandError::new(format!(
                "no server runs, and there is no audit log in {}",
                directory.display()
            ))
            .hint(
                "name the server's data directory with --data, a server with --connection-string, or a log with --dir",
            ));
        }
        Ok(Self::Directory(directory))
    }

    /// Leaves below `before`, at most `limit` of them, after looking at `scan_max`.
    pub(crate) async fn find(
        &self,
        filter: &LeafFilter,
        before: Option<u64>,
        limit: usize,
        scan_max: u64,
    ) -> Outcome<Found> {
        match self {
            Self::Directory(directory) => {
                let (reader, _) = at_checkpoint(directory)?;
                let needles = filter.needles();
                let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
                let take = |index, entry: &[u8]| filter.take(entry).map(|leaf| (index, leaf));
                let found = reader.search(Bounds { before, limit, scan_max }, &needles, take);
                let found = found.context(format!("cannot read {}", directory.display()))?;
                Ok(Found { leaves: found.items, next: found.next, scanned: found.scanned })
            }
            Self::Server(client) => {
                let (mut all, mut before, mut scanned) = (Vec::new(), before, 0u64);
                loop {
                    let wanted = (limit - all.len()).min(PAGE);
                    let path = leaves_path(filter, before, wanted, scan_max - scanned);
                    let page = client.get(&path).await?;
                    for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
                        let index = item.get("index").and_then(Value::as_u64);
                        let (Some(index), Some(leaf)) = (index, item.get("leaf")) else {
                            return Err(CommandError::new("the server's answer holds no leaves"));
                        };
                        all.push((index, leaf.clone()));
                    }
                    let now = page.get("scanned").and_then(Value::as_u64).unwrap_or(0);
                    scanned += now;
                    before = page.get("next").and_then(Value::as_u64);
                    if before.is_none() || all.len() >= limit || scanned >= scan_max || now == 0 {
                        return Ok(Found { leaves: all, next: before, scanned });
                    }
                }
            }
        }
    }

    /// The proof of a leaf under the newest checkpoint.
    pub(crate) async fn prove(&self, index: u64) -> Outcome<InclusionProof> {
        match self {
            Self::Directory(directory) => {
                let (reader, note) = at_checkpoint(directory)?;
                reader.prove(index, &note).context(format!("cannot prove leaf {index}"))
            }
            Self::Server(client) => {
                let path = format!("/unicity/audit/proof/{index}");
                let text = client.text(Method::GET, &path).await?;
                text.parse().context("the server's proof")
            }
        }
    }
}

/// Whether there is a server to ask.
pub(crate) fn is_running(global: &Global) -> bool {
    global.connection_string.is_some() || DataDir::new(&global.data).read_run_info().is_some()
}

fn at_checkpoint(directory: &Path) -> Outcome<(Reader<Directory>, String)> {
    let opened = Reader::at_checkpoint(Directory(directory.to_owned()));
    opened.context(format!("{} holds no audit log", directory.display()))
}

fn leaves_path(filter: &LeafFilter, before: Option<u64>, limit: usize, scan_max: u64) -> String {
    let mut path = format!("/unicity/audit/leaves?limit={limit}&scan={scan_max}");
    let mut add = |name: &str, value: &str| path.push_str(&format!("&{name}={}", percent_encode(value)));
    if let Some(identity) = &filter.identity {
        add("identity", identity);
    }
    if !filter.events.is_empty() {
        add("event", &filter.events.join(","));
    }
    if let Some(latest) = filter.not_after {
        add("notAfter", &latest.0.to_string());
    }
    if let Some(place) = &filter.seals {
        add("sealHub", place.hub.as_str());
        add("sealPartition", &place.partition.to_string());
        add("sealOffset", &place.offset.to_string());
    }
    if let Some(before) = before {
        add("before", &before.to_string());
    }
    path
}
