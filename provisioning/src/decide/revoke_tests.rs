//! Revocation (U7) as a table of what each kind ends, and as a property: whatever happens after a revocation, nothing that it means
//! is assigned, enabled or let in.

use proptest::prelude::*;
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::{EnrollmentTerms, StoredCertificate};
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    Attestation, Authority, BatchLabel, DenyRule, DeviceStatus, ETag, EnrollmentGroupId, EnrollmentRef, Entropy,
    Facets, HubDirectory, KeyFingerprint, KeySlot, LinkedHub, ProvisioningStatus, Refusal, RegistrationId,
    RevocationTarget, Sealed, Timestamp,
};

use super::*;
use crate::attest::{Attested, Proof};
use crate::memory::Memory;
use crate::registry::{Actor, DeviceDraft, GroupDraft, IndividualDraft, RegisterCommand, Revoked, TermsDraft};
use crate::revoked::{self, RevokedSet};
use crate::service::UnicityMode;

struct World {
    memory: Memory,
    settings: Settings,
    drawn: u64,
}

fn slot(n: u8) -> KeySlot {
    KeySlot { sealed: Sealed::from_bytes(vec![n; 4]), fingerprint: KeyFingerprint([n; 32]) }
}

fn fp(n: u8) -> KeyFingerprint {
    KeyFingerprint([n; 32])
}

fn id(text: &str) -> RegistrationId {
    text.parse().unwrap()
}

fn terms(attestation: Attestation) -> EnrollmentTerms {
    EnrollmentTerms {
        attestation,
        status: ProvisioningStatus::Enabled,
        allocation: None,
        hubs: vec![],
        reprovision: None,
        iot_edge: false,
        initial_twin: None,
        clone_policy: None,
        payload: None,
    }
}

fn symmetric(n: u8) -> EnrollmentTerms {
    terms(Attestation::SymmetricKey { primary: slot(n), secondary: slot(n) })
}

impl World {
    fn new() -> Self {
        let hub = LinkedHub::local("a".parse().unwrap(), "a.local".parse().unwrap());
        let settings = Settings {
            id_scope: "0ne00000001".parse().unwrap(),
            hubs: HubDirectory::new(vec![hub]).unwrap(),
            mode: UnicityMode::Strict,
            allow_shared: Default::default(),
            clones: Default::default(),
            allocation: Default::default(),
            token_skew_seconds: 300,
            payload_bytes_max: 8192,
        };
        Self { memory: Memory::default(), settings, drawn: 0 }
    }

