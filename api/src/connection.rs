//! HTTP/1.1 over one byte stream.

use std::convert::Infallible;
use std::pin::pin;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use unicity_listener::ByteStream;

use crate::body::ApiBody;
use crate::settings::ApiSettings;

/// Heads above this, or with more than [`HEADERS_MAX`] fields, get 431. Ids are at most 128 characters and tokens 4 KiB.
const HEAD_BYTES_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 64;

/// Serves requests one after the other until the peer closes or `stop` fires; then the request at hand is finished. HTTP/1.1
/// answers in order, so one connection never has more than one request in work.
pub(crate) async fn serve_http<H, F>(
    stream: Box<dyn ByteStream>,
    settings: &ApiSettings,
    stop: CancellationToken,
    handler: H,
) where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<ApiBody>>,
{
    let service = service_fn(|request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "HTTP connection ended");
    }
}
