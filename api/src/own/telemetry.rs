//! Telemetry as a stream of lines (NDJSON), from the log's partitions.
//!
//! The stream is drawn: a round is read when the client has taken the one before, so a slow client costs a round's memory and
//! holds nobody up. Within a round the partitions' records are merged by enqueued time, each partition's own order kept; over
//! rounds only the order within a partition is promised. Records that fell to retention while a client was slow are missing,
//! which its offsets show. If the log cannot be read, a last line has `errorCode` and `message`.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use unicity_hub::{RecordBody, StoredRecord, TelemetryReader, line, partition_of};
use unicity_identity::error::Subject;
use unicity_identity::{DeviceId, Refusal, Timestamp};

use crate::api::{Proven, Shared};
use crate::body::ApiBody;
use crate::dps::parse_id;
use crate::failure::Failure;
use crate::target::Target;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Earliest,
    Latest,
    Offset(u64),
}

fn from(target: &Target) -> Result<From, Failure> {
    match target.query("from") {
        None | Some("") => Ok(From::Latest),
        Some(text) if text.eq_ignore_ascii_case("earliest") => Ok(From::Earliest),
        Some(text) if text.eq_ignore_ascii_case("latest") => Ok(From::Latest),
        Some(text) => text
            .parse()
            .map(From::Offset)
            .map_err(|_| Failure::invalid("from", "it is an offset, earliest or latest".into())),
    }
}

/// Where one partition is read.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: u32,
    next: u64,
    /// Where to stop; `None`: never.
    end: Option<u64>,
}

/// A stream in the making.
struct Stream {
    reader: Arc<dyn TelemetryReader>,
    places: Vec<Place>,
    device: Option<DeviceId>,
    /// Records still to give; `None`: all.
    left: Option<u64>,
    follow: bool,
    /// The openings of sessions, too.
    sessions: bool,
    round_bytes: usize,
    stop: CancellationToken,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Opens a stream. `from` is `latest` unless told, an offset counts in every partition; a `device` is read from its own partition
/// only; `limit` counts records given; with `sessions=true` the openings of sessions are records as well.
pub(super) fn open(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = &proven.principal.hub()?.name;
    let target = &proven.target;
    let reader = shared.telemetry.reader(hub).ok_or_else(|| Refusal::NotFound(Subject::Hub(hub.to_string())))?;
    let device: Option<DeviceId> = target.query("device").map(parse_id).transpose()?;
    let partitions = reader.partitions();
    let wanted: Option<u32> = target.number("partition")?;
    if let Some(partition) = wanted.filter(|partition| *partition >= partitions) {
        return Err(Failure::invalid("partition", format!("it is {partition}, and the hub has {partitions}")));
    }
    let of_device = device.as_ref().map(|device| partition_of(device, partitions));
    let follow = target.flag("follow")?;
    let from = from(target)?;
    let places = (0..partitions)
        .filter(|partition| wanted.is_none_or(|wanted| wanted == *partition))
        .filter(|partition| of_device.is_none_or(|of_device| of_device == *partition))
        .map(|partition| {
            let (first, end) = reader.bounds(partition);
            let next = match from {
                From::Earliest => first,
                From::Latest => end,
                From::Offset(offset) => offset.max(first),
            };
            Place { partition, next, end: (!follow).then_some(end) }
        })
        .collect();
    let permit = shared
        .telemetry_streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refusal::Throttled { what: "telemetry streams", retry_after_seconds: 5 })?;
    let stream = Stream {
        reader,
        places,
        device,
        left: target.number("limit")?,
        follow,
        sessions: target.flag("sessions")?,
        round_bytes: shared.settings.telemetry_round_bytes.max(1),
        stop: proven.context.stop.clone(),
        ended: false,
        _permit: permit,
    };
    let body = futures_util::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next_chunk().await?;
        Some((chunk, stream))
    });
    let mut answer = Response::new(ApiBody::stream(body));
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

