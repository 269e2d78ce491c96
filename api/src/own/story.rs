//! The whole story of an identity in one answer: what is stored of it, its session, what was refused it, and its leaves.
//!
//! Members, each left out where there is nothing to say: `asked`, `registrationId`, `enrollment`, `group`, `registration`,
//! `transfer`, `allocation` (where it would go now, and why), `devices`, `keys`, `standing`, `revocations`, `sessions`, `refusals`, `leaves`, and `searched`, which says how far
//! back sessions and leaves were looked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use unicity_audit::Bounds;
use unicity_hub::suspicion::Suspicion;
use unicity_hub::{RecordBody, Sessions, TelemetryLog, partition_of};
use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    Attestation, ClientIdentity, DeviceId, DeviceIdentity, EnrollmentGroup, EnrollmentGroupId, EnrollmentRef,
    IndividualEnrollment, KeyFingerprint, ProvisioningStatus, Refusal, Registration, RegistrationId, Revocation,
    RevocationTarget, Standing, Timestamp,
};
use unicity_provisioning::answer::registration_state;
use unicity_provisioning::decide::{Prospect, foresee};
use unicity_provisioning::evidence::RefusalRecord;
use unicity_provisioning::leaf_filter::LeafFilter;
use unicity_provisioning::{Provisioning, Registry};

use super::{allocation, audit, server, standing, transfers};
use crate::api::Shared;
use crate::audit::AuditLog;
use crate::body::{ApiBody, json as json_answer};
use crate::dps::show_allocation;
use crate::failure::Failure;
use crate::hub::show_device;

const LEAVES_MAX: usize = 20;
const REFUSALS_MAX: usize = 10;
const SESSIONS_MAX: usize = 5;
/// Records of a partition that are looked through for sessions, and bytes of them.
const RECORDS_BACK: u64 = 20_000;
const RECORD_BYTES: usize = 1 << 20;

/// What a story needs, for a thread that may block.
struct Sources {
    provisioning: Provisioning,
    sessions: Arc<Sessions>,
    suspicion: Arc<Suspicion>,
    now: Timestamp,
    telemetry: Arc<dyn TelemetryLog>,
    log: Option<Arc<dyn AuditLog>>,
}

/// All that is stored of an identity.
#[derive(Default)]
struct Known {
    registration_id: Option<RegistrationId>,
    individual: Option<IndividualEnrollment>,
    group: Option<EnrollmentGroup>,
    registration: Option<Registration>,
    devices: Vec<DeviceIdentity>,
    standings: Vec<Standing>,
}

/// Tells the story of a registration id, a device id, a group's id or a key's fingerprint.
pub(super) async fn tell(shared: &Shared, asked: &str) -> Result<Response<ApiBody>, Failure> {
    let log = shared.audit.clone();
    if log.as_ref().is_some_and(|log| log.size() < log.decided()) {
        audit::sign(shared, false).await.map(drop).or_else(audit::unsigned)?;
    }
    let sources = Sources {
        provisioning: shared.provisioning.clone(),
        sessions: shared.sessions.clone(),
        suspicion: shared.suspicion.clone(),
        now: shared.environment.now(),
        telemetry: shared.telemetry.clone(),
        log,
    };
    let asked: String = asked.chars().take(256).collect();
    let _turn = shared.audit_work.acquire().await;
    Shared::blocking(move || sources.story(&asked).map(|story| json_answer(StatusCode::OK, &story))).await
}

impl Sources {
    fn registry(&self) -> &Arc<dyn Registry> {
        self.provisioning.registry()
    }

