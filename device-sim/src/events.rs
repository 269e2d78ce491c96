//! Events of a fleet as JSON lines. The shape is stable: each line has `event` and `at_ms` (since the begin); a device's
//! has `device` and `group`; the rest depends on the event, as [`Event`] says.
//!
//! Writing never holds a device up: what the sink cannot take in time is left out and counted, and the count stands in the
//! next line that is written.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use unicity_identity::RegistrationId;

use crate::engine::EngineReport;

/// Lines that wait for the sink, at most.
const QUEUE: usize = 16_384;
/// How long the end of a run waits for a slow sink.
const PATIENCE: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    Started {
        /// Devices.
        devices: usize,
        /// Unix time, in milliseconds.
        unix_ms: u64,
    },
    /// The provisioning service assigned a hub.
    Registered {
        /// The hub.
        hub: String,
        /// The id there.
        device_id: String,
        /// First SYN to `assigned`, in microseconds.
        took_us: u64,
    },
    /// The hub accepted.
    Connected {
        /// The hub.
        hub: String,
        /// TCP, TLS and CONNECT, in microseconds.
        took_us: u64,
        /// How long the device was away without wanting to, in milliseconds; absent if it wanted to.
        #[serde(skip_serializing_if = "Option::is_none")]
        outage_ms: Option<u64>,
    },
    /// The session is over.
    Disconnected {
        /// `done`, `stopped`, `away`, `renew`, a disturbance's name, or `lost`.
        reason: &'static str,
        /// How it was lost.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Messages without an acknowledgement, sent again in the next session.
        unacknowledged: usize,
    },
    /// A connection was refused, with the kind and text of the error.
    Refused {
        /// `provisioning` or `hub`.
        by: &'static str,
        /// [`SimError::kind`](crate::SimError::kind).
        kind: &'static str,
        /// Its text.
        error: String,
    },
    /// The device waits before it tries again.
    Reconnecting {
        /// How long, in milliseconds.
        in_ms: u64,
        /// Failures in a row.
        failures: u32,
        /// Why.
        error: String,
    },
    /// The device has a session with a new token.
    Renewed,
    /// The hub refused so often that the device goes back to the provisioning service.
    Reprovisioning {
        /// Refusals in a row.
        refusals: u32,
    },
    /// The hub did not grant a subscription; told once a group.
    SubscriptionRefused {
        /// The filter.
        filter: &'static str,
    },
    /// The device answered a direct method.
    Method {
        /// Its name.
        name: String,
        /// The answer's status.
        status: u16,
    },
    /// The device gives up.
    Failed {
        /// Why.
        error: String,
    },
    /// What a copied credential was good for.
    Attack {
        /// The attack.
        attack: &'static str,
        /// What the server did.
        seen: String,
    },
    /// Counts since the last such line, once a second.
    Acknowledged {
        /// Messages acknowledged in this interval.
        count: u64,
        /// Since the begin.
        total: u64,
        /// Sessions open now.
        open: u64,
    },
    /// The end, with the run in figures.
    Summary(Box<EngineReport>),
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event,
    /// Lines left out before this one.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

struct Told {
    at: Duration,
    who: Option<(RegistrationId, Arc<str>)>,
    event: Event,
}

/// Where events go.
pub struct EventSink {
    began: Instant,
    out: Option<Out>,
}

struct Out {
    sender: SyncSender<Told>,
    left_out: Arc<AtomicU64>,
    /// Written after all others, and never left out.
    last: Arc<Mutex<Option<Told>>>,
    ended: Mutex<Receiver<()>>,
}

impl EventSink {
    /// Events go nowhere.
    #[must_use]
    pub fn none() -> Self {
        Self { began: Instant::now(), out: None }
    }

