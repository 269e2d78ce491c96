//! The bare server that `floor` measures: rustls on one thread of tokio. It has what unicity's handshake has: a certificate
//! that is a leaf alone, TLS 1.3 and 1.2 with the same suites, one stateless ticket, no delay on the socket. It verifies
//! the device's chain in the handshake, answers one byte with one, and knows neither MQTT nor any device.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::authority::{CA_FILE, CERTIFICATE_FILE, KEY_FILE};
use super::process;

/// Connections that may wait to be taken; the kernel has a limit of its own.
const BACKLOG: u32 = 65_535;
/// What it prints once it listens, before its address.
pub(crate) const READY: &str = "bare server ready ";

#[derive(Debug, Clone, Args)]
pub(crate) struct BareServer {
    /// The folder with its certificate and key, and the authority to trust
    folder: PathBuf,
}

impl BareServer {
    /// Serves until it is ended.
    pub(crate) fn run(&self) -> ExitCode {
        process::raise_file_limit();
        match serve(&self.folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("loadtest: bare server: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn configuration(folder: &Path) -> Result<ServerConfig, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&std::fs::read(folder.join(CA_FILE))?) {
        roots.add(root?)?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let chain = std::fs::read(folder.join(CERTIFICATE_FILE))?;
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&std::fs::read(folder.join(KEY_FILE))?)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn serve(folder: &Path) -> Result<(), Box<dyn Error>> {
    let acceptor = TlsAcceptor::from(Arc::new(configuration(folder)?));
    // One thread, and not one that blocks a connection: those are put to sleep and woken for each packet.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        println!("{READY}{}", listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            tokio::spawn(echo(socket, acceptor.clone()));
        }
    })
}

async fn echo(socket: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = acceptor.accept(socket).await?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    stream.write_all(&byte).await?;
    stream.flush().await?;
    // The client closes first, so that its side has the port that rests.
    stream.read(&mut byte).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::authority::Authority;
    use super::*;

    #[test]
    fn its_files_make_a_server_that_wants_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::write(folder.path()).unwrap();
        let config = configuration(folder.path()).unwrap();
        assert_eq!(config.send_tls13_tickets, 1);
        assert!(authority.key.contains("PRIVATE KEY"));
        std::fs::remove_file(folder.path().join(KEY_FILE)).unwrap();
        assert!(configuration(folder.path()).is_err());
    }
}
