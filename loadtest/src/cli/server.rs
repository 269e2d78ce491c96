//! A server for one run, started in a folder of its own and ended when the run is: here unicity, with devices enrolled.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use unicity_device_sim::Endpoint;
use unicity_identity::{IdScope, SharedAccessKey};

use super::{Refused, process};

/// Patience for a start or a command.
const PATIENCE: Duration = Duration::from_secs(60);
/// Patience for an orderly end.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// A load test is one peer that does what a thousand do.
const CONFIGURATION: &str = "[limits]\n\
    handshakes_max = 65536\n\
    handshake_timeout_seconds = 60\n\
    connect_timeout_seconds = 60\n\
    connections_max = 1000000\n\
    unauthenticated_per_peer_max = 100000\n\
    attest_failures_per_minute = 1000000\n\
    [log]\n\
    filter = \"warn\"\n";

/// The running server. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pid: u32,
    /// Removed with it.
    folder: tempfile::TempDir,
}

/// What devices need to know.
pub(crate) struct Enrolled {
    pub(crate) endpoint: Endpoint,
    pub(crate) ca: Vec<u8>,
    pub(crate) id_scope: IdScope,
    pub(crate) group_key: SharedAccessKey,
    pub(crate) issuer_chain: String,
    pub(crate) issuer_key: String,
}

/// Starts one, on `core` if that is given; the authority of the devices is kept in `credentials` beside their certificates.
pub(crate) async fn start(
    binary: Option<&Path>,
    core: Option<usize>,
    credentials: Option<&Path>,
) -> Result<(Server, Enrolled), Refused> {
    let binary = find(binary)?;
    let folder = folder()?;
    let data = folder.path().join("data");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(arguments).arg("--data").arg(&data).stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let ask = async |arguments: &[&str]| -> Result<Value, Refused> {
        let failed = |why: &str| Refused::failed(format!("unicity {}: {why}", arguments.join(" ")));
        let mut command = command(arguments);
        let output = timeout(PATIENCE, command.arg("--json").output());
        let output = output.await.map_err(|_| failed("no end"))?.map_err(|error| failed(&error.to_string()))?;
        if !output.status.success() {
            return Err(failed(&text(&output.stderr)));
        }
        serde_json::from_slice(&output.stdout).map_err(|_| failed("its answer is no JSON"))
    };
    let made = ask(&["init", "--hostname", "127.0.0.1"]).await?;
    let id_scope = member(&made, "/idScope")?.parse().map_err(|_| strange("the id scope"))?;
    let ca = std::fs::read(member(&made, "/ca")?).map_err(|_| strange("the CA's path"))?;
    std::fs::write(data.join("unicity.toml"), CONFIGURATION)
        .map_err(|error| Refused::failed(format!("cannot configure the server: {error}")))?;

    let (child, address) = serve(&binary, &data, &folder.path().join("server.log"), core).await?;
    let server = Server::of(child, folder)?;

    let group = ask(&["enroll", "add-group", "--group-id", "loadtest-symmetric", "--generate-key"]).await?;
    let group_key = member(&group, "/attestation/symmetricKey/primaryKey")?;
    let group_key = SharedAccessKey::from_base64(group_key).map_err(|_| strange("the group's key"))?;
    let factory = match credentials {
        Some(kept) => kept.join("authority"),
        None => server.folder.path().join("authority"),
    };
    let factory = factory.to_string_lossy().into_owned();
    let device = server.folder.path().join("device").to_string_lossy().into_owned();
    let issuer =
        ask(&["dev-cert", "--registration-id", "loadtest", "--depth", "0", "--ca-dir", &factory, "--out", &device])
            .await?;
    let (chain_path, key_path) = (member(&issuer, "/issuer")?, member(&issuer, "/issuerKey")?);
    let read = |path: &str| std::fs::read_to_string(path).map_err(|_| strange("the authority's path"));
    let (issuer_chain, issuer_key) = (read(chain_path)?, read(key_path)?);
    ask(&["enroll", "add-group", "--group-id", "loadtest-x509", "--ca", chain_path]).await?;

    let endpoint = address.parse().map_err(|_| strange("its address"))?;
    Ok((server, Enrolled { endpoint, ca, id_scope, group_key, issuer_chain, issuer_key }))
}

/// A new folder for a server.
pub(crate) fn folder() -> Result<tempfile::TempDir, Refused> {
    let made = tempfile::Builder::new().prefix("loadtest-").tempdir();
    made.map_err(|error| Refused::failed(format!("no folder for the server: {error}")))
}

/// Runs `serve` until it says that it accepts; gives its MQTT address.
async fn serve(binary: &Path, data: &Path, log: &Path, core: Option<usize>) -> Result<(Child, String), Refused> {
    let failed = |why: String| Refused::failed(format!("the server does not start: {why}"));
    let log_file = std::fs::File::create(log).map_err(|error| failed(error.to_string()))?;
    let mut child = process::on_core(binary, core)
        .args(["serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        // A person's Ctrl-C is for us: we end it when we are done.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let lines = child.stdout.take().map(BufReader::new).ok_or_else(|| failed("no output".to_owned()))?;
    let mut lines = lines.lines();
    let ready = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(rest) = line.strip_prefix("unicity ready mqtt=") {
                return rest.split(' ').next().map(str::to_owned);
            }
        }
        None
    };
    match timeout(PATIENCE, ready).await {
        Ok(Some(address)) => {
            // It says nothing more, but must never wait for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            Ok((child, address))
        }
        _ => Err(failed(std::fs::read_to_string(log).unwrap_or_default().trim().to_owned())),
    }
}

impl Server {
    /// A process that was started, with the folder that is its alone.
    pub(crate) fn of(child: Child, folder: tempfile::TempDir) -> Result<Self, Refused> {
        let pid = child.id().ok_or_else(|| Refused::failed("the server ended at once"))?;
        process::remember_server(Some(pid));
        Ok(Self { child, pid, folder })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it in order, and removes its folder.
    pub(crate) async fn end(mut self) {
        process::terminate(self.pid);
        if timeout(END_PATIENCE, self.child.wait()).await.is_err() {
            eprintln!("loadtest: the server does not end within {} s; it is killed", END_PATIENCE.as_secs());
            let _ = self.child.kill().await;
        }
        process::remember_server(None);
    }
}

/// The binary that was named, or the one beside this program.
fn find(given: Option<&Path>) -> Result<PathBuf, Refused> {
    let found = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .ok()
            .and_then(|own| Some(own.parent()?.join("unicity")))
            .ok_or_else(|| Refused::failed("--server-bin is missing: this program does not know where it is"))?,
    };
    if found.is_file() {
        return Ok(found);
    }
    let profile = if cfg!(debug_assertions) { "" } else { " --release" };
    Err(Refused::failed(format!(
        "there is no server at {}: build it with `cargo build{profile} -p unicity`, or name one with --server-bin",
        found.display()
    )))
}

fn member<'a>(value: &'a Value, pointer: &str) -> Result<&'a str, Refused> {
    value.pointer(pointer).and_then(Value::as_str).ok_or_else(|| strange(pointer))
}

fn strange(what: &str) -> Refused {
    Refused::failed(format!("the unicity binary answers otherwise than this program knows: {what}"))
}