    fn story(&self, asked: &str) -> Result<Value, Failure> {
        let key: Option<KeyFingerprint> = asked.to_ascii_lowercase().parse().ok();
        let owner = key.map(|key| self.registry().key_owner(&key)).transpose()?.flatten();
        let known = match &owner {
            Some(owner) => self.known_of(owner)?,
            None => self.known_by(asked)?,
        };
        let mut story = Map::new();
        story.insert("asked".into(), json!(asked));
        if let (Some(key), Some(owner)) = (key, &owner) {
            story.insert("key".into(), json!({"fingerprint": key.to_string(), "holder": owner.to_string()}));
        }
        // What an id was called before its letters were lowered is in no leaf.
        let named = match (&known.registration_id, known.devices.first(), &known.group) {
            (Some(id), _, _) => id.to_string(),
            (None, Some(device), _) => device.device_id.to_string(),
            (None, None, Some(group)) => group.group_id.to_string(),
            (None, None, None) => key.map_or_else(|| asked.to_owned(), |key| key.to_string()),
        };
        self.stored(&known, &mut story)?;
        let mut searched = Map::new();
        self.sessions(&known, &mut story, &mut searched)?;
        let refusals: Vec<Value> = self
            .provisioning
            .refusals()
            .find(REFUSALS_MAX, |refusal| is_about(refusal, &named, asked))
            .iter()
            .map(server::show)
            .collect();
        let is_refused = !refusals.is_empty();
        insert_some(&mut story, "refusals", refusals);
        self.leaves(&named, &mut story, &mut searched)?;
        let is_known = story.keys().any(|name| name != "asked" && name != "key");
        if !is_known && !is_refused {
            let shown: String = named.chars().take(128).collect();
            return Err(Failure::new(404_000, "NotFound", format!("nothing is known of {shown}")));
        }
        story.insert("searched".into(), Value::Object(searched));
        Ok(Value::Object(story))
    }

    fn known_of(&self, owner: &KeyOwner) -> Result<Known, Failure> {
        match owner {
            KeyOwner::Registration(id) => self.known_by(id.as_str()),
            KeyOwner::Group(id) => Ok(Known { group: self.registry().group(id)?, ..Known::default() }),
            KeyOwner::Device(hub, id) | KeyOwner::Module(hub, id, _) => {
                let mut known = Known::default();
                known.devices.extend(self.registry().device(hub, id)?);
                known.standings.extend(self.registry().standing(owner)?);
                Ok(known)
            }
        }
    }

    fn known_by(&self, asked: &str) -> Result<Known, Failure> {
        let registry = self.registry();
        let mut known = Known::default();
        if let Ok(id) = asked.parse::<RegistrationId>() {
            known.individual = registry.individual(&id)?;
            known.registration = registry.registration(&id)?;
            let standing = registry.standing(&KeyOwner::Registration(id.clone()))?;
            if known.individual.is_some() || known.registration.is_some() || standing.is_some() {
                known.registration_id = Some(id);
            }
            known.standings.extend(standing);
        }
        let hubs: Vec<_> = self.provisioning.hubs()?.iter().map(|hub| hub.name.clone()).collect();
        let at_hub = known.registration.as_ref().map(|it| (vec![it.hub.clone()], Some(it.device_id.clone())));
        let (hubs, id) = at_hub.unwrap_or_else(|| (hubs, asked.parse::<DeviceId>().ok()));
        for (hub, id) in hubs.iter().zip(std::iter::repeat(&id)).filter_map(|(hub, id)| Some((hub, id.as_ref()?))) {
            let Some(device) = registry.device(hub, id)? else { continue };
            // A device that a registration made is that registration's story.
            if let (None, Some(owner)) = (&known.registration_id, &device.registration)
                && owner.as_str() != asked
            {
                return self.known_by(owner.as_str());
            }
            if device.registration.is_none() {
                known.standings.extend(registry.standing(&KeyOwner::Device(hub.clone(), id.clone()))?);
            }
            known.devices.push(device);
        }
        let group = match known.registration.as_ref().map(|registration| &registration.enrollment) {
            Some(EnrollmentRef::Group(group)) => Some(group.clone()),
            _ if known.registration_id.is_none() && known.devices.is_empty() => asked.parse::<EnrollmentGroupId>().ok(),
            _ => None,
        };
        known.group = group.map(|group| registry.group(&group)).transpose()?.flatten();
        Ok(known)
    }

