//! `unicity doctor --last-failures`: who could not get in, handshakes that failed and refusals together. `--json` prints each as
//! the server's `/unicity/failures` has it.

use serde_json::Value;

use super::{Global, output, refusal};
use crate::client::{Audience, Client};
use crate::error::Outcome;

/// Lists them, the newest first; those of `peer` only, if it is given.
pub(super) async fn latest(global: &Global, limit: u32, peer: Option<&str>) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let mut path = format!("/unicity/failures?api-version=2021-10-01&limit={limit}");
    if let Some(peer) = peer {
        path = format!("{path}&peer={peer}");
    }
    let page = client.get(&path).await?;
    let items = page.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if items.is_empty() && !global.json {
        eprintln!("nobody failed to get in since the server started");
    }
    for item in items {
        match item.get("stage").and_then(Value::as_str) {
            _ if global.json => output::json(item)?,
            Some("handshake") => handshake_lines(item).iter().try_for_each(|line| output::line(line))?,
            _ => refusal::show(item)?,
        }
    }
    Ok(())
}

/// One peer's failed handshakes for people.
fn handshake_lines(item: &Value) -> Vec<String> {
    let cell = |name: &str| output::cell(item, name);
    let times = match item.get("count").and_then(Value::as_u64) {
        Some(count) if count > 1 => format!(" {count} times since {}", cell("firstTimestampUtc")),
        _ => String::new(),
    };
    let detail = match cell("detail") {
        detail if detail == "-" => String::new(),
        detail => format!(": {detail}"),
    };
    let (at, peer, listener, code) = (cell("timestampUtc"), cell("peer"), cell("listener"), cell("code"));
    let mut lines =
        vec![format!("{at} handshake {peer} {listener} {code}{times}"), format!("  {}{detail}", cell("cause"))];
    let (count, of_network) = (item.get("count").and_then(Value::as_u64), cell("peerNetworkFailures"));
    if count.is_some_and(|count| count.to_string() != of_network) {
        lines.push(format!("  {of_network} failed handshakes of {} in all", cell("peerNetwork")));
    }
    lines.push(format!("  remedy: {}", cell("remedy")));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_handshake_reads_as_one_story() {
        let mut item = json!({
            "timestampUtc": "T2", "firstTimestampUtc": "T1", "count": 3, "peer": "192.0.2.1:5", "peerNetwork": "192.0.2.1",
            "peerNetworkFailures": 9, "listener": "mqtt", "code": "alert", "cause": "it ended", "detail": "UnknownCA",
            "remedy": "trust it",
        });
        let told = handshake_lines(&item);
        assert_eq!(told[0], "T2 handshake 192.0.2.1:5 mqtt alert 3 times since T1");
        assert_eq!(told[1], "  it ended: UnknownCA");
        assert_eq!(told[2..], ["  9 failed handshakes of 192.0.2.1 in all", "  remedy: trust it"]);
        (item["count"], item["detail"], item["peerNetworkFailures"]) = (json!(1), json!(""), json!(1));
        assert_eq!(handshake_lines(&item), ["T2 handshake 192.0.2.1:5 mqtt alert", "  it ended", "  remedy: trust it"]);
    }
}
