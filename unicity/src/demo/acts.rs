//! What clones, operators and weak keys lead to: the rows that need more than a thief with a copied credential.

use std::time::Instant;

use futures_util::future::join3;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use unicity_device_sim::{Actor, Seen};

use super::Stage;
use super::evidence::{self, Evidence, Wanted};
use super::row::{Done, Heading};
use super::script::{Script, enrol, member};
use crate::error::{CommandError, Context as _, Outcome};

/// Two clients that fight are found out at the seventh takeover; this only ends a demo in which they are not.
const TAKEOVERS_MAX: usize = 24;

const PING_PONG: Heading = (
    "ping-pong",
    "key",
    "quarantined",
    "two devices with one key: suspected, both shut out until an operator releases it",
);

/// Owner and thief take the session from each other until the server lets neither in; an operator releases it.
async fn ping_pong(stage: &Stage) -> Outcome<Done> {
    let id = "owner-ping-pong";
    let device = enrol(stage, id, &json!({"clonePolicy": "quarantine"}), false).await?;
    let mut script = Script::new(stage, PING_PONG.0);
    let assignment = script.register(Actor::Owner, &device, None).await?;
    let mut live = Some((Actor::Owner, script.go_live(&device, &assignment).await?));
    let mut takeovers = 0;
    let shut_out = |seen: &Seen| matches!(seen, Seen::Connack { code: 3 });
    while takeovers < TAKEOVERS_MAX {
        let who = if takeovers % 2 == 0 { Actor::Thief } else { Actor::Owner };
        match script.connect(who, &device, &assignment).await {
            Ok(session) => {
                takeovers += 1;
                // Whoever lost it sees that, and closes its end: somebody was there.
                if let Some((loser, lost)) = live.replace((who, session)) {
                    script.cut(loser, lost).await?;
                }
            }
            Err(seen) if shut_out(&seen) => break,
            // Let in and cut before it was told so.
            Err(Seen::Closed) => {}
            Err(other) => return Err(CommandError::new(format!("connect: {other}"))),
        }
    }
    if let Some((last, session)) = live {
        script.cut(last, session).await?;
    }
    let held = evidence::standing(stage, id, "quarantined").await?.map_err(CommandError::new)?;
    let mut refused = true;
    for who in [Actor::Owner, Actor::Thief] {
        let answer = script.connect(who, &device, &assignment).await;
        refused &= answer.is_err_and(|seen| shut_out(&seen));
    }
    script.operator("release", &format!("/unicity/standing/release?registrationId={id}"), None).await?;
    script.go_live(&device, &assignment).await?.disconnect().await;
    let leaf = |events| Wanted::Leaf { identity: id.to_owned(), events, note: "" };
    let mut wanted = vec![leaf("quarantined"), leaf("released")];
    wanted.extend(held.into_iter().map(Wanted::Found));
    wanted.push(Wanted::Refusals { subject: id.to_owned(), because: "" });
    let outcome = if refused { "quarantined" } else { "accepted" };
    Ok(script.end(outcome, String::from("CONNACK 3"), wanted))
}

const STALE_COUNTER: Heading =
    ("stale-counter", "key", "suspected", "a copy of an old disk shows a continuity token that the device has passed");

/// The owner's token goes on, and a copy of an earlier one comes.
async fn stale_counter(stage: &Stage) -> Outcome<Done> {
    let device = member(stage, "owner-stale-counter")?;
    let mut script = Script::new(stage, STALE_COUNTER.0);
    let token = |payload: Option<Value>| {
        let member = payload.and_then(|payload| payload.get("$unicity").cloned());
        member.map(|member| json!({"$unicity": member})).ok_or_else(|| CommandError::new("the answer has no token"))
    };
    let copied = token(script.register(Actor::Owner, &device, None).await?.payload)?;
    let mut newest = copied.clone();
    for _ in 0..2 {
        newest = token(script.register(Actor::Owner, &device, Some(&newest)).await?.payload)?;
    }
    script.register(Actor::Thief, &device, Some(&copied)).await?;
    let id = device.registration_id.to_string();
    let wanted = vec![
        Wanted::Leaf { identity: id.clone(), events: "suspected", note: "" },
        Wanted::Standing { registration_id: id, state: "suspected" },
    ];
    Ok(script.end("suspected", None, wanted))
}

const REVOKED_DEVICE: Heading =
    ("revoked-device", "key", "revoked", "one command: its session is cut, and no CONNECT is accepted any more");
const REVOKED_BATCH: Heading =
    ("revoked-batch", "key", "revoked", "all devices whose enrollments carry a label, by one command");

async fn revoked_device(stage: &Stage) -> Outcome<Done> {
    let id = "owner-revoked";
    let device = member(stage, id)?;
    revoke(Script::new(stage, REVOKED_DEVICE.0), vec![device], json!({"registrationId": id}), id).await
}