impl Stream {
    /// The lines of the next round that has any; `None` at the end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            if self.ended || self.left == Some(0) || self.stop.is_cancelled() {
                return None;
            }
            let due = self.due();
            if due.is_empty() {
                if !self.follow || self.places.is_empty() {
                    return None;
                }
                let beyond = self.reader.wait_beyond(self.ends());
                tokio::select! {
                    () = self.stop.cancelled() => return None,
                    // A log that wakes too early must not keep this task from yielding.
                    () = beyond => tokio::task::yield_now().await,
                }
                continue;
            }
            match self.read(due).await {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => return Some(lines.into()),
                Err(why) => {
                    self.ended = true;
                    let error = serde_json::json!({"errorCode": 503_001, "message": why});
                    return Some(format!("{error}\n").into());
                }
            }
        }
    }

    /// Indexes of the partitions that have something to read.
    fn due(&self) -> Vec<usize> {
        let has_more = |place: &Place| {
            let (_, end) = self.reader.bounds(place.partition);
            place.next < place.end.map_or(end, |stop| stop.min(end))
        };
        (0..self.places.len()).filter(|index| has_more(&self.places[*index])).collect()
    }

    /// What to wait beyond: partitions that are not asked for never wake.
    fn ends(&self) -> Vec<u64> {
        let mut ends = vec![u64::MAX; usize::try_from(self.reader.partitions()).unwrap_or(0)];
        for place in &self.places {
            if let Some(end) = ends.get_mut(usize::try_from(place.partition).unwrap_or(usize::MAX)) {
                *end = place.next;
            }
        }
        ends
    }

    /// Reads one round and writes its lines.
    async fn read(&mut self, due: Vec<usize>) -> Result<Vec<u8>, String> {
        let share = (self.round_bytes / due.len()).max(1);
        let asked: Vec<Place> = due.iter().map(|index| self.places[*index]).collect();
        let reader = self.reader.clone();
        // Files are read here, which may block.
        let read = tokio::task::spawn_blocking(move || {
            asked.iter().map(|place| reader.read(place.partition, place.next, share)).collect::<Result<Vec<_>, _>>()
        });
        let read = read.await.map_err(|error| format!("the reading broke off: {error}"))??;
        let mut queues = Vec::with_capacity(due.len());
        for (index, records) in due.into_iter().zip(read) {
            let (_, end_now) = self.reader.bounds(self.places[index].partition);
            let place = &mut self.places[index];
            let stop = place.end.unwrap_or(u64::MAX);
            // Where nothing is to be had although there should be, retention was faster: go on at the end.
            place.next = records.last().map_or_else(|| end_now.max(place.next), |last| last.offset.saturating_add(1));
            let wanted = records.into_iter().filter(|record| record.offset < stop).filter(|record| {
                let is_message = matches!(record.body, RecordBody::Telemetry(_));
                (is_message || self.sessions)
                    && self.device.as_ref().is_none_or(|id| record.body.stamp().client.device_id == *id)
            });
            queues.push((place.partition, wanted.collect::<VecDeque<_>>()));
        }
        let mut lines = Vec::new();
        while self.left != Some(0) {
            let Some((partition, record)) = take_oldest(&mut queues) else { break };
            line::write(&mut lines, partition, record.offset, &record.body);
            lines.push(b'\n');
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
        }
        Ok(lines)
    }
}

/// The head with the earliest time. Heads only, so that a clock that jumped never turns a partition's order round.
fn take_oldest(queues: &mut [(u32, VecDeque<StoredRecord>)]) -> Option<(u32, StoredRecord)> {
    let time = |record: &StoredRecord| -> Timestamp {
        match &record.body {
            RecordBody::Telemetry(message) => message.enqueued,
            RecordBody::SessionOpen { at, .. } => *at,
        }
    };
    let (_, index) = queues
        .iter()
        .enumerate()
        .filter_map(|(index, (_, queue))| queue.front().map(|record| (time(record), index)))
        .min()?;
    let (partition, queue) = queues.get_mut(index)?;
    Some((*partition, queue.pop_front()?))
}
