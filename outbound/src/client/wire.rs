//! One connection: a request goes out, a bounded reply comes back.

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;

use super::call::{Call, Reply};
use super::endpoint::Endpoint;
use super::error::CallError;

/// Longest status line with headers, and most headers, that a reply may have.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 100;

/// A reply that did not come, and what is known of the request.
pub(super) struct SendFailure {
    pub(super) error: CallError,
    /// It never left this side.
    pub(super) unsent: bool,
    /// No reply had begun.
    pub(super) unanswered: bool,
}

/// An open connection. It ends when this is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, stream: TlsStream<TcpStream>) -> Result<Self, CallError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| CallError::Connect { host: endpoint.host().into(), cause: error.to_string() })?;
        // Its end is seen at the sender.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, driver })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.sender.ready().await
    }

    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>, max: usize) -> Result<Reply, SendFailure> {
        let response = self.sender.try_send_request(request).await.map_err(|mut failure| {
            let unsent = failure.take_message().is_some();
            let error = failure.into_error();
            // Bytes that are no reply are an answer of a kind.
            SendFailure { unsent, unanswered: !error.is_parse(), error: broken(&error) }
        })?;
        let (head, body) = response.into_parts();
        let answered = |error| SendFailure { error, unsent: false, unanswered: false };
        if head.status.is_informational() {
            return Err(answered(CallError::Protocol(format!("status {}", head.status.as_u16()))));
        }
        let body = read(body, head.status.as_u16(), max).await.map_err(answered)?;
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

/// Reads a body; what says beforehand that it is too long is not read at all.
async fn read(mut body: Incoming, status: u16, max: usize) -> Result<Bytes, CallError> {
    let too_large = || CallError::TooLarge { status, max };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > max {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

fn broken(error: &hyper::Error) -> CallError {
    let cause =
        std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    if error.is_parse() { CallError::Protocol(cause) } else { CallError::Broken(cause) }
}

/// The request as it goes out.
pub(super) fn request(endpoint: &Endpoint, call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
    if !call.path_and_query.starts_with('/') {
        return Err(CallError::Invalid("the path does not begin with a slash".into()));
    }
    let path: PathAndQuery =
        call.path_and_query.parse().map_err(|_| CallError::Invalid("the path holds a character it must not".into()))?;
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = Uri::from(path);
    let headers = request.headers_mut();
    *headers = call.headers.clone();
    for own in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE, header::EXPECT]
    {
        headers.remove(own);
    }
    let authority = HeaderValue::from_str(&endpoint.authority())
        .map_err(|_| CallError::Invalid("the host cannot stand in a header".into()))?;
    headers.insert(header::HOST, authority);
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!("unicity/", env!("CARGO_PKG_VERSION"))));
    Ok(request)
}