async fn revoked_batch(stage: &Stage) -> Outcome<Done> {
    let label = "demo-batch";
    let mut devices = Vec::new();
    for id in ["owner-batch-1", "owner-batch-2"] {
        devices.push(enrol(stage, id, &json!({"batch": label}), false).await?);
    }
    revoke(Script::new(stage, REVOKED_BATCH.0), devices, json!({"batch": label}), label).await
}

/// Live devices are revoked. Times are the operator's: from the command until the last session was seen to end, and until the last
/// CONNECT after that was refused.
async fn revoke(
    mut script: Script<'_>,
    devices: Vec<unicity_device_sim::Device>,
    mut target: Value,
    identity: &str,
) -> Outcome<Done> {
    let mut live = Vec::new();
    for device in &devices {
        let assignment = script.register(Actor::Owner, device, None).await?;
        let session = script.go_live(device, &assignment).await?;
        live.push((device, assignment, session));
    }
    target["reason"] = json!("shown by the demo");
    let began = Instant::now();
    let answer = script.operator("revoke", "/unicity/revocations?api-version=2021-10-01", Some(&target)).await?;
    let mut cut = Vec::new();
    for (device, assignment, session) in live {
        script.cut(Actor::Owner, session).await?;
        cut.push((device, assignment));
    }
    let cut_ms = milliseconds(began);
    let mut refused = true;
    for (device, assignment) in &cut {
        let again = script.connect(Actor::Owner, device, assignment).await;
        refused &= again.is_err_and(|seen| matches!(seen, Seen::Connack { code: 5 }));
    }
    let refused_ms = milliseconds(began);
    let shown = json!({"revoke": answer, "cutSeenAfterMs": cut_ms, "refusedAfterMs": refused_ms});
    let text = format!("cut {cut_ms:.1} ms, refused {refused_ms:.1} ms");
    let mut wanted = vec![
        Wanted::Found(Evidence::new("revocation", text, shown)),
        Wanted::Leaf { identity: identity.to_owned(), events: "revoked", note: "" },
    ];
    let subjects = devices.iter().map(|device| device.registration_id.to_string());
    wanted.extend(subjects.map(|subject| Wanted::Refusals { subject, because: "" }));
    let outcome = if refused { "revoked" } else { "accepted" };
    Ok(script.end(outcome, String::from("CONNACK 5"), wanted))
}

fn milliseconds(began: Instant) -> f64 {
    (began.elapsed().as_secs_f64() * 1e5).round() / 1e2
}

const WEAK_KEY: Heading =
    ("published-key", "certificate", "refused", "a key whose private half stands in RFC 9500 proves nothing");

/// RFC 9500's P-256 test key, for which everybody can sign: PKCS#8 in hexadecimal.
const PUBLISHED_KEY: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420\
    e6cb5bdd80aa45ae9c95e8c15476679ffec953c16851e711e743939589c64fc1a144034200\
    04422548f88fb782ffb5eca3744452c72a1e558fbd6f73be5e48e93232cc45c5b1\
    6c4cd10c4cb8d5b8a17139e94882c8992572993425f41419ab7e90a42a494272";

/// Somebody enrols a device by a certificate over a published key.
async fn weak_key(stage: &Stage) -> Outcome<Done> {
    let id = "owner-published-key";
    let der: Option<Vec<u8>> = (0..PUBLISHED_KEY.len() / 2)
        .map(|at| PUBLISHED_KEY.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let key = KeyPair::try_from(der.unwrap_or_default()).context("the published key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, id);
    let certificate = params.self_signed(&key).context("a certificate over the published key")?;
    let attestation =
        json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": certificate.pem()}}}});
    let body = json!({"registrationId": id, "attestation": attestation});
    let mut script = Script::new(stage, WEAK_KEY.0);
    let seen = evidence::refused(stage, &format!("/enrollments/{id}?api-version=2021-10-01"), &body).await?;
    let outcome = if matches!(seen, Seen::Status { status: 400..=499, .. }) { "refused" } else { "accepted" };
    let detail = seen.to_string();
    script.note(Actor::Thief, "enrol", seen);
    Ok(script.end(outcome, detail, vec![Wanted::Refusals { subject: id.to_owned(), because: "RFC 9500" }]))
}

/// Those that may run beside others: each has a device of its own.
pub(super) async fn beside_others(stage: &Stage) -> [(Heading, Outcome<Done>); 3] {
    let (fight, stale, weak) = join3(ping_pong(stage), stale_counter(stage), weak_key(stage)).await;
    [(PING_PONG, fight), (STALE_COUNTER, stale), (WEAK_KEY, weak)]
}

/// Those of which the time is told: nothing runs beside them.
pub(super) async fn alone(stage: &Stage) -> [(Heading, Outcome<Done>); 2] {
    [(REVOKED_DEVICE, revoked_device(stage).await), (REVOKED_BATCH, revoked_batch(stage).await)]
}
