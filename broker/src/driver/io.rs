//! One step of reading and writing at once, so that a client which sends without reading is not waited for, and one that reads
//! slowly is not read from.

use std::future::poll_fn;
use std::io::{Error, ErrorKind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use unicity_listener::ByteStream;

/// The most that is asked of the stream in one read.
const CHUNK_MAX: usize = 64 * 1024;

/// What came of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// So many bytes came.
    Read,
    /// The peer will send no more.
    End,
    /// Some bytes went out, or all are flushed.
    Wrote,
    /// The stream broke.
    Broken(Error),
}

/// A stream with its buffers.
pub(super) struct Wire {
    stream: Box<dyn ByteStream>,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    is_flushed: bool,
    chunk: usize,
    chunk_min: usize,
    /// What the stream broke with, to be told after the bytes that came before.
    broken: Option<Error>,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn ByteStream>, chunk_min: usize) -> Self {
        let chunk_min = chunk_min.clamp(64, CHUNK_MAX);
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Self { stream, input, output, is_flushed: true, chunk: chunk_min, chunk_min, broken: None }
    }

    /// Whether the peer has yet to take something.
    pub(super) fn is_writing(&self) -> bool {
        !self.output.is_empty() || !self.is_flushed
    }

    /// Gives memory back that an idle connection has no use for: there are tens of thousands of them.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() && self.chunk == self.chunk_min && self.input.capacity() > 4 * self.chunk_min {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() && (self.output.capacity() > 4096 || self.chunk == self.chunk_min) {
            self.output = BytesMut::new();
        }
    }

    /// Writes what there is, and reads if `read`. Waits while neither is possible. Cancel safe.
    pub(super) async fn step(&mut self, read: bool) -> Step {
        poll_fn(|cx| {
            if let Some(error) = self.broken.take() {
                return Poll::Ready(Step::Broken(error));
            }
            let mut wrote = false;
            while !self.output.is_empty() {
                match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Step::Broken(ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => {
                        self.output.advance(count);
                        (self.is_flushed, wrote) = (false, true);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Broken(error)),
                    Poll::Pending => break,
                }
            }
            if self.output.is_empty() && !self.is_flushed {
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => (self.is_flushed, wrote) = (true, true),
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Broken(error)),
                    Poll::Pending => {}
                }
            }
            if read && let Some(step) = self.read(cx) {
                return Poll::Ready(step);
            }
            if wrote { Poll::Ready(Step::Wrote) } else { Poll::Pending }
        })
        .await
    }

    /// Reads all that is there, so that one look at the session serves all of it; `None` while nothing is.
    fn read(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        let before = self.input.len();
        let mut is_ended = false;
        while self.input.len() - before < CHUNK_MAX {
            // Grows with what has come, not with what a header announces.
            self.input.reserve(self.chunk.max(self.input.len().min(CHUNK_MAX)));
            let room = self.input.capacity() - self.input.len();
            match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
                Poll::Ready(Ok(0)) => is_ended = true,
                Poll::Ready(Ok(count)) => {
                    if count == room {
                        self.chunk = (self.chunk * 2).min(CHUNK_MAX);
                    }
                    continue;
                }
                Poll::Ready(Err(error)) => self.broken = Some(error),
                Poll::Pending => {}
            }
            break;
        }
        let count = self.input.len() - before;
        if count > 0 {
            if count < self.chunk / 4 {
                self.chunk = self.chunk_min;
            }
            return Some(Step::Read);
        }
        if self.input.is_empty() && self.chunk == self.chunk_min {
            // Who sends little has no buffer while nothing comes: it is made anew in no time.
            self.input = BytesMut::new();
        }
        match self.broken.take() {
            Some(error) => Some(Step::Broken(error)),
            None => is_ended.then_some(Step::End),
        }
    }

    /// Writes all there is and says that no more will come. With `linger` it then reads what the peer has under way, for a
    /// bounded time and size: a socket that is closed over unread bytes is reset, and the peer could lose the last words. `true`:
    /// the peer closed its end in answer, so somebody is there.
    pub(super) async fn finish(&mut self, linger: bool) -> bool {
        use tokio::io::AsyncWriteExt;
        while self.is_writing() {
            if let Step::Broken(_) = self.step(false).await {
                return false;
            }
        }
        if self.stream.shutdown().await.is_err() || !linger {
            return false;
        }
        let mut sink = BytesMut::with_capacity(4096);
        for _ in 0..64 {
            sink.clear();
            match self.stream.read_buf(&mut sink).await {
                Ok(0) => return true,
                // Many clients close the socket without TLS's own goodbye.
                Err(error) => return error.kind() == ErrorKind::UnexpectedEof,
                Ok(_) => {}
            }
        }
        false
    }
}