    /// Events are written to `writer` by a thread of their own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn to(writer: impl Write + Send + 'static) -> std::io::Result<Self> {
        Self::bounded(writer, QUEUE)
    }

    fn bounded(writer: impl Write + Send + 'static, queue: usize) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let (end, ended) = mpsc::sync_channel(1);
        let left_out = Arc::new(AtomicU64::new(0));
        let last = Arc::new(Mutex::new(None));
        let (lost, final_word) = (Arc::clone(&left_out), Arc::clone(&last));
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            // A closed pipe is the reader's choice.
            let _ = write(&receiver, writer, &lost, &final_word);
            let _ = end.send(());
        })?;
        Ok(Self { began: Instant::now(), out: Some(Out { sender, left_out, last, ended: Mutex::new(ended) }) })
    }

    /// Tells of the run.
    pub fn tell(&self, event: Event) {
        self.put(None, event);
    }

    /// Tells of a device. What happened is only made up if somebody listens.
    pub fn of(&self, id: &RegistrationId, group: &Arc<str>, event: impl FnOnce() -> Event) {
        if self.out.is_some() {
            self.put(Some((id.clone(), Arc::clone(group))), event());
        }
    }

    fn put(&self, who: Option<(RegistrationId, Arc<str>)>, event: Event) {
        if let Some(out) = &self.out
            && out.sender.try_send(Told { at: self.began.elapsed(), who, event }).is_err()
        {
            out.left_out.fetch_add(1, Relaxed);
        }
    }

    /// Tells the last event, then waits, not for ever, until all is written.
    pub fn finish(self, last: Event) {
        if let Some(out) = self.out {
            *out.last.lock() = Some(Told { at: self.began.elapsed(), who: None, event: last });
            drop(out.sender);
            let _ = out.ended.lock().recv_timeout(PATIENCE);
        }
    }
}

fn write(
    receiver: &Receiver<Told>,
    writer: impl Write,
    left_out: &AtomicU64,
    last: &Mutex<Option<Told>>,
) -> std::io::Result<()> {
    let mut writer = std::io::BufWriter::new(writer);
    let put = |writer: &mut dyn Write, told: &Told| {
        let (device, group) =
            told.who.as_ref().map_or((None, None), |(id, group)| (Some(id.as_str()), Some(group.as_ref())));
        let at_ms = u64::try_from(told.at.as_millis()).unwrap_or(u64::MAX);
        let line = Line { at_ms, device, group, event: &told.event, left_out: left_out.swap(0, Relaxed) };
        serde_json::to_writer(&mut *writer, &line)?;
        writer.write_all(b"\n")
    };
    loop {
        let told = match receiver.try_recv() {
            Ok(told) => told,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                writer.flush()?;
                match receiver.recv() {
                    Ok(told) => told,
                    Err(_) => break,
                }
            }
        };
        put(&mut writer, &told)?;
    }
    if let Some(told) = last.lock().take() {
        put(&mut writer, &told)?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing before its gate opens.
    struct Gated {
        gate: Option<Receiver<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if let Some(gate) = self.gate.take() {
                let _ = gate.recv();
            }
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(written: &Mutex<Vec<u8>>) -> Vec<serde_json::Value> {
        let bytes = written.lock().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_says_what_when_and_who() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = EventSink::to(Gated { gate: None, written: Arc::clone(&written) }).unwrap();
        sink.tell(Event::Started { devices: 2, unix_ms: 5 });
        sink.of(&"dev-1".parse().unwrap(), &"cars".into(), || Event::Disconnected {
            reason: "done",
            error: None,
            unacknowledged: 0,
        });
        sink.finish(Event::Renewed);
        let lines = lines(&written);
        assert_eq!((&lines[0]["event"], &lines[0]["devices"]), (&"started".into(), &2.into()));
        assert!(lines[0].get("device").is_none() && lines[0].get("left_out").is_none());
        let mut second = lines[1].clone();
        assert!(second["at_ms"].take().is_u64());
        let expected = r#"{"at_ms":null,"device":"dev-1","group":"cars","event":"disconnected","reason":"done","unacknowledged":0}"#;
        assert_eq!(second, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    }

    #[test]
    fn a_slow_sink_loses_events_and_says_how_many() {
        let (open, gate) = sync_channel(1);
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = EventSink::bounded(Gated { gate: Some(gate), written: Arc::clone(&written) }, 4).unwrap();
        for _ in 0..50 {
            sink.tell(Event::Renewed);
        }
        open.send(()).unwrap();
        sink.finish(Event::Renewed);
        let lines = lines(&written);
        let left_out: u64 = lines.iter().filter_map(|line| line["left_out"].as_u64()).sum();
        assert!(lines.len() > 4 && left_out > 0, "{lines:?}");
        assert_eq!(lines.len() as u64 + left_out, 51, "{lines:?}");
    }

    #[test]
    fn nobody_listening_costs_nothing() {
        let sink = EventSink::none();
        sink.of(&"dev-1".parse().unwrap(), &"cars".into(), || unreachable!("nobody asked"));
        sink.finish(Event::Renewed);
    }
}
