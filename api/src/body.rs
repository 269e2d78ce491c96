//! Bodies: how a request's is read within its limits, and how an answer's is made.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use unicity_identity::Refusal;

use crate::failure::Failure;

/// The body of an answer: whole, or a stream that is drawn as fast as the client reads.
pub struct ApiBody(Inner);

enum Inner {
    Whole(Full<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl ApiBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Whole(Full::new(bytes.into())))
    }

    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(stream)))
    }
}

impl fmt::Debug for ApiBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Whole(_) => "ApiBody(whole)",
            Inner::Stream(_) => "ApiBody(stream)",
        })
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Inner::Whole(body) => Pin::new(body).poll_frame(context),
            Inner::Stream(stream) => {
                stream.as_mut().poll_next(context).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(body) => body.is_end_stream(),
            Inner::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(body) => body.size_hint(),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

/// Reads a whole body of at most `bytes_max` bytes within `timeout`.
pub(crate) async fn read<B>(body: B, bytes_max: usize, timeout: Duration) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = |length| Failure::from(Refusal::TooLarge { what: "the body", length, max: bytes_max });
    // What the client announces need not be read to be refused.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(too_large(announced));
    }
    match tokio::time::timeout(timeout, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(bytes_max.saturating_add(1))),
        Ok(Err(error)) => Err(Failure::invalid("body", format!("it broke off: {error}"))),
        Err(_) => Err(Failure::new(408_001, "RequestTimeout", format!("the body did not arrive within {timeout:?}"))),
    }
}

/// An answer with a JSON body. The content type is what Node needs to parse it at all (`service-rest.md` 1.5).
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<ApiBody> {
    json_text(status, value.to_string())
}

/// The same for JSON that is text already.
pub(crate) fn json_text(status: StatusCode, text: String) -> Response<ApiBody> {
    with_type(status, text, "application/json; charset=utf-8")
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, text: &str) -> Response<ApiBody> {
    with_type(status, text.to_owned(), "text/plain; charset=utf-8")
}

/// 204, without a body.
pub(crate) fn no_content() -> Response<ApiBody> {
    let mut answer = Response::new(ApiBody::whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn with_type(status: StatusCode, text: String, content_type: &'static str) -> Response<ApiBody> {
    let mut answer = Response::new(ApiBody::whole(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
