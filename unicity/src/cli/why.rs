//! `unicity why`: the whole story of an identity on one screen, the newest first; or one refusal by its tracking id.

use clap::Args;
use hyper::Method;
use serde_json::Value;
use unicity_identity::TrackingId;
use unicity_identity::sas::percent_encode;

use super::{Global, audit, output, refusal};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Outcome};

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// A registration id, a device id, a group's id, a key's fingerprint, or the tracking id of a refusal; without one, the
    /// newest refusals are listed.
    #[arg(value_name = "ID")]
    id: Option<String>,
}

pub(crate) async fn run(global: &Global, args: &WhyArgs) -> Outcome {
    let Some(id) = &args.id else { return refusal::newest(global, 50).await };
    let client = Client::open(&global.target(), &Audience::Dps)?;
    // A tracking id may look like a registration id, but what is refused under it is kept by no other name.
    if let Ok(tracking_id) = id.parse::<TrackingId>()
        && let Some(found) = refusal::find(&client, &tracking_id).await?
    {
        return if global.json { output::json(&found) } else { refusal::show_whole(&found) };
    }
    let path = format!("/unicity/why/{}", percent_encode(id));
    let story = match client.call(Method::GET, &path, &[], None).await {
        Ok(answer) => answer.body,
        Err(error) if error.http_status == Some(404) => {
            return Err(CommandError::new(format!("nothing is known of {id}: no enrollment, registration, device, leaf or refusal"))
                .hint("`unicity why` alone lists the newest refusals; refusals are kept in memory, and a restart forgets them"));
        }
        Err(error) => return Err(error),
    };
    if global.json { output::json(&story) } else { show(&story).iter().try_for_each(|line| output::line(line)) }
}

/// The whole story, a section a kind of fact, each with its newest first.
fn show(story: &Value) -> Vec<String> {
    let (mut out, mut section) = (Vec::new(), "");
    let items = |name: &str| story.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // A section's title stands before its first line.
    let mut row = |title: &'static str, text: String| {
        let shown = if title == section { "" } else { title };
        section = if title.is_empty() { section } else { title };
        out.push(format!("{shown:12}  {text}"));
    };
    row("identity", identity(story));
    for standing in items("standing") {
        row("standing", standing_text(standing));
        for evidence in standing.get("evidence").and_then(Value::as_array).into_iter().flatten().take(5) {
            let cell = |name: &str| output::cell(evidence, name);
            row("", format!("  {} {} (+{}) {}", cell("at"), cell("signal"), cell("score"), cell("detail")));
        }
    }
    for revocation in items("revocations") {
        let cell = |name: &str| output::cell(revocation, name);
        row("revoked", format!("{} at {} by {}: {}", cell("target"), cell("at"), cell("by"), cell("reason")));
    }
    for session in items("sessions") {
        row("session", session_text(session));
    }
    for device in items("devices") {
        let cell = |name: &str| output::cell(device, name);
        let why = device.get("statusReason").and_then(Value::as_str).map(|why| format!(" ({why})")).unwrap_or_default();
        row(
            "device",
            format!(
                "{}/{}  {}{why}, {}, generation {}, made {}",
                cell("hub"),
                cell("deviceId"),
                cell("status"),
                cell("authentication.type"),
                cell("generationId"),
                cell("createdTime")
            ),
        );
    }
    if let Some(registration) = story.get("registration") {
        let cell = |name: &str| output::cell(registration, name);
        row(
            "registration",
            format!(
                "{} to {}, by {} {}, {} (first {})",
                cell("status"),
                cell("assignedHub"),
                cell("attestation"),
                fingerprint(&cell("keyFingerprint")),
                cell("lastUpdatedDateTimeUtc"),
                cell("createdDateTimeUtc")
            ),
        );
    }
    if let Some(transfer) = story.get("transfer") {
        row("transfer", transfer_text(transfer));
    }
    if let Some(leaf) = items("leaves").iter().find(|it| output::cell(it, "leaf.event") == "registered") {
        for line in allocation_lines(leaf) {
            row("allocation", line);
        }
    }
    if let Some(now) = story.get("allocation").and_then(prospect_text) {
        row("allocation", now);
    }
    for name in ["enrollment", "group"] as [&'static str; 2] {
        if let Some(terms) = story.get(name) {
            row(name, terms_text(terms));
        }
    }
    for key in items("keys") {
        let of: Vec<&str> =
            key.get("of").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let denied = if key.get("denied") == Some(&Value::Bool(true)) { ", DENIED" } else { "" };
        row("key", format!("{}  of {}{denied}", output::cell(key, "fingerprint"), of.join(", ")));
    }
    for refusal in items("refusals") {
        let cell = |name: &str| output::cell(refusal, name);
        row(
            "refused",
            format!("{} {} {} {}", cell("timestampUtc"), cell("errorCode"), cell("errorName"), cell("trackingId")),
        );
        row("", format!("  {}", cell("cause")));
        row("", format!("  remedy: {}", cell("remedy")));
    }
    for item in items("leaves") {
        let index = item.get("index").and_then(Value::as_u64).unwrap_or(0);
        let leaf = item.get("leaf").unwrap_or(&Value::Null);
        row("leaf", audit::leaf_line(index, leaf).trim_start().to_owned());
    }
    if let Some(text) = story.get("searched").and_then(searched) {
        row("looked at", text);
    }
    out
}