    fn stored(&self, known: &Known, story: &mut Map<String, Value>) -> Result<(), Failure> {
        if let Some(id) = &known.registration_id {
            story.insert("registrationId".into(), json!(id));
        }
        if let Some(individual) = &known.individual {
            let mut shown = terms(&individual.terms);
            shown["registrationId"] = json!(individual.registration_id);
            shown["createdDateTimeUtc"] = json!(individual.created.to_string());
            shown["lastUpdatedDateTimeUtc"] = json!(individual.updated.to_string());
            if let Some(batch) = &individual.batch {
                shown["batch"] = json!(batch);
            }
            story.insert("enrollment".into(), shown);
        }
        if let Some(group) = &known.group {
            let mut shown = terms(&group.terms);
            shown["enrollmentGroupId"] = json!(group.group_id);
            shown["createdDateTimeUtc"] = json!(group.created.to_string());
            shown["lastUpdatedDateTimeUtc"] = json!(group.updated.to_string());
            story.insert("group".into(), shown);
        }
        if let Some(registration) = &known.registration {
            let mut shown = registration_state(registration, self.provisioning.hubs()?.as_ref(), false);
            shown["hub"] = json!(registration.hub);
            shown["attestation"] = json!(registration.kind.as_str());
            story.insert("registration".into(), shown);
        }
        if let Some(id) = &known.registration_id
            && let Some(transfer) = self.registry().transfer(id)?
        {
            story.insert("transfer".into(), transfers::show(&transfer));
        }
        if let Some(registration) = &known.registration {
            story.insert("allocation".into(), self.allocation(registration)?);
        }
        let mut devices = Vec::new();
        for device in &known.devices {
            let mut shown = show_device(device, &self.sessions, None)?;
            shown["hub"] = json!(device.hub);
            shown["createdTime"] = json!(device.created.to_string());
            devices.push(shown);
        }
        insert_some(story, "devices", devices);
        let keys = self.keys(known)?;
        let denied = self.registry().deny_rules()?;
        let shown = keys.iter().map(|(key, roles)| {
            let denied = denied.iter().any(|rule| matches!(rule, unicity_identity::DenyRule::Key(one) if one == key));
            json!({"fingerprint": key.to_string(), "of": roles, "denied": denied})
        });
        insert_some(story, "keys", shown.collect());
        insert_some(story, "standing", known.standings.iter().map(shown_standing).collect());
        let covering: Vec<Value> =
            self.registry().revocations()?.iter().filter(|it| covers(it, known, &keys)).map(revocation).collect();
        insert_some(story, "revocations", covering);
        Ok(())
    }

    /// Where it would go now, which may be elsewhere than where it was put: nothing is moved by the question, and no webhook asked.
    fn allocation(&self, registration: &Registration) -> Result<Value, Failure> {
        let (registry, settings) = (self.registry(), self.provisioning.settings());
        let live = self.provisioning.circumstances(None).live;
        let foreseen = foresee(registry.as_ref(), settings, registration, &live)?;
        let mut shown = match &foreseen.allocation {
            Some(note) => json!({
                "policy": note.policy, "source": note.source, "candidates": note.candidates, "excluded": note.excluded,
                "reason": note.reason,
            }),
            None => json!({}),
        };
        let default = registry.default_policy()?;
        let mut of_service = json!({"setBy": if default.is_some() { "operator" } else { "configuration" }});
        allocation::show(default.as_ref().unwrap_or(&settings.allocation.policy), &mut of_service);
        shown["servicePolicy"] = of_service;
        match foreseen.prospect {
            Prospect::Belongs => shown["prospect"] = json!("belongs"),
            Prospect::Goes(to) => {
                shown["prospect"] = json!("goes");
                shown["to"] = json!(to);
            }
            Prospect::Cannot(why) => {
                shown["prospect"] = json!("stays");
                shown["why"] = json!(why);
            }
        }
        let down = live.down.iter().map(|(hub, why)| json!({"hub": hub, "why": why}));
        insert_value(&mut shown, "down", down.collect());
        Ok(shown)
    }

