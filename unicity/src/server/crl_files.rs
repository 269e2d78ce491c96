//! Revocation lists from files: read at the start, when a file has changed, and when somebody asks (SIGHUP, `unicity crl reload`).
//!
//! A file that cannot be taken changes nothing: the list in force stays, and the fault is told once in the log, and as long as it
//! lasts in the states that `crl list`, `doctor` and the metrics show. A list whose authority is not there yet, or that a full disk
//! kept from being stored, is tried again with each look.

use std::borrow::Cow;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use unicity_api::{Api, CrlFileFault, CrlFileState, CrlFiles, MetricKind, MetricSample, MetricsSource};
use unicity_identity::RevocationList;
use unicity_provisioning::x509::UnverifiedCrl;
use unicity_provisioning::x509::crl::CRL_BYTES_MAX;

use crate::clock;

/// The longest file that is read: the longest list, as text.
const FILE_BYTES_MAX: u64 = CRL_BYTES_MAX as u64 / 2 * 3;

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// One file and what is known of it.
struct Watched {
    state: CrlFileState,
    /// The version that was read last.
    seen: Option<Version>,
}

/// What reads the files.
pub(super) struct Watcher {
    api: Api,
    files: Arc<CrlFiles>,
    watched: Vec<Watched>,
    every: Duration,
}

fn fault(name: &'static str, cause: impl Into<String>, remedy: &str) -> CrlFileFault {
    CrlFileFault { name, cause: cause.into(), remedy: remedy.to_owned() }
}

fn version(path: &Path) -> std::io::Result<Version> {
    let metadata = std::fs::metadata(path)?;
    Ok(Version { inode: metadata.ino(), bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
}

/// The content, and the version that it was read of: taken before, so that a change in between is seen by the next look.
fn read(path: &Path) -> Result<(Version, Vec<u8>), CrlFileFault> {
    let unreadable = |error: std::io::Error| {
        fault(
            "FileUnreadable",
            format!("it cannot be read: {error}"),
            "put the file there, readable for the server's user",
        )
    };
    let version = version(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let cause = format!("it has more than {FILE_BYTES_MAX} bytes, and a list at most {CRL_BYTES_MAX}");
        return Err(fault("FileTooLarge", cause, "name a file that holds one revocation list"));
    }
    Ok((version, bytes))
}

impl Watcher {
    pub(super) fn new(api: Api, files: Arc<CrlFiles>, paths: &[PathBuf], every: Duration) -> Self {
        let state = |path: &PathBuf| CrlFileState {
            path: path.clone(),
            checked: clock::now(),
            read: None,
            issuer: None,
            fault: None,
        };
        let watched = paths.iter().map(|path| Watched { state: state(path), seen: None }).collect();
        Self { api, files, watched, every }
    }

    /// Reads every file that is not known as it is; all of them if `all`.
    pub(super) async fn round(&mut self, all: bool) {
        let waiting = self.files.begin();
        for watched in &mut self.watched {
            look(&self.api, watched, all).await;
        }
        let states = self.watched.iter().map(|watched| watched.state.clone()).collect();
        self.files.finish(states, waiting);
    }

    /// Looks again and again until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                () = stop.cancelled() => break,
                () = self.files.asked() => true,
                _ = ticks.tick() => false,
            };
            self.round(all).await;
        }
        let waiting = self.files.begin();
        self.files.finish(Vec::new(), waiting);
    }
}

async fn look(api: &Api, watched: &mut Watched, all: bool) {
    let path = watched.state.path.clone();
    // A fault is tried again: the authority may have come since, or the disk have room.
    let known = watched.seen.filter(|_| !all && watched.state.fault.is_none());
    let read = tokio::task::spawn_blocking(move || match known {
        Some(known) if version(&path).is_ok_and(|now| now == known) => Ok(None),
        _ => read(&path).map(Some),
    });
    let read = read.await.unwrap_or_else(|error| Err(fault("FileUnreadable", error.to_string(), "see the log")));
    watched.state.checked = clock::now();
    let stored = match read {
        Ok(None) => return,
        Ok(Some((version, bytes))) => {
            watched.seen = Some(version);
            api.store_revocation_list(bytes).await
        }
        Err(fault) => Err(fault),
    };
    let path = watched.state.path.display();
    match stored {
        Ok(list) => {
            let issuer = issuer(&list);
            if watched.state.fault.take().is_some()
                || watched.state.read.is_none()
                || list.added >= watched.state.checked
            {
                tracing::info!(%path, issuer, "the revocation list of this file is in force");
            }
            watched.state.read = Some(watched.state.checked);
            watched.state.issuer = Some(issuer);
        }
        Err(fault) => {
            // Once, not with each look.
            if watched.state.fault.as_ref() != Some(&fault) {
                let CrlFileFault { name, cause, remedy } = &fault;
                tracing::error!(%path, code = name, cause, remedy, "a revocation list is not taken; the one before stays in force");
            }
            watched.state.fault = Some(fault);
        }
    }
}

fn issuer(list: &RevocationList) -> String {
    UnverifiedCrl::parse(&list.der).map(|list| list.issuer().chars().take(256).collect()).unwrap_or_default()
}

/// How many files are in force, and how many are not.
pub(super) fn metrics(files: Arc<CrlFiles>) -> MetricsSource {
    Arc::new(move || {
        let states = files.states();
        let failed = states.iter().filter(|state| state.fault.is_some()).count();
        let sample = |state: &'static str, count: usize| MetricSample {
            name: Cow::Borrowed("unicity_crl_files"),
            help: Cow::Borrowed("Files that revocation lists are read from, by whether their content is in force."),
            kind: MetricKind::Gauge,
            labels: vec![(Cow::Borrowed("state"), Cow::Borrowed(state))],
            value: u32::try_from(count).unwrap_or(u32::MAX).into(),
        };
        vec![sample("in_force", states.len() - failed), sample("failed", failed)]
    })
}