/// How the newest assignment came about, as its leaf has it.
fn allocation_lines(item: &Value) -> Vec<String> {
    let Some(leaf) = item.get("leaf") else { return Vec::new() };
    let there = |name: &str| leaf.get(name).map(|_| output::cell(leaf, name));
    let hubs = leaf.get("candidates").and_then(Value::as_array);
    let candidate = |hub: &Value| {
        let score =
            hub.get("score").map(|_| format!(", {} {}", output::cell(hub, "basis"), output::cell(hub, "score")));
        let (name, weight) = (output::cell(hub, "hub"), output::cell(hub, "weight"));
        format!("{name} (weight {weight}{})", score.unwrap_or_default())
    };
    let hubs: Vec<String> = hubs.into_iter().flatten().map(candidate).collect();
    let named = there("source").map(|source| format!(" by the {source}")).unwrap_or_default();
    let chosen = output::cell(leaf, "hub");
    let mut lines = vec![format!("{chosen}, {}{named} of {}", output::cell(leaf, "policy"), hubs.join(", "))];
    let excluded = leaf.get("excluded").and_then(Value::as_array).into_iter().flatten();
    let excluded: Vec<String> =
        excluded.map(|it| format!("{} ({})", output::cell(it, "hub"), output::cell(it, "why"))).collect();
    if !excluded.is_empty() {
        lines.push(format!("  not asked: {}", excluded.join(", ")));
    }
    lines.extend(there("reason").map(|reason| format!("  {reason}")));
    if let Some(from) = there("from") {
        let by = match there("rebalance").as_deref() {
            Some("0") => ", as an operator asked".to_owned(),
            Some(number) => format!(", by rebalance {number}"),
            None => String::new(),
        };
        lines.push(format!("  moved from {from}{by}"));
    }
    lines.push(format!("  decided in leaf {}", output::cell(item, "index")));
    lines
}

/// Where the policies in force would put it now, if that is elsewhere.
fn prospect_text(now: &Value) -> Option<String> {
    match now.get("prospect").and_then(Value::as_str) {
        Some("goes") => Some(format!(
            "now it would go to {}, {} by the {}; it does when it registers again, or by `unicity rebalance start`",
            output::cell(now, "to"),
            output::cell(now, "policy"),
            output::cell(now, "source")
        )),
        Some("stays") => Some(format!("now: {}", output::cell(now, "why"))),
        _ => None,
    }
}

fn transfer_text(transfer: &Value) -> String {
    let cell = |name: &str| output::cell(transfer, name);
    let next = match cell("stage").as_str() {
        "failed" => format!("failed: {} {}", cell("errorCode"), cell("message")),
        stage => format!("next: {stage}"),
    };
    let by = transfer.get("rebalance").map(|_| format!(", by rebalance {}", cell("rebalance"))).unwrap_or_default();
    format!("{} to {}{by}, {next}, since {} ({})", cell("from.hub"), cell("to.hub"), cell("begun"), cell("reason"))
}

fn identity(story: &Value) -> String {
    let asked = output::cell(story, "asked");
    let holder = story.get("key").map(|key| format!("key of {}", output::cell(key, "holder")));
    let id = story.get("registrationId").and_then(Value::as_str).map(|id| format!("registration {id}"));
    let group = story.pointer("/group/enrollmentGroupId").and_then(Value::as_str).map(|id| format!("group {id}"));
    let device =
        story.pointer("/devices/0/deviceId").and_then(Value::as_str).map(|id| format!("device {id}, made by hand"));
    let known = holder.or(id).or(device).or(group);
    known.map_or_else(|| format!("{asked}  (nothing is stored of it any more)"), |known| format!("{asked}  {known}"))
}

fn standing_text(standing: &Value) -> String {
    let cell = |name: &str| output::cell(standing, name);
    let by =
        standing.get("releasedBy").and_then(Value::as_str).map(|by| format!(", released by {by}")).unwrap_or_default();
    format!(
        "{} since {}, score {}, quarantined {} times{by}",
        cell("state"),
        cell("since"),
        cell("score"),
        cell("quarantines")
    )
}

