//! A line of telemetry now and then, read as any back end reads it: over HTTPS, while it comes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::cli::tail;
use crate::client::Client;

/// At most one line in so long.
const PACE: Duration = Duration::from_millis(700);

/// Follows a hub's telemetry until it is dropped.
pub(super) struct Live {
    newest: Arc<Mutex<Option<String>>>,
    shown: Mutex<Option<Instant>>,
    task: JoinHandle<()>,
}

impl Live {
    /// Starts to follow; `None` if the server does not let us, which the verdict will show in other ways.
    pub(super) async fn follow(client: &Client) -> Option<Self> {
        let path = "/unicity/telemetry?api-version=2021-04-12&from=earliest&follow=true";
        let response = client.send(Method::GET, path, &[], None).await.ok()?;
        let newest = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&newest);
        let task = tokio::spawn(async move {
            let mut body = response.into_body();
            let mut pending: Vec<u8> = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Some(data) = frame.data_ref() else { continue };
                pending.extend_from_slice(data);
                let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else { continue };
                let whole: Vec<u8> = pending.drain(..=end).collect();
                let last = whole[..end].split(|byte| *byte == b'\n').next_back().map(<[u8]>::to_vec);
                *keep.lock().unwrap_or_else(PoisonError::into_inner) =
                    last.and_then(|line| String::from_utf8(line).ok());
            }
        });
        Some(Self { newest, shown: Mutex::new(None), task })
    }

    /// The newest record, unless one was shown a moment ago.
    pub(super) fn line(&self) -> Option<String> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_some_and(|at| at.elapsed() < PACE) {
            return None;
        }
        let line = self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let record: Value = serde_json::from_str(&line).ok()?;
        *shown = Some(Instant::now());
        Some(tail::for_people(&record))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}