    /// The keys by which it can act, and where each comes from.
    fn keys(&self, known: &Known) -> Result<BTreeMap<KeyFingerprint, Vec<&'static str>>, Failure> {
        let mut keys: BTreeMap<KeyFingerprint, Vec<&'static str>> = BTreeMap::new();
        let mut add = |key: KeyFingerprint, role: &'static str| keys.entry(key).or_default().push(role);
        let individual = known.individual.iter().flat_map(|it| it.terms.attestation.keys());
        individual.for_each(|key| add(key, "enrollment"));
        known.group.iter().flat_map(|it| it.terms.attestation.keys()).for_each(|key| add(key, "group"));
        known.registration.iter().for_each(|it| add(it.key_fingerprint, "registration"));
        known.devices.iter().flat_map(|it| it.authentication.keys()).for_each(|key| add(key, "device"));
        Ok(keys)
    }

    /// The live session, and the newest ones that stored something.
    fn sessions(
        &self,
        known: &Known,
        story: &mut Map<String, Value>,
        searched: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        let mut shown = Vec::new();
        for device in &known.devices {
            let client =
                ClientIdentity { hub: device.hub.clone(), device_id: device.device_id.clone(), module_id: None };
            let live = self.sessions.live(&client);
            // What was observed of a session and what it stored are two halves of it; epochs sort as text.
            let mut sessions: BTreeMap<String, Value> = BTreeMap::new();
            for stored in self.stored_sessions(device, searched)? {
                let epoch = stored["epoch"].as_str().unwrap_or_default().to_owned();
                sessions.insert(epoch, stored);
            }
            let (seen, _) = self.suspicion.recall(&client, self.now);
            for seen in &seen {
                let observed = standing::session(seen, live == Some(seen.epoch));
                let known = sessions.entry(seen.epoch.to_string()).or_insert_with(|| json!({"hub": device.hub}));
                if let (Some(known), Value::Object(observed)) = (known.as_object_mut(), observed) {
                    known.extend(observed);
                }
            }
            if let Some(epoch) = live {
                let known = sessions.entry(epoch.to_string()).or_insert_with(|| json!({"hub": device.hub}));
                known["epoch"] = json!(epoch.to_string());
                known["live"] = json!(true);
            }
            shown.extend(sessions.into_values().rev().take(SESSIONS_MAX));
        }
        insert_some(story, "sessions", shown);
        Ok(())
    }

    fn stored_sessions(
        &self,
        device: &DeviceIdentity,
        searched: &mut Map<String, Value>,
    ) -> Result<Vec<Value>, Failure> {
        let Some(reader) = self.telemetry.reader(&device.hub) else { return Ok(Vec::new()) };
        let partition = partition_of(&device.device_id, reader.partitions());
        let (first, end) = reader.bounds(partition);
        let mut next = first.max(end.saturating_sub(RECORDS_BACK));
        searched.insert("recordsBack".into(), json!(end - next));
        if next > first {
            searched.insert("recordsBefore".into(), json!(next - first));
        }
        let mut sessions: Vec<Value> = Vec::new();
        while next < end {
            let records = reader
                .read(partition, next, RECORD_BYTES)
                .map_err(|why| Failure::from(Refusal::Unavailable { why }))?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in records.iter().filter(|it| it.body.stamp().client.device_id == device.device_id) {
                let stamp = record.body.stamp();
                let epoch = stamp.epoch.to_string();
                if sessions.last().is_none_or(|it| it["epoch"] != epoch.as_str()) {
                    sessions.push(json!({
                        "hub": device.hub, "epoch": epoch, "generationId": stamp.generation.to_string(),
                        "authMethod": stamp.auth_method.as_str(), "keyFingerprint": stamp.key_fingerprint.to_string(),
                        "partition": partition, "live": false,
                    }));
                }
                let Some(session) = sessions.last_mut() else { continue };
                match &record.body {
                    RecordBody::SessionOpen { at, .. } => session["opened"] = json!(at.to_string()),
                    RecordBody::Telemetry(message) => {
                        session["lastMessage"] = json!(message.enqueued.to_string());
                        session["lastOffset"] = json!(record.offset);
                        session["lastSequence"] = json!(message.sequence);
                    }
                }
            }
            let surplus = sessions.len().saturating_sub(SESSIONS_MAX);
            sessions.drain(..surplus);
        }
        sessions.reverse();
        Ok(sessions)
    }

    fn leaves(
        &self,
        named: &str,
        story: &mut Map<String, Value>,
        searched: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        let size = log.size();
        let filter = LeafFilter { identity: Some(named.to_owned()), ..LeafFilter::default() };
        let bounds = Bounds { before: Some(size), limit: LEAVES_MAX, scan_max: audit::SCAN_DEFAULT };
        let found = audit::search(log, &filter, bounds).map_err(audit::unreadable)?;
        searched.insert("leaves".into(), json!(found.scanned));
        searched.insert("logSize".into(), json!(size));
        if let Some(next) = found.next {
            searched.insert("leavesBefore".into(), json!(next));
        }
        let leaves = found.items.into_iter().map(|(index, leaf)| json!({"index": index, "leaf": leaf})).collect();
        insert_some(story, "leaves", leaves);
        Ok(())
    }
}

