//! `unicity why`: the evidence behind a refusal, by the tracking id that the client was given.

use clap::Args;
use serde_json::Value;

use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The tracking id; without it, the newest refusals are listed.
    #[arg(value_name = "TRACKING_ID")]
    tracking_id: Option<String>,
}

const API: &str = "api-version=2021-10-01";

pub(crate) async fn run(global: &Global, args: &WhyArgs) -> Outcome {
    match &args.tracking_id {
        Some(text) => {
            let id: unicity_identity::TrackingId = text.parse().context("the tracking id")?;
            let client = Client::open(&global.target(), &Audience::Dps)?;
            let found = client.get(&format!("/unicity/refusals/{id}?{API}")).await?;
            if global.json { output::json(&found) } else { show_whole(&found) }
        }
        None => newest(global, 50).await,
    }
}

/// Lists the newest refusals, the newest first.
async fn newest(global: &Global, limit: u32) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let page = client.get(&format!("/unicity/refusals?{API}&limit={limit}")).await?;
    let items = page.get("items").unwrap_or(&page);
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() && !global.json {
        eprintln!("nothing was refused since the server started");
    }
    for item in items {
        if global.json { output::json(item)? } else { show(item)? }
    }
    Ok(())
}

/// One refusal in three lines.
pub(super) fn show(item: &Value) -> Outcome {
    let cell = |name: &str| output::cell(item, name);
    output::line(&format!(
        "{} {} {} {} {} {}\n  {}\n  remedy: {}",
        cell("timestampUtc"),
        cell("trackingId"),
        cell("peer"),
        cell("subject"),
        cell("errorCode"),
        cell("errorName"),
        cell("cause"),
        cell("remedy")
    ))
}

/// One refusal: when, who and why, then its evidence, certificate by certificate.
fn show_whole(item: &Value) -> Outcome {
    for name in ["timestampUtc", "trackingId", "peer", "subject", "errorCode", "errorName", "cause", "remedy"] {
        output::line(&format!("{name:12}  {}", output::cell(item, name)))?;
    }
    match item.get("evidence").filter(|evidence| !evidence.is_null()) {
        Some(evidence) => evidence_lines(evidence).iter().try_for_each(|line| output::line(line)),
        None => Ok(()),
    }
}

/// The evidence of a certificate's refusal (`check`, `certificate`, `chain`, `unreadable`, `nearest`) for people; members of
/// other names as they are.
fn evidence_lines(evidence: &Value) -> Vec<String> {
    let Some(members) = evidence.as_object() else { return vec![String::new(), format!("evidence  {evidence}")] };
    let mut out = vec![String::new(), "evidence".to_owned()];
    let there = |value: &&Value| !value.is_null();
    if let Some(check) = members.get("check").filter(there) {
        out.push(format!("  failed check  {}", text(check)));
    }
    if let Some(certificate) = members.get("certificate").filter(there) {
        out.push(format!("  failed at     {}", output::cell(certificate, "subjectName")));
    }
    for (place, certificate) in members.get("chain").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let role = if place == 0 { "device" } else { "chain" };
        out.push(format!("  sent {}, {role}", place + 1));
        out.extend(certificate_lines(certificate));
    }
    for item in members.get("unreadable").and_then(Value::as_array).into_iter().flatten() {
        out.push(format!("  sent {}, unreadable: {}", output::cell(item, "place"), output::cell(item, "why")));
    }
    if let Some(near) = members.get("nearest").filter(there) {
        let why = output::cell(near, "why");
        out.push(format!("  nearest authority  {}: {why}", output::cell(near, "anchor")));
        if let Some(certificate) = near.get("certificate").filter(there) {
            out.extend(certificate_lines(certificate));
        }
    }
    // What the record above says already.
    let known = ["check", "certificate", "chain", "unreadable", "nearest", "cause", "remedy"];
    for (name, value) in members.iter().filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        out.push(format!("  {name}  {}", text(value)));
    }
    out
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn certificate_lines(certificate: &Value) -> Vec<String> {
    let cell = |name: &str| output::cell(certificate, name);
    vec![
        format!("    subject          {}", cell("subjectName")),
        format!("    issuer           {}", cell("issuerName")),
        format!("    serial           {}", cell("serialNumber")),
        format!("    valid            {} to {}", cell("notBeforeUtc"), cell("notAfterUtc")),
        format!("    sha256           {}", cell("sha256Thumbprint")),
        format!("    key              {}, {}", cell("key"), cell("keyFingerprint")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evidence_reads_from_the_check_to_the_nearest_authority() {
        let certificate = |name: &str| json!({"subjectName": name, "issuerName": "CN=i", "serialNumber": "0A"});
        let lines = evidence_lines(&json!({
            "check": "UnknownIssuer",
            "cause": "x",
            "certificate": certificate("CN=dev"),
            "chain": [certificate("CN=dev"), certificate("CN=mid")],
            "unreadable": [{"place": 3, "why": "no DER"}],
            "nearest": {"anchor": "factory", "certificate": certificate("CN=root"), "why": "another key"},
            "clockDifferenceSeconds": 7,
            "absent": null,
        }))
        .join("\n");
        let order = [
            "failed check  UnknownIssuer",
            "failed at     CN=dev",
            "sent 1, device",
            "sent 2, chain",
            "sent 3, unreadable: no DER",
            "nearest authority  factory: another key",
            "CN=root",
            "clockDifferenceSeconds  7",
        ];
        let places: Vec<_> =
            order.iter().map(|text| lines.find(text).unwrap_or_else(|| panic!("{text}: {lines}"))).collect();
        assert!(places.is_sorted(), "{lines}");
        assert!(!lines.contains("absent") && !lines.contains("cause"), "{lines}");
    }
}
