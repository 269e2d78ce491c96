//! Where the lines of stored records come from: the server's log, or a file that was kept.

use std::io::BufRead as _;
use std::path::PathBuf;

use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use unicity_identity::HubName;
use unicity_identity::sas::percent_encode;

use crate::client::{Audience, Client, Target, read_answer};
use crate::error::{Context as _, Outcome};

/// Records with the openings of sessions among them.
pub(super) enum Stored {
    /// Of a running server.
    Server(Target),
    /// Lines of `tail --json --sessions`.
    File(PathBuf),
    /// There are none.
    Nowhere,
}

/// Which records.
pub(super) struct Range<'a> {
    pub(super) hub: &'a HubName,
    pub(super) partition: u32,
    pub(super) first: u64,
    pub(super) end: u64,
    /// Only this device's.
    pub(super) device: Option<&'a str>,
}

impl Stored {
    /// Shows each record of the range that there is, with its line.
    pub(super) async fn each(&self, range: &Range<'_>, mut show: impl FnMut(&str, &Value)) -> Outcome {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(path) => {
                let file = std::fs::File::open(path).context(format!("cannot read {}", path.display()))?;
                for line in std::io::BufReader::new(file).lines() {
                    let line = line.context(format!("cannot read {}", path.display()))?;
                    let Ok(record) = serde_json::from_str::<Value>(&line) else { continue };
                    let text = |name: &str| record.get(name).and_then(Value::as_str);
                    let number = |name: &str| record.get(name).and_then(Value::as_u64);
                    let is_there = text("hub") == Some(range.hub.as_str())
                        && number("partition") == Some(u64::from(range.partition))
                        && number("offset").is_some_and(|offset| range.first <= offset && offset < range.end)
                        && range.device.is_none_or(|device| text("device") == Some(device));
                    if is_there {
                        show(&line, &record);
                    }
                }
                Ok(())
            }
            Self::Server(target) => {
                let client = Client::open(target, &Audience::Hub(Some(range.hub.to_string())))?;
                let mut path = format!(
                    "/unicity/telemetry?hub={}&partition={}&from={}&sessions=true&limit={}",
                    percent_encode(range.hub.as_str()),
                    range.partition,
                    range.first,
                    range.end.saturating_sub(range.first)
                );
                if let Some(device) = range.device {
                    path.push_str(&format!("&device={}", percent_encode(device)));
                }
                let response = client.send(Method::GET, &path, &[], None).await?;
                if !response.status().is_success() {
                    return read_answer(response).await.map(drop);
                }
                let mut body = response.into_body();
                let mut pending: Vec<u8> = Vec::new();
                while let Some(frame) = body.frame().await {
                    let frame = frame.context("the server's stream broke off")?;
                    let Some(data) = frame.data_ref() else { continue };
                    pending.extend_from_slice(data);
                    let Some(last) = pending.iter().rposition(|byte| *byte == b'\n') else { continue };
                    let rest = pending.split_off(last + 1);
                    for line in String::from_utf8_lossy(&pending).lines() {
                        let record: Value = serde_json::from_str(line).context("the server's record")?;
                        // With a device named the limit counts its records alone.
                        if record.get("offset").and_then(Value::as_u64).is_none_or(|offset| offset >= range.end) {
                            return Ok(());
                        }
                        show(line, &record);
                    }
                    pending = rest;
                }
                Ok(())
            }
        }
    }

    /// The offset that the partition's next record will get. `None`: no server says so.
    pub(super) async fn end(&self, hub: &HubName, partition: u32) -> Outcome<Option<u64>> {
        let Self::Server(target) = self else { return Ok(None) };
        let info = Client::open(target, &Audience::Hub(Some(hub.to_string())))?.get("/unicity/info").await?;
        let hubs = info.get("hubs").and_then(Value::as_array);
        let own = hubs.into_iter().flatten().find(|it| it.get("name").and_then(Value::as_str) == Some(hub.as_str()));
        Ok(own.and_then(|own| own.pointer(&format!("/partitionEnds/{partition}"))).and_then(Value::as_u64))
    }

    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }
}