fn insert_value(shown: &mut Value, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        shown[name] = Value::Array(items);
    }
}

fn insert_some(story: &mut Map<String, Value>, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        story.insert(name.to_owned(), Value::Array(items));
    }
}

/// Whether a refusal names the id as a word of its subject.
fn is_about(refusal: &RefusalRecord, named: &str, asked: &str) -> bool {
    let is_id = |word: &str| word.eq_ignore_ascii_case(named) || word.eq_ignore_ascii_case(asked);
    refusal.subject.split(['/', '?', ' ', '&']).any(is_id)
}

fn terms(terms: &EnrollmentTerms) -> Value {
    let status = match terms.status {
        ProvisioningStatus::Enabled => "enabled",
        ProvisioningStatus::Disabled => "disabled",
    };
    let mut shown = json!({
        "attestation": terms.attestation.kind(),
        "provisioningStatus": status,
        "keys": terms.attestation.keys().iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if let (Some(policy), Some(shown)) = (&terms.allocation, shown.as_object_mut()) {
        show_allocation(shown, policy);
    }
    if !terms.hubs.is_empty() {
        shown["iotHubs"] = json!(terms.hubs);
    }
    if let Some(policy) = terms.clone_policy {
        shown["clonePolicy"] = json!(policy);
    }
    if let Attestation::CaReferences { primary, secondary } = &terms.attestation {
        let names: Vec<_> = [primary, secondary].into_iter().flatten().map(|reference| &reference.name).collect();
        shown["authorities"] = json!(names);
    }
    shown
}

fn shown_standing(standing: &Standing) -> Value {
    let evidence: Vec<Value> = standing
        .evidence
        .iter()
        .rev()
        .map(|it| json!({"at": it.at.to_string(), "signal": it.signal, "score": it.score, "detail": it.detail}))
        .collect();
    let mut shown = json!({
        "of": standing.owner.to_string(),
        "state": standing.state.as_str(),
        "since": standing.since.to_string(),
        "score": standing.score,
        "quarantines": standing.quarantines,
        "evidence": evidence,
    });
    if let Some(by) = &standing.released_by {
        shown["releasedBy"] = json!(by);
    }
    shown
}

fn revocation(revocation: &Revocation) -> Value {
    json!({
        "target": revocation.target.to_string(),
        "at": revocation.at.to_string(),
        "by": revocation.by,
        "reason": revocation.reason,
        "rows": revocation.rows,
        "complete": revocation.complete,
    })
}

fn covers(revocation: &Revocation, known: &Known, keys: &BTreeMap<KeyFingerprint, Vec<&'static str>>) -> bool {
    match &revocation.target {
        RevocationTarget::Registration(id) => known.registration_id.as_ref() == Some(id),
        RevocationTarget::Key(key) => keys.contains_key(key),
        RevocationTarget::Authority { key, .. } => keys.contains_key(key),
        RevocationTarget::Group(id) => known.group.as_ref().is_some_and(|group| group.group_id == *id),
        RevocationTarget::Batch(label) => known.individual.as_ref().is_some_and(|it| it.batch.as_ref() == Some(label)),
        RevocationTarget::Certificate(sha256) => known.devices.iter().any(|device| {
            device.authentication.certificates().iter().any(|bound| bound.thumbprint == sha256.as_slice())
        }),
    }
}
