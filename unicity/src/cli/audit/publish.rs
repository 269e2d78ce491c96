//! Brings a checkpoint to where the server's operator cannot change it: a file (on another machine's disk, say), or a URL.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::{CommandError, Context as _, Outcome};

const TIME_MAX: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Where systems keep the roots that they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Writes the note to the file, or sends it to the URL.
pub(super) async fn publish(target: &str, note: &str, ca: Option<&Path>) -> Outcome {
    let lowered = target.to_ascii_lowercase();
    if !lowered.starts_with("http://") && !lowered.starts_with("https://") {
        if let Some((scheme, _)) = target.split_once("://") {
            return Err(CommandError::usage(format!(
                "--publish {target}: {scheme} is neither http nor https nor a file"
            )));
        }
        return write(Path::new(target), note);
    }
    let what = format!("cannot publish to {target}");
    tokio::time::timeout(TIME_MAX, put(target, note, ca))
        .await
        .unwrap_or_else(|_| Err(CommandError::new(format!("{what}: no answer within {} s", TIME_MAX.as_secs()))))
}

/// Whole or not at all: whoever compares with it must not find half a note.
fn write(path: &Path, note: &str) -> Outcome {
    let what = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).context(what())?;
    std::io::Write::write_all(&mut file, note.as_bytes()).context(what())?;
    file.as_file().sync_all().context(what())?;
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).context(what())?;
    file.persist(path).map(drop).context(what())
}

async fn put(url: &str, note: &str, ca: Option<&Path>) -> Outcome {
    let what = || format!("cannot publish to {url}");
    let uri: Uri = url.parse().context(what())?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_tls = uri.scheme_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let socket = TcpStream::connect((host.as_str(), port)).await.context(what())?;
    let status = if is_tls {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        let name = ServerName::try_from(host.clone()).context(format!("{host:?} is no host name"))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.context(what())?;
        send(stream, &uri, note).await.context(what())?
    } else {
        send(socket, &uri, note).await.context(what())?
    };
    if status.is_success() {
        return Ok(());
    }
    let error = CommandError::new(format!("{}: the server there answered {status}", what()));
    Err(if status.is_redirection() { error.hint("no redirect is followed: name the final URL") } else { error })
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    note: &str,
) -> Result<hyper::StatusCode, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::new(Full::new(Bytes::from(note.to_owned())));
    *request.method_mut() = Method::PUT;
    let path = uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
    if let Ok(path) = path.parse() {
        *request.uri_mut() = path;
    }
    let headers = request.headers_mut();
    if let Some(Ok(host)) = uri.authority().map(|authority| authority.as_str().parse()) {
        headers.insert(hyper::header::HOST, host);
    }
    headers.insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    // What it says is of no interest, but it should be able to say it.
    let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(status)
}

fn roots(ca: Option<&Path>) -> Outcome<RootCertStore> {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let system = SYSTEM_ROOTS.iter().map(std::path::PathBuf::from).find(|path| path.exists());
    let path = ca.map(Path::to_owned).or(named).or(system).ok_or_else(|| {
        CommandError::new("there are no root certificates to trust an https server by")
            .hint("name some with --publish-ca")
    })?;
    let pem = std::fs::read(&path).context(format!("cannot read {}", path.display()))?;
    let mut roots = RootCertStore::empty();
    let mut pem = pem.as_slice();
    let certificates = rustls_pemfile::certs(&mut pem).filter_map(Result::ok);
    // A system's bundle may hold some that rustls does not take.
    let (taken, _) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err(CommandError::new(format!("{} holds no usable root certificate", path.display())));
    }
    Ok(roots)
}
