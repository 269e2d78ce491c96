//! The servers: `unicity serve` as it is shipped, a bare rustls one, and mosquitto where it is installed.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Result;

/// A child that does not outlive its owner.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program under test, with its data directory.
pub(crate) struct Unicity {
    running: Option<Running>,
    program: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) mqtt: SocketAddr,
    pub(crate) id_scope: String,
}

impl Unicity {
    /// Makes a data directory below `dir` and serves it, on core 0 where that can be had.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let program =
            std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no target folder")?.join("unicity");
        let (data, mqtt) = (dir.join("data"), SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut new = Self { running: None, program, data, mqtt, id_scope: String::new() };
        new.command(&["init", "--hostname", "127.0.0.1"])?;
        new.serve()?;
        let strings = std::fs::read(new.data.join("connection-strings.json"))?;
        let strings: serde_json::Value = serde_json::from_slice(&strings)?;
        new.id_scope = strings["id_scope"].as_str().ok_or("no id scope")?.to_owned();
        Ok(new)
    }

    /// Stops the server as an operator would, and starts it anew: what registered is there, what served it is not.
    pub(crate) fn restart(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            Command::new("kill").arg(running.pid().to_string()).status()?;
            running.0.wait()?;
        }
        self.serve()
    }

    fn serve(&mut self) -> Result<()> {
        let mut child = on_core_0(&self.program)
            .args(["serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(&self.data)
            .env("UNICITY_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        self.running = Some(Running(child));
        let mut ready = String::new();
        BufReader::new(out).read_line(&mut ready)?;
        self.mqtt = ready.split_whitespace().find_map(|word| word.strip_prefix("mqtt=")).ok_or("not ready")?.parse()?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::pid)
    }

    /// Runs a command of the program to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<()> {
        let done = Command::new(&self.program).args(arguments).arg("--data").arg(&self.data).output();
        let done = done.map_err(|error| format!("{}: {error}", self.program.display()))?;
        match done.status.success() {
            true => Ok(()),
            false => Err(format!("unicity {arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into()),
        }
    }

    /// What devices trust.
    pub(crate) fn roots(&self) -> Result<RootCertStore> {
        roots(&self.data.join("pki/ca.pem"))
    }
}

/// A command on core 0, where that can be had.
fn on_core_0(program: &Path) -> Command {
    let pinnable = Command::new("taskset").args(["-c", "0", "true"]).output().is_ok_and(|done| done.status.success());
    if !pinnable {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

pub(crate) fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(path)?;
    for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// A server that verifies the chain, if it is shown one, answers one byte with one, and does nothing else. It has the
/// certificate of `unicity`. Calls the benchmark's own program with `--bare-server DIR`, which must call [`bare`].
pub(crate) struct Bare {
    running: Running,
    pub(crate) address: SocketAddr,
}

impl Bare {
    /// `dir` holds the `root.pem` of the devices.
    pub(crate) fn start(dir: &Path, unicity: &Unicity) -> Result<Self> {
        for name in ["server.pem", "server.key"] {
            std::fs::copy(unicity.data.join("pki").join(name), dir.join(name))?;
        }
        let program = std::env::current_exe()?;
        let mut child = on_core_0(&program).arg("--bare-server").arg(dir).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let running = Running(child);
        let mut address = String::new();
        BufReader::new(out).read_line(&mut address)?;
        Ok(Self { running, address: address.trim().parse()? })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// The bare server itself. Does not return.
pub(crate) fn bare(dir: &Path) -> Result<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&dir.join("root.pem"))?), provider.clone())
            .allow_unauthenticated();
    let chain = std::fs::read(dir.join("server.pem"))?;
    let chain = rustls_pemfile::certs(&mut chain.as_slice()).collect::<std::result::Result<Vec<_>, _>>()?;
    let key = std::fs::read(dir.join("server.key"))?;
    let key = rustls_pemfile::private_key(&mut key.as_slice())?.ok_or("no key")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    let config = Arc::new(config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {
                    let _ = stream.flush().await;
                }
                // The client closes first.
                let _ = stream.read(&mut byte).await;
            });
        }
    })
}

/// mosquitto with the same certificates, which lets in whoever has one of the factory's.
pub(crate) struct Mosquitto {
    running: Running,
    pub(crate) address: SocketAddr,
}

impl Mosquitto {
    /// `None` where it is not installed. `dir` holds the `root.pem` of the devices.
    pub(crate) fn start(dir: &Path, unicity: &Unicity) -> Result<Option<Self>> {
        let installed = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
        let Some(program) = installed.iter().map(Path::new).find(|path| path.exists()) else { return Ok(None) };
        // Another process could take the port in between; it would be told at once.
        let address = StdListener::bind("127.0.0.1:0")?.local_addr()?;
        let pki = unicity.data.join("pki");
        let lines = [
            format!("listener {} 127.0.0.1", address.port()),
            format!("cafile {}", dir.join("root.pem").display()),
            format!("certfile {}", pki.join("server.pem").display()),
            format!("keyfile {}", pki.join("server.key").display()),
            "require_certificate true\nallow_anonymous true\nset_tcp_nodelay true".to_owned(),
            // Started by root it would become another user, who may not read the key.
            "user root\nlog_type error\n".to_owned(),
        ];
        let path = dir.join("mosquitto.conf");
        std::fs::write(&path, lines.join("\n"))?;
        let running = Running(on_core_0(program).arg("-c").arg(&path).stdout(Stdio::null()).spawn()?);
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err("mosquitto does not listen".into());
            }
            super::pause(Duration::from_millis(20));
        }
        Ok(Some(Self { running, address }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }
}