fn session_text(session: &Value) -> String {
    let there = |name: &str| session.get(name).map(|_| output::cell(session, name));
    let is_live = session.get("live") == Some(&Value::Bool(true));
    let state = if is_live { "live".to_owned() } else { there("end").unwrap_or_else(|| "ended".to_owned()) };
    let mut text = format!("{} {state}", output::cell(session, "epoch"));
    if let Some(at) = there("opened") {
        text.push_str(&format!(", first message {at}"));
    }
    if let Some(at) = there("lastMessage") {
        let number = output::cell(session, "lastSequence");
        text.push_str(&format!(
            ", last {at} (message {number}, {}@{})",
            output::cell(session, "partition"),
            output::cell(session, "lastOffset")
        ));
    }
    if let Some(key) = there("keyFingerprint") {
        let method = there("authMethod").unwrap_or_else(|| "key".to_owned());
        text.push_str(&format!(", {method} {}", fingerprint(&key)));
    }
    for (name, title) in [("peer", "from"), ("tookOver", "took over from"), ("takenOverBy", "taken over by")] {
        if let Some(value) = there(name) {
            text.push_str(&format!(", {title} {value}"));
        }
    }
    text
}

fn terms_text(terms: &Value) -> String {
    let cell = |name: &str| output::cell(terms, name);
    let id = ["registrationId", "enrollmentGroupId"].iter().find_map(|name| terms.get(*name)).and_then(Value::as_str);
    let mut text = format!(
        "{}  {}, {}, changed {}",
        id.unwrap_or("-"),
        cell("provisioningStatus"),
        cell("attestation"),
        cell("lastUpdatedDateTimeUtc")
    );
    for (name, title) in [
        ("batch", "batch"),
        ("allocationPolicy", "allocation"),
        ("stickyBy", "sticky by"),
        ("clonePolicy", "clone policy"),
    ] {
        if terms.get(name).is_some() {
            text.push_str(&format!(", {title} {}", cell(name)));
        }
    }
    text
}

/// Enough of it to tell keys apart.
fn fingerprint(text: &str) -> String {
    text.chars().take(12).collect()
}

fn searched(searched: &Value) -> Option<String> {
    let number = |name: &str| searched.get(name).and_then(Value::as_u64);
    let mut text = Vec::new();
    if let (Some(leaves), Some(size)) = (number("leaves"), number("logSize")) {
        let before = number("leavesBefore").map(|before| {
            format!("; older ones: unicity audit show --identity ID --from {}", before.saturating_sub(1))
        });
        text.push(format!("{leaves} of {size} leaves{}", before.unwrap_or_default()));
    }
    if let Some(records) = number("recordsBack") {
        let bound = number("recordsBefore").map(|before| format!(" ({before} older ones were not)"));
        text.push(format!("{records} records of the partition for sessions{}", bound.unwrap_or_default()));
    }
    (!text.is_empty()).then(|| text.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_story_reads_from_what_is_now_to_what_was_decided() {
        let story = json!({
            "asked": "dev-1", "registrationId": "dev-1",
            "standing": [{"state": "quarantined", "since": "T", "score": 9, "quarantines": 1,
                "evidence": [{"at": "T", "signal": "alternation", "score": 4, "detail": "two peers"}]}],
            "sessions": [{"epoch": "00000001-000000000002", "live": true}],
            "devices": [{"hub": "default", "deviceId": "dev-1", "status": "enabled", "generationId": "7",
                "authentication": {"type": "sas"}, "createdTime": "T"}],
            "registration": {"status": "assigned", "assignedHub": "h", "attestation": "symmetricKey",
                "keyFingerprint": "ab".repeat(32)},
            "keys": [{"fingerprint": "ab".repeat(32), "of": ["registration", "device"], "denied": true}],
            "leaves": [{"index": 3, "leaf": {"event": "registered", "at": 5, "policy": "hashed", "hub": "default",
                "source": "group", "reason": "its bid is the highest", "from": "west", "rebalance": 2,
                "candidates": [{"hub": "default", "weight": 1, "score": 7, "basis": "bid"}, {"hub": "west", "weight": 2}],
                "excluded": [{"hub": "east", "why": "down"}]}}],
            "transfer": {"stage": "create", "from": {"hub": "default"}, "to": {"hub": "west"}, "begun": "T",
                "reason": "the highest bid", "rebalance": 2},
            "allocation": {"prospect": "goes", "to": "west", "policy": "hashed", "source": "service"},
            "searched": {"leaves": 4, "logSize": 4, "recordsBack": 20_000, "recordsBefore": 7},
        });
        let text = show(&story).join("\n");
        let order = [
            "registration dev-1",
            "quarantined since T",
            "alternation (+4) two peers",
            "00000001-000000000002 live",
            "default/dev-1  enabled, sas, generation 7",
            "assigned to h, by symmetricKey abababababab",
            "default to west, by rebalance 2, next: create, since T",
            "default, hashed by the group of default (weight 1, bid 7), west (weight 2)",
            "not asked: east (down)",
            "its bid is the highest",
            "moved from west, by rebalance 2",
            "decided in leaf 3",
            "now it would go to west, hashed by the service",
            "of registration, device, DENIED",
            "3  1970-01-01T00:00:00.005Z  registered",
            "4 of 4 leaves, 20000 records of the partition for sessions (7 older ones were not)",
        ];
        let places: Vec<_> =
            order.iter().map(|part| text.find(part).unwrap_or_else(|| panic!("{part}:\n{text}"))).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