    fn run(&mut self, command: Command) -> Result<Decision, RegistryError> {
        self.drawn += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.drawn.to_be_bytes());
        let actor = Actor::Policy("owner".into());
        let request = Request { command, actor, now: Timestamp(self.drawn), entropy: Entropy::from_seed(seed) };
        let decision = decide(&self.memory, &self.settings, request)?;
        decision.changes.iter().cloned().for_each(|change| self.memory.apply(change));
        Ok(decision)
    }

    fn put(&mut self, name: &str, batch: Option<&str>, terms: EnrollmentTerms) -> Result<Decision, RegistryError> {
        let precondition =
            if self.memory.individuals.contains_key(&id(name)) { Precondition::Any } else { Precondition::Absent };
        let draft = Box::new(IndividualDraft {
            registration_id: id(name),
            device_id: None,
            optional_device_information: None,
            batch: batch.map(|label| label.parse().unwrap()),
            terms: TermsDraft { terms, keys_given: true },
        });
        self.run(Command::PutIndividual { draft, precondition })
    }

    fn put_group(&mut self, name: &str, terms: EnrollmentTerms) -> Result<Decision, RegistryError> {
        let group_id: EnrollmentGroupId = name.parse().unwrap();
        let precondition =
            if self.memory.groups.contains_key(&group_id) { Precondition::Any } else { Precondition::Absent };
        let draft = Box::new(GroupDraft { group_id, terms: TermsDraft { terms, keys_given: true } });
        self.run(Command::PutGroup { draft, precondition })
    }

    fn put_device(&mut self, name: &str, key: u8, status: DeviceStatus) -> Result<Decision, RegistryError> {
        let there = self.memory.devices.contains_key(&("a".parse().unwrap(), name.parse().unwrap()));
        let draft = Box::new(DeviceDraft {
            hub: "a".parse().unwrap(),
            device_id: name.parse().unwrap(),
            status,
            status_reason: None,
            authentication: DeviceAuthentication::Sas { primary: slot(key), secondary: slot(key) },
            keys_given: true,
            iot_edge: false,
        });
        self.run(Command::PutDevice {
            draft,
            precondition: if there { Precondition::Any } else { Precondition::Absent },
        })
    }

    /// Registers with a key as the enrollment of this id, or this group, would be attested now.
    fn register(
        &mut self,
        name: &str,
        group: Option<&str>,
        key: u8,
        facets: Facets,
    ) -> Result<Decision, RegistryError> {
        let (enrollment, enrollment_etag) = match group {
            Some(group) => {
                let group: EnrollmentGroupId = group.parse().unwrap();
                let etag = self.memory.groups.get(&group).ok_or(RegistryError::EnrollmentChanged)?.etag;
                (EnrollmentRef::Group(group), etag)
            }
            None => {
                let found = self.memory.individuals.get(&id(name)).ok_or(RegistryError::EnrollmentChanged)?;
                (EnrollmentRef::Individual(id(name)), found.etag)
            }
        };
        let attested = Attested {
            registration_id: id(name),
            enrollment,
            enrollment_etag,
            key_fingerprint: fp(key),
            proof: Proof::EnrolledKeys,
            enabled: true,
            token_expiry_seconds: None,
            facets,
        };
        self.run(Command::Register(Box::new(RegisterCommand {
            attested,
            authentication: DeviceAuthentication::Sas { primary: slot(key), secondary: slot(key) },
            storage_root_key: None,
            device_payload: None,
            continuity: Default::default(),
            circumstances: Default::default(),
        })))
    }

    fn revoke(&mut self, target: RevocationTarget) -> Revoked {
        match self.run(Command::Revoke { target, reason: Some("stolen".into()), force: true }).unwrap().outcome {
            Outcome::Revoked(revoked) => *revoked,
            other => panic!("{other:?}"),
        }
    }

    fn follow(&mut self, target: RevocationTarget, ids: &[&str], complete: bool) -> u64 {
        let registrations = ids.iter().map(|name| id(name)).collect();
        match self.run(Command::FollowRevocation { target, registrations, complete }).unwrap().outcome {
            Outcome::Revocation(revocation) => {
                assert_eq!(revocation.complete, complete);
                revocation.rows
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_device_ended(&self, name: &str) -> bool {
        let device = &self.memory.devices[&("a".parse().unwrap(), name.parse().unwrap())];
        device.status == DeviceStatus::Disabled && device.status_reason.as_deref() == Some("revoked")
    }

    fn denies(&self, key: u8) -> bool {
        self.memory.denied.contains(&DenyRule::Key(fp(key)))
    }
}

fn refusal(result: Result<Decision, RegistryError>) -> Refusal {
    match result {
        Err(RegistryError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn bars(result: Result<Decision, RegistryError>, target: &RevocationTarget) {
    match refusal(result) {
        Refusal::Barred { cause, .. } => match *cause {
            Refusal::Revoked { target: named, .. } => assert_eq!(&named, target),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revoked_registration_ends_with_one_record_and_its_key_is_denied_for_ever() {
    let mut world = World::new();
    world.put("dev", None, symmetric(1)).unwrap();
    world.register("dev", None, 1, Facets::default()).unwrap();
    let target = RevocationTarget::Registration(id("dev"));
    let revoked = world.revoke(target.clone());
    assert_eq!((revoked.keys, revoked.rows, revoked.revocation.complete), (1, 1, true));
    assert_eq!(world.memory.individuals[&id("dev")].terms.status, ProvisioningStatus::Disabled);
    assert!(world.is_device_ended("dev") && world.denies(1));
    bars(world.put("dev", None, symmetric(1)), &target);
    bars(world.put("dev", None, symmetric(2)), &target);
    bars(world.put("other", None, symmetric(1)), &target);
    bars(world.put_group("group", symmetric(1)), &target);
    bars(world.put_device("hand", 1, DeviceStatus::Enabled), &target);
    bars(world.put_device("dev", 2, DeviceStatus::Enabled), &target);
    // An edit that enables nothing passes; a delete does not free the key.
    let disabled = EnrollmentTerms { status: ProvisioningStatus::Disabled, ..symmetric(1) };
    world.put("dev", None, disabled).unwrap();
    world
        .run(Command::DeleteDevice {
            hub: "a".parse().unwrap(),
            id: "dev".parse().unwrap(),
            precondition: Precondition::None,
        })
        .unwrap();
    world.run(Command::DeleteIndividual { id: id("dev"), precondition: Precondition::None }).unwrap();
    assert_eq!(world.memory.keys.get(&fp(1)), Some(&KeyOwner::Registration(id("dev"))));
    bars(world.put("other", None, symmetric(1)), &target);
    bars(world.put("dev", None, symmetric(2)), &target);
    // Lifted: the id may come back, with another key.
    world.run(Command::LiftRevocation { target }).unwrap();
    assert!(matches!(refusal(world.put("dev", None, symmetric(1))), Refusal::Barred { .. }), "the key stays denied");
    world.put("dev", None, symmetric(2)).unwrap();
    world.register("dev", None, 2, Facets::default()).unwrap();
}

#[test]
fn a_second_revoke_changes_nothing_of_the_first() {
    let mut world = World::new();
    world.put("dev", None, symmetric(1)).unwrap();
    let first = world.revoke(RevocationTarget::Registration(id("dev")));
    let again = world.revoke(RevocationTarget::Registration(id("dev")));
    assert_eq!(again.revocation, first.revocation);
    assert_eq!((again.keys, again.rows), (0, 0));
}

#[test]
fn an_id_that_nothing_is_known_of_is_revoked_on_demand_only() {
    let mut world = World::new();
    let target = RevocationTarget::Registration(id("dev"));
    let command = Command::Revoke { target: target.clone(), reason: None, force: false };
    assert!(matches!(refusal(world.run(command)), Refusal::NotFound(Subject::Registration(_))));
    world.revoke(target.clone());
    bars(world.put("dev", None, symmetric(1)), &target);
    let group = RevocationTarget::Group("g".parse().unwrap());
    let command = Command::Revoke { target: group, reason: None, force: false };
    assert!(matches!(refusal(world.run(command)), Refusal::NotFound(Subject::Group(_))));
}

#[test]
fn a_revoked_key_ends_whoever_holds_it() {
    let mut world = World::new();
    world.put("dev", None, terms(Attestation::SymmetricKey { primary: slot(1), secondary: slot(2) })).unwrap();
    world.put_device("hand", 3, DeviceStatus::Enabled).unwrap();
    // Of two keys one is named: both are denied.
    let revoked = world.revoke(RevocationTarget::Key(fp(2)));
    assert_eq!((revoked.keys, revoked.owner), (2, Some(KeyOwner::Registration(id("dev")))));
    assert!(world.denies(1) && world.denies(2));
    assert_eq!(world.memory.individuals[&id("dev")].terms.status, ProvisioningStatus::Disabled);
    // A hand-made device.
    assert_eq!(world.revoke(RevocationTarget::Key(fp(3))).rows, 1);
    assert!(world.is_device_ended("hand"));
    // In advance.
    let target = RevocationTarget::Key(fp(9));
    assert_eq!(world.revoke(target.clone()).owner, None);
    bars(world.put("late", None, symmetric(9)), &target);
    // Of a group: the group ends as if it had been named.
    world.put_group("group", symmetric(5)).unwrap();
    world.register("member", Some("group"), 6, Facets::default()).unwrap();
    let group = world.revoke(RevocationTarget::Key(fp(5))).group.expect("the group is revoked with its key");
    assert!(!group.complete);
    assert_eq!(world.follow(group.target.clone(), &["member"], true), 1);
    assert!(world.is_device_ended("member") && world.denies(6));
}

#[test]
fn a_groups_rows_follow_behind_and_are_counted_once() {
    let mut world = World::new();
    world.put_group("group", symmetric(1)).unwrap();
    world.put_group("other", symmetric(2)).unwrap();
    for (n, name) in (10..).zip(["one", "two", "three"]) {
        world.register(name, Some("group"), n, Facets::default()).unwrap();
    }
    world.register("far", Some("other"), 20, Facets::default()).unwrap();
    let target = RevocationTarget::Group("group".parse().unwrap());
    let revoked = world.revoke(target.clone());
    assert_eq!((revoked.rows, revoked.revocation.complete, world.denies(1)), (0, false, true));
    assert_eq!(world.memory.groups[&"group".parse().unwrap()].terms.status, ProvisioningStatus::Disabled);
    // The predicate holds before the first row.
    let group = Facets { group: Some("group".parse().unwrap()), ..Facets::default() };
    assert!(world.memory.revoked().unwrap().covers(&group).is_some());
    // One who is no member is left alone, and one who is done already counts once.
    assert_eq!(world.follow(target.clone(), &["one", "far", "nobody"], false), 1);
    assert_eq!(world.follow(target.clone(), &["one", "two"], false), 2);
    assert_eq!(world.follow(target.clone(), &["three"], true), 3);
    assert_eq!(world.follow(target.clone(), &["one", "two", "three"], true), 3, "after a restart");
    assert!(
        ["one", "two", "three"].into_iter().all(|name| world.is_device_ended(name)) && !world.is_device_ended("far")
    );
    assert!((10..13).all(|key| world.denies(key)) && !world.denies(20));
    bars(world.put_group("group", symmetric(7)), &target);
    // A member may come back with an enrollment and a key of its own, once its old identity is gone.
    world
        .run(Command::DeleteDevice {
            hub: "a".parse().unwrap(),
            id: "one".parse().unwrap(),
            precondition: Precondition::None,
        })
        .unwrap();
    world.put("one", None, symmetric(30)).unwrap();
    world.register("one", None, 30, Facets::default()).unwrap();
    assert!(!world.is_device_ended("one"));
    assert_eq!(world.follow(target, &["one"], true), 3, "it is a member no more");
}

#[test]
fn a_batch_is_those_whose_enrollment_carries_its_label() {
    let mut world = World::new();
    world.put("one", Some("spring"), symmetric(1)).unwrap();
    world.put("two", Some("spring"), symmetric(2)).unwrap();
    world.put("far", Some("autumn"), symmetric(3)).unwrap();
    world.register("one", None, 1, Facets::default()).unwrap();
    let target = RevocationTarget::Batch("spring".parse().unwrap());
    world.revoke(target.clone());
    assert!(matches!(refusal(world.register("one", None, 1, Facets::default())), Refusal::Revoked { .. }));
    assert!(matches!(refusal(world.register("two", None, 2, Facets::default())), Refusal::Revoked { .. }));
    world.register("far", None, 3, Facets::default()).unwrap();
    bars(world.put("new", Some("spring"), symmetric(4)), &target);
    assert_eq!(world.follow(target, &["one", "two", "far"], true), 2);
    assert!(world.is_device_ended("one") && world.denies(1) && world.denies(2) && !world.denies(3));
}

#[test]
fn an_authority_and_a_certificate_are_matched_by_the_path_that_was_shown() {
    let mut world = World::new();
    let signing = |key| StoredCertificate { der: vec![key], key: fp(key) };
    let group = |primary, secondary: Option<u8>| {
        terms(Attestation::SigningCertificates { primary: Some(signing(primary)), secondary: secondary.map(signing) })
    };
    world.put_group("one-ca", group(1, None)).unwrap();
    world.put_group("two-cas", group(2, Some(3))).unwrap();
    let path = |authority| Facets {
        authorities: vec![fp(authority)],
        certificates: vec![[authority; 32]],
        ..Facets::default()
    };
    world.register("a", Some("one-ca"), 10, path(1)).unwrap();
    world.register("b", Some("two-cas"), 11, path(2)).unwrap();
    world.register("c", Some("two-cas"), 12, path(3)).unwrap();
    world.revoke(RevocationTarget::Certificate([1; 32]));
    assert!(matches!(refusal(world.register("a", Some("one-ca"), 10, path(1))), Refusal::Revoked { .. }));
    let authority = |key| RevocationTarget::Authority { name: "ca".parse().unwrap(), key: fp(key) };
    world.revoke(authority(1));
    world.revoke(authority(2));
    assert!(matches!(refusal(world.register("b", Some("two-cas"), 11, path(2))), Refusal::Revoked { .. }));
    world.register("c", Some("two-cas"), 12, path(3)).unwrap();
    assert_eq!(world.follow(authority(1), &["a"], true), 1);
    // Who of two authorities vouched for a member, its record does not tell: the predicate does.
    assert_eq!(world.follow(authority(2), &["b", "c"], true), 0);
    bars(world.put_group("new", group(1, None)), &authority(1));
    let draft = Authority {
        name: "ca".parse().unwrap(),
        der: vec![1],
        key: fp(1),
        verified: true,
        verification_code: None,
        etag: ETag([0; 16]),
        created: Timestamp(0),
        updated: Timestamp(0),
    };
    bars(
        world.run(Command::PutAuthority { authority: Box::new(draft), precondition: Precondition::Absent }),
        &authority(1),
    );
}

#[test]
fn a_key_denied_by_hand_is_refused_whatever_the_path_in() {
    let mut world = World::new();
    world.put("dev", None, symmetric(1)).unwrap();
    world.run(Command::SetDenyRule { rule: DenyRule::Key(fp(1)), denied: true }).unwrap();
    assert!(matches!(
        refusal(world.register("dev", None, 1, Facets::default())),
        Refusal::KeyDenied { holder: Some(KeyOwner::Registration(_)), .. }
    ));
    for result in [
        world.put("other", None, symmetric(1)),
        world.put_group("group", symmetric(1)),
        world.put_device("hand", 1, DeviceStatus::Disabled),
    ] {
        assert!(matches!(refusal(result), Refusal::Barred { .. }));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, Option<u8>, bool),
    PutGroup(u8, u8),
    Register(u8, Option<u8>, u8),
    PutDevice(u8, u8, bool),
    Delete(u8),
    DeleteDevice(u8),
    DeleteGroup(u8),
    DeleteRegistration(u8),
    Revoke(u8, u8),
    Follow(u8, u8, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let (name, key) = (0u8..3, 1u8..7);
    prop_oneof![
        2 => (name.clone(), key.clone(), proptest::option::of(0u8..2), any::<bool>())
            .prop_map(|(n, k, b, e)| Step::Put(n, k, b, e)),
        1 => (0u8..2, key.clone()).prop_map(|(g, k)| Step::PutGroup(g, k)),
        4 => (name.clone(), proptest::option::of(0u8..2), key.clone()).prop_map(|(n, g, k)| Step::Register(n, g, k)),
        1 => (name.clone(), key.clone(), any::<bool>()).prop_map(|(n, k, e)| Step::PutDevice(n, k, e)),
        1 => name.clone().prop_map(Step::Delete),
        1 => name.clone().prop_map(Step::DeleteDevice),
        1 => (0u8..2).prop_map(Step::DeleteGroup),
        1 => name.clone().prop_map(Step::DeleteRegistration),
        1 => (0u8..4, 0u8..6).prop_map(|(kind, n)| Step::Revoke(kind, n)),
        2 => (2u8..4, 0u8..2, proptest::collection::vec(name, 1..3)).prop_map(|(kind, n, ids)| Step::Follow(kind, n, ids)),
    ]
}

fn name(n: u8) -> String {
    format!("d{n}")
}

fn target(kind: u8, n: u8) -> RevocationTarget {
    match kind {
        0 => RevocationTarget::Registration(id(&name(n % 3))),
        1 => RevocationTarget::Key(fp(n + 1)),
        2 => RevocationTarget::Group(format!("g{}", n % 2).parse().unwrap()),
        _ => RevocationTarget::Batch(format!("b{}", n % 2).parse::<BatchLabel>().unwrap()),
    }
}

impl World {
    fn step(&mut self, step: Step) -> Result<Decision, RegistryError> {
        match step {
            Step::Put(n, key, batch, enabled) => {
                let status = if enabled { ProvisioningStatus::Enabled } else { ProvisioningStatus::Disabled };
                let batch = batch.map(|b| format!("b{b}"));
                self.put(&name(n), batch.as_deref(), EnrollmentTerms { status, ..symmetric(key) })
            }
            Step::PutGroup(g, key) => self.put_group(&format!("g{g}"), symmetric(key)),
            Step::Register(n, group, key) => {
                let group = group.map(|g| format!("g{g}"));
                // A member's key is another than its group's.
                let key = if group.is_some() { 100 + key } else { key };
                self.register(&name(n), group.as_deref(), key, Facets::default())
            }
            Step::PutDevice(n, key, enabled) => {
                self.put_device(&name(n), key, if enabled { DeviceStatus::Enabled } else { DeviceStatus::Disabled })
            }
            Step::Delete(n) => {
                self.run(Command::DeleteIndividual { id: id(&name(n)), precondition: Precondition::None })
            }
            Step::DeleteDevice(n) => self.run(Command::DeleteDevice {
                hub: "a".parse().unwrap(),
                id: name(n).parse().unwrap(),
                precondition: Precondition::None,
            }),
            Step::DeleteGroup(g) => self
                .run(Command::DeleteGroup { id: format!("g{g}").parse().unwrap(), precondition: Precondition::None }),
            Step::DeleteRegistration(n) => {
                self.run(Command::DeleteRegistration { id: id(&name(n)), precondition: Precondition::None })
            }
            Step::Revoke(kind, n) => {
                self.run(Command::Revoke { target: target(kind, n), reason: None, force: n % 2 == 0 })
            }
            Step::Follow(kind, n, ids) => self.run(Command::FollowRevocation {
                target: target(kind, n),
                registrations: ids.into_iter().map(|n| id(&name(n))).collect(),
                complete: false,
            }),
        }
    }

    /// Whether a hub would let this device in with this key: what `check_hub_client` asks, and that it is enabled.
    fn lets_in(&self, device: &unicity_identity::DeviceIdentity, key: KeyFingerprint) -> bool {
        let known = device.registration.as_ref().map(|id| revoked::of_registration(&self.memory, id).unwrap());
        let facets = Facets {
            proven: Some(key),
            keys: device.authentication.keys().into_iter().collect(),
            ..known.unwrap_or_default()
        };
        device.status == DeviceStatus::Enabled && revoked::check(&self.memory, &facets, String::new).is_ok()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// U7: no interleaving of enrolling, registering, deleting and following brings back what was revoked.
    #[test]
    fn nothing_brings_back_what_is_revoked(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            let denied_before = world.memory.denied.clone();
            let registering = match &step {
                Step::Register(n, group, key) => Some((*n, *group, *key)),
                _ => None,
            };
            let batch = registering
                .and_then(|(n, ..)| world.memory.individuals.get(&id(&name(n))))
                .and_then(|enrollment| enrollment.batch.clone());
            let done = world.step(step).is_ok();
            prop_assert!(denied_before.is_subset(&world.memory.denied), "a denied key stays denied");
            let set: RevokedSet = world.memory.revocations.values().cloned().collect();
            if let (true, Some((n, group, key))) = (done, registering) {
                let facets = Facets {
                    registration: Some(id(&name(n))),
                    group: group.map(|g| format!("g{g}").parse().unwrap()),
                    batch,
                    proven: Some(fp(if group.is_some() { 100 + key } else { key })),
                    ..Facets::default()
                };
                prop_assert!(set.covers(&facets).is_none(), "assigned although revoked");
            }
            for device in world.memory.devices.values() {
                for key in device.authentication.keys() {
                    if world.lets_in(device, key) {
                        prop_assert!(!world.memory.denied.contains(&DenyRule::Key(key)));
                        let revoked = world.memory.revocations.keys();
                        let by_id = device.registration.clone().map(RevocationTarget::Registration);
                        prop_assert!(revoked.into_iter().all(|target| Some(target) != by_id.as_ref()
                            && *target != RevocationTarget::Key(key)));
                    }
                }
            }
            for enrollment in world.memory.individuals.values() {
                let target = RevocationTarget::Registration(enrollment.registration_id.clone());
                if world.memory.revocations.contains_key(&target) {
                    prop_assert_eq!(enrollment.terms.status, ProvisioningStatus::Disabled);
                }
            }
        }
    }

    /// The set says the same as its revocations one by one.
    #[test]
    fn the_set_covers_what_any_of_its_revocations_meets(
        targets in proptest::collection::vec((0u8..4, 0u8..6), 0..8), registration in 0u8..3, group in 0u8..3, batch in 0u8..3, key in 0u8..8,
    ) {
        let mut world = World::new();
        for (kind, n) in targets {
            world.revoke(target(kind, n));
        }
        let facets = Facets {
            registration: Some(id(&name(registration))),
            group: Some(format!("g{group}").parse().unwrap()),
            batch: Some(format!("b{batch}").parse().unwrap()),
            keys: vec![fp(key)],
            ..Facets::default()
        };
        let any = world.memory.revocations.keys().any(|target| facets.are_met_by(target));
        prop_assert_eq!(world.memory.revoked().unwrap().covers(&facets).is_some(), any);
    }
}

/// What hubs elsewhere are told of a device that is revoked at each stage of its way there.
#[test]
fn a_transfer_turns_into_its_end_wherever_it_is() {
    use crate::registry::{HubEdit, StepCommand};
    use crate::transfer::{TransferEvent, TransferStage};
    // Steps done before; then whose identity is disabled, how many are deleted, and whether the device has a row yet.
    for (steps, disabled) in [(0, "r1"), (1, "r1"), (2, "r1"), (3, "r1")] {
        let mut world = World::new();
        let link = unicity_identity::RemoteLink { port: 443, policy: "provisioning".into(), key: slot(9), ca: None };
        let (host, terms) = ("r1.test".parse().unwrap(), Default::default());
        let edit = Box::new(HubEdit::Link { host, link: Box::new(link), terms });
        world.run(Command::SetHub { name: "r1".parse().unwrap(), edit }).unwrap();
        let at_r1 = EnrollmentTerms { hubs: vec!["r1.test".parse().unwrap()], ..symmetric(1) };
        world.put("dev", None, at_r1).unwrap();
        world.register("dev", None, 1, Facets::default()).unwrap();
        for _ in 0..steps {
            let transfer = world.memory.transfers[&id("dev")].clone();
            let event = TransferEvent::Done { etag: None, generation: None, twin: None };
            let step = StepCommand {
                registration_id: id("dev"),
                operation_id: transfer.operation_id.clone(),
                stage: transfer.stage.clone(),
                event,
                circumstances: Default::default(),
            };
            world.run(Command::StepTransfer(Box::new(step))).unwrap();
        }
        let target = RevocationTarget::Registration(id("dev"));
        world.revoke(target.clone());
        let end = world.memory.transfers[&id("dev")].clone();
        assert_eq!(end.stage, TransferStage::End, "after {steps} steps");
        assert_eq!(end.source.as_ref().map(|end| end.hub.as_str()), Some(disabled), "after {steps} steps");
        assert!(end.target.is_none() && end.discard.is_empty(), "after {steps} steps");
        let device = &world.memory.devices[&("r1".parse().unwrap(), "dev".parse().unwrap())];
        assert!(device.is_ended_by_revocation(), "after {steps} steps");
        // Once more is no more.
        world.revoke(target);
        assert_eq!(world.memory.transfers[&id("dev")], end, "after {steps} steps");
        // What the runner still brings of the step before changes nothing.
        let late = StepCommand {
            registration_id: id("dev"),
            operation_id: end.operation_id.clone(),
            stage: TransferStage::Enable,
            event: TransferEvent::Done { etag: None, generation: None, twin: None },
            circumstances: Default::default(),
        };
        world.run(Command::StepTransfer(Box::new(late))).unwrap();
        let device = &world.memory.devices[&("r1".parse().unwrap(), "dev".parse().unwrap())];
        assert!(device.is_ended_by_revocation(), "after {steps} steps");
    }
}

/// A device of this process that was on its way out ends here, and what was made of it there is deleted.
#[test]
fn a_device_on_its_way_out_ends_where_it_is() {
    use crate::registry::HubEdit;
    use crate::transfer::TransferStage;
    let mut world = World::new();
    let link = unicity_identity::RemoteLink { port: 443, policy: "provisioning".into(), key: slot(9), ca: None };
    let (host, terms) = ("r1.test".parse().unwrap(), Default::default());
    let edit = Box::new(HubEdit::Link { host, link: Box::new(link), terms });
    let at = |hub: &str| EnrollmentTerms { hubs: vec![hub.parse().unwrap()], ..symmetric(1) };
    world.put("dev", None, at("a.local")).unwrap();
    world.register("dev", None, 1, Facets::default()).unwrap();
    world.run(Command::SetHub { name: "r1".parse().unwrap(), edit }).unwrap();
    world.put("dev", None, at("r1.test")).unwrap();
    world.register("dev", None, 1, Facets::default()).unwrap();
    assert_eq!(world.memory.transfers[&id("dev")].stage, TransferStage::Create);
    // It is disabled for its move, which only the move's end may change.
    let refused = world.put_device("dev", 1, DeviceStatus::Enabled);
    assert!(matches!(refused, Err(RegistryError::Refused(Refusal::Invalid { .. }))), "{refused:?}");
    world.revoke(RevocationTarget::Registration(id("dev")));
    let end = &world.memory.transfers[&id("dev")];
    assert_eq!(end.stage, TransferStage::End);
    assert!(end.source.is_none());
    assert_eq!(end.discard.iter().map(|end| end.hub.as_str()).collect::<Vec<_>>(), ["r1"]);
    assert!(world.is_device_ended("dev"));
    assert!(!world.memory.devices.contains_key(&("r1".parse().unwrap(), "dev".parse().unwrap())), "its claim there");
}
