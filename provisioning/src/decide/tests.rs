//! Decisions as tables, and U1 and U2 as properties over random histories.

mod elsewhere;
mod keys;
mod loads;
mod reprovision;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};

use proptest::prelude::*;
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ProvisioningStatus, StickyBy};
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    Attestation, DenyRule, DeviceIdentity, DeviceStatus, EnrollmentGroupId, EnrollmentRef, Entropy, HubDirectory,
    HubName, HubTerms, KeyFingerprint, KeySlot, LinkedHub, Refusal, Registration, RegistrationId, Sealed, Timestamp,
    TwinEdit,
};

use super::*;
use crate::attest::{Attested, Proof};
use crate::memory::Memory;
use crate::registry::{Actor, DeviceDraft, GroupDraft, IndividualDraft, RegisterCommand, TermsDraft};
use crate::service::UnicityMode;

#[derive(Default, Clone)]
struct World {
    memory: Memory,
    drawn: u8,
}

impl Deref for World {
    type Target = Memory;
    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }
}

fn hub(name: &str) -> LinkedHub {
    LinkedHub::local(name.parse().unwrap(), format!("{name}.local").parse().unwrap())
}

fn settings(hubs: &[&str], mode: UnicityMode) -> Settings {
    Settings {
        id_scope: "0ne00000001".parse().unwrap(),
        hubs: HubDirectory::new(hubs.iter().map(|name| hub(name)).collect()).unwrap(),
        mode,
        allow_shared: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 8192,
        clones: Default::default(),
        allocation: Default::default(),
    }
}

fn key(n: u8) -> KeySlot {
    KeySlot { sealed: Sealed::from_bytes(vec![n; 4]), fingerprint: KeyFingerprint([n; 32]) }
}

fn terms(primary: u8, secondary: u8) -> EnrollmentTerms {
    EnrollmentTerms {
        attestation: Attestation::SymmetricKey { primary: key(primary), secondary: key(secondary) },
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

fn id(text: &str) -> RegistrationId {
    text.parse().unwrap()
}

impl World {
    fn run(&mut self, settings: &Settings, command: Command) -> Result<Decision, RegistryError> {
        self.drawn = self.drawn.wrapping_add(1);
        let mut seed = [0; 32];
        seed[0] = self.drawn;
        seed[1] = u8::try_from(self.keys.len() % 251).unwrap();
        let request =
            Request { command, actor: Actor::Server, now: Timestamp(1000), entropy: Entropy::from_seed(seed) };
        let decision = decide(&self.memory, settings, request)?;
        for change in &decision.changes {
            self.apply(change.clone());
        }
        Ok(decision)
    }

    fn enroll(&mut self, settings: &Settings, name: &str, terms: EnrollmentTerms) -> Result<Decision, RegistryError> {
        self.put(settings, name, None, terms, Precondition::Absent)
    }

    fn put(
        &mut self,
        settings: &Settings,
        name: &str,
        device_id: Option<&str>,
        terms: EnrollmentTerms,
        precondition: Precondition,
    ) -> Result<Decision, RegistryError> {
        let draft = Box::new(IndividualDraft {
            registration_id: id(name),
            device_id: device_id.map(|id| id.parse().unwrap()),
            optional_device_information: None,
            batch: None,
            terms: TermsDraft { terms, keys_given: true },
        });
        self.run(settings, Command::PutIndividual { draft, precondition })
    }

    fn enroll_group(
        &mut self,
        settings: &Settings,
        name: &str,
        terms: EnrollmentTerms,
    ) -> Result<Decision, RegistryError> {
        let draft =
            Box::new(GroupDraft { group_id: name.parse().unwrap(), terms: TermsDraft { terms, keys_given: true } });
        self.run(settings, Command::PutGroup { draft, precondition: Precondition::Absent })
    }

    /// Registers as the individual enrollment of this id would be attested now.
    fn register(&mut self, settings: &Settings, name: &str) -> Result<Registration, RegistryError> {
        let enrollment = self.individuals[&id(name)].clone();
        let Attestation::SymmetricKey { primary, secondary } = enrollment.terms.attestation else { panic!() };
        self.register_as(settings, name, EnrollmentRef::Individual(id(name)), enrollment.etag, [primary, secondary])
    }

    fn register_in_group(
        &mut self,
        settings: &Settings,
        name: &str,
        group: &str,
        slots: [u8; 2],
    ) -> Result<Registration, RegistryError> {
        let group: EnrollmentGroupId = group.parse().unwrap();
        let etag = self.groups[&group].etag;
        self.register_as(settings, name, EnrollmentRef::Group(group), etag, slots.map(key))
    }

    fn register_as(
        &mut self,
        settings: &Settings,
        name: &str,
        enrollment: EnrollmentRef,
        etag: unicity_identity::ETag,
        slots: [KeySlot; 2],
    ) -> Result<Registration, RegistryError> {
        let [primary, secondary] = slots;
        let attested = Attested {
            registration_id: id(name),
            enrollment,
            enrollment_etag: etag,
            key_fingerprint: primary.fingerprint,
            proof: Proof::EnrolledKeys,
            enabled: true,
            token_expiry_seconds: None,
            facets: unicity_identity::Facets::default(),
        };
        let command = Command::Register(Box::new(RegisterCommand {
            attested,
            authentication: DeviceAuthentication::Sas { primary, secondary },
            storage_root_key: None,
            device_payload: None,
            continuity: Default::default(),
            circumstances: Default::default(),
        }));
        match self.run(settings, command)?.outcome {
            Outcome::Registered { registration, .. } => Ok(*registration),
            other => panic!("{other:?}"),
        }
    }

    fn put_device(
        &mut self,
        settings: &Settings,
        hub: &str,
        name: &str,
        keys: [u8; 2],
        precondition: Precondition,
    ) -> Result<Decision, RegistryError> {
        let [primary, secondary] = keys.map(key);
        let draft = Box::new(DeviceDraft {
            hub: hub.parse().unwrap(),
            device_id: name.parse().unwrap(),
            status: DeviceStatus::Enabled,
            status_reason: None,
            authentication: DeviceAuthentication::Sas { primary, secondary },
            keys_given: true,
            iot_edge: false,
        });
        self.run(settings, Command::PutDevice { draft, precondition })
    }

    /// U1 and U2 over the whole state.
    fn check(&self) {
        let mut owner_of_device = BTreeMap::new();
        for registration in self.registrations.values() {
            let place = (registration.hub.clone(), registration.device_id.clone());
            if let Some(device) = self.devices.get(&place)
                && device.registration.as_ref() == Some(&registration.registration_id)
            {
                let other = owner_of_device.insert(place, registration.registration_id.clone());
                assert_eq!(other, None, "U1: one registration a device");
            }
        }
        let mut device_of_registration = BTreeMap::new();
        // A transfer holds the place where a device goes beside the one that it leaves, both disabled.
        for device in self.devices.values().filter(|device| !device.is_moving()) {
            if let Some(registration) = &device.registration {
                let other = device_of_registration.insert(registration, (&device.hub, &device.device_id));
                assert_eq!(other, None, "U1: one hub device a registration id");
            }
        }
        let mut used: BTreeMap<KeyFingerprint, KeyOwner> = BTreeMap::new();
        let mut claim = |key: KeyFingerprint, owner: KeyOwner| {
            let holder = used.entry(key).or_insert_with(|| owner.clone());
            assert_eq!(*holder, owner, "U2: key {key} acts for two");
        };
        for enrollment in self.individuals.values() {
            for key in enrollment.terms.attestation.keys() {
                claim(key, KeyOwner::Registration(enrollment.registration_id.clone()));
            }
        }
        for group in self.groups.values() {
            for key in group.terms.attestation.keys() {
                claim(key, KeyOwner::Group(group.group_id.clone()));
            }
        }
        for device in self.devices.values() {
            let owner = match &device.registration {
                Some(id) => KeyOwner::Registration(id.clone()),
                None => KeyOwner::Device(device.hub.clone(), device.device_id.clone()),
            };
            for key in device.authentication.keys() {
                claim(key, owner.clone());
            }
        }
        for transfer in self.transfers.values() {
            for key in transfer.claimed_keys() {
                claim(key, KeyOwner::Registration(transfer.registration_id.clone()));
            }
        }
        for module in self.modules.values() {
            assert!(
                self.devices.contains_key(&(module.hub.clone(), module.device_id.clone())),
                "a module without device"
            );
            for key in module.authentication.keys() {
                claim(key, super::module::owner_of(module));
            }
        }
        self.check_loads();
        // A key that was revoked stays that identity's, for the refusal to name.
        let is_over = |key: &KeyFingerprint| !used.contains_key(key) && self.denied.contains(&DenyRule::Key(*key));
        let held: BTreeMap<_, _> = self.keys.clone().into_iter().filter(|(key, _)| !is_over(key)).collect();
        assert_eq!(used, held, "the index holds exactly the keys in use");
        for (client, twin) in &self.twins {
            let life = match &client.module_id {
                None => self.devices.get(&(client.hub.clone(), client.device_id.clone())).map(|it| it.generation),
                Some(id) => {
                    let key = (client.hub.clone(), client.device_id.clone(), id.clone());
                    self.modules.get(&key).map(|it| it.generation)
                }
            };
            assert_eq!(life, Some(twin.generation), "a twin of nobody, or of an earlier life: {client}");
        }
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> Refusal {
    match result.unwrap_err() {
        RegistryError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

const STRICT: UnicityMode = UnicityMode::Strict;

#[test]
fn registering_again_gives_the_same_assignment_and_a_new_operation() {
    let settings = settings(&["a", "b", "c"], STRICT);
    let mut world = World::default();
    world.enroll(&settings, "dev-1", terms(1, 2)).unwrap();
    let first = world.register(&settings, "dev-1").unwrap();
    let second = world.register(&settings, "dev-1").unwrap();
    assert_eq!((&first.hub, &first.device_id, first.generation), (&second.hub, &second.device_id, second.generation));
    assert_eq!(first.created, second.created);
    assert_ne!(first.operation_id, second.operation_id);
    world.check();
}

#[test]
fn a_key_of_another_identity_is_refused_and_the_holder_named() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll(&settings, "dev-1", terms(1, 2)).unwrap();
    let refused = refusal(world.enroll(&settings, "dev-2", terms(3, 2)));
    assert_eq!(
        refused,
        Refusal::KeyInUse { fingerprint: KeyFingerprint([2; 32]), holder: KeyOwner::Registration(id("dev-1")) }
    );
    assert!(matches!(refusal(world.enroll_group(&settings, "g", terms(1, 9))), Refusal::KeyInUse { .. }));
    assert!(matches!(
        refusal(world.put_device(&settings, "a", "x", [2, 8], Precondition::Absent)),
        Refusal::KeyInUse { .. }
    ));
    world.enroll(&settings, "dev-2", terms(3, 3)).unwrap();
    world.check();
}

#[test]
fn a_deleted_enrollment_frees_its_key_unless_its_hub_device_still_has_it() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    let delete = |name: &str| Command::DeleteIndividual { id: id(name), precondition: Precondition::None };
    world.enroll(&settings, "idle", terms(1, 1)).unwrap();
    world.run(&settings, delete("idle")).unwrap();
    world.enroll(&settings, "other", terms(1, 1)).unwrap();
    world.register(&settings, "other").unwrap();
    world.run(&settings, delete("other")).unwrap();
    assert!(matches!(refusal(world.enroll(&settings, "third", terms(1, 1))), Refusal::KeyInUse { .. }));
    world
        .run(
            &settings,
            Command::DeleteDevice {
                hub: "a".parse().unwrap(),
                id: "other".parse().unwrap(),
                precondition: Precondition::None,
            },
        )
        .unwrap();
    world.enroll(&settings, "third", terms(1, 1)).unwrap();
    world.check();
}

#[test]
fn a_device_id_of_another_registration_is_refused_in_strict_and_adopted_in_compat_mode() {
    for mode in [UnicityMode::Strict, UnicityMode::Compat] {
        let settings = settings(&["a"], mode);
        let mut world = World::default();
        world.put(&settings, "one", Some("Shared"), terms(1, 1), Precondition::Absent).unwrap();
        world.put(&settings, "two", Some("Shared"), terms(2, 2), Precondition::Absent).unwrap();
        world.register(&settings, "one").unwrap();
        let second = world.register(&settings, "two");
        match mode {
            UnicityMode::Strict => {
                assert!(matches!(refusal(second), Refusal::DeviceIdInUse { holder, .. } if holder.contains("one")));
                world.check();
            }
            UnicityMode::Compat => {
                assert_eq!(second.unwrap().substatus.as_str(), "reprovisionedToInitialAssignment");
            }
        }
    }
}

#[test]
fn a_device_made_by_hand_is_not_taken_over_in_strict_mode() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.put_device(&settings, "a", "dev-1", [5, 6], Precondition::Absent).unwrap();
    world.enroll(&settings, "dev-1", terms(1, 2)).unwrap();
    assert!(matches!(refusal(world.register(&settings, "dev-1")), Refusal::DeviceIdInUse { .. }));
    world.check();
}

#[test]
fn an_enrollment_that_changed_since_the_proof_asks_for_a_new_proof() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll(&settings, "dev-1", terms(1, 2)).unwrap();
    let old = world.individuals[&id("dev-1")].clone();
    world.put(&settings, "dev-1", None, terms(3, 4), Precondition::Any).unwrap();
    let stale =
        world.register_as(&settings, "dev-1", EnrollmentRef::Individual(id("dev-1")), old.etag, [key(1), key(2)]);
    assert_eq!(stale.unwrap_err(), RegistryError::EnrollmentChanged);
    // New keys reach the hub identity with the next registration, which stays where it was.
    let registered = world.register(&settings, "dev-1").unwrap();
    let device = &world.devices[&(registered.hub, registered.device_id)];
    assert_eq!(device.authentication.keys().iter().map(|key| key.0[0]).collect::<Vec<_>>(), [3, 4]);
    world.check();
}

#[test]
fn an_individual_enrollment_takes_over_from_a_group_and_blocks_when_disabled() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll_group(&settings, "g", terms(1, 2)).unwrap();
    let first = world.register_in_group(&settings, "dev-1", "g", [10, 11]).unwrap();
    world.enroll(&settings, "dev-1", terms(3, 4)).unwrap();
    assert_eq!(
        world.register_in_group(&settings, "dev-1", "g", [10, 11]).unwrap_err(),
        RegistryError::EnrollmentChanged
    );
    let second = world.register(&settings, "dev-1").unwrap();
    assert_eq!((first.hub, first.device_id, first.generation), (second.hub, second.device_id, second.generation));
    world.check();
    let disabled = EnrollmentTerms { status: ProvisioningStatus::Disabled, ..terms(3, 4) };
    world.put(&settings, "dev-1", None, disabled, Precondition::Any).unwrap();
    assert!(matches!(refusal(world.register(&settings, "dev-1")), Refusal::EnrollmentDisabled { .. }));
}

/// The client whose live session has to end, if any.
fn displaced(decision: &Decision) -> bool {
    matches!(&decision.outcome, Outcome::Registered { displaced: Some(_), .. })
}

/// As the individual enrollment of this id would be attested now.
fn command_of(world: &World, name: &str) -> RegisterCommand {
    let enrollment = world.individuals[&id(name)].clone();
    let Attestation::SymmetricKey { primary, secondary } = enrollment.terms.attestation else { panic!() };
    let attested = Attested {
        registration_id: id(name),
        enrollment: EnrollmentRef::Individual(id(name)),
        enrollment_etag: enrollment.etag,
        key_fingerprint: primary.fingerprint,
        proof: Proof::EnrolledKeys,
        enabled: true,
        token_expiry_seconds: None,
        facets: unicity_identity::Facets::default(),
    };
    RegisterCommand {
        attested,
        authentication: DeviceAuthentication::Sas { primary, secondary },
        storage_root_key: None,
        device_payload: None,
        continuity: Default::default(),
        circumstances: Default::default(),
    }
}

fn registers(world: &mut World, settings: &Settings, name: &str) -> Decision {
    let command = command_of(world, name);
    world.run(settings, Command::Register(Box::new(command))).unwrap()
}

#[test]
fn new_keys_end_the_session_under_the_old_ones_and_the_same_keys_do_not() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll(&settings, "dev-1", terms(1, 2)).unwrap();
    assert!(!displaced(&registers(&mut world, &settings, "dev-1")), "there was no identity before");
    assert!(!displaced(&registers(&mut world, &settings, "dev-1")));
    world.put(&settings, "dev-1", None, terms(3, 4), Precondition::Any).unwrap();
    assert!(displaced(&registers(&mut world, &settings, "dev-1")), "U2: key 1 is free for another identity now");
    world.check();
}

#[test]
fn what_an_operator_did_to_the_hub_identitys_keys_is_undone_by_the_next_registration() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll(&settings, "dev-1", terms(1, 2)).unwrap();
    world.register(&settings, "dev-1").unwrap();
    world.put_device(&settings, "a", "dev-1", [8, 9], Precondition::Any).unwrap();
    assert!(displaced(&registers(&mut world, &settings, "dev-1")));
    world.check();
}

#[test]
fn a_groups_other_spelling_is_refused_after_the_first_is_pinned() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll_group(&settings, "g", terms(1, 2)).unwrap();
    world.register_in_group(&settings, "dev-1", "g", [10, 11]).unwrap();
    assert!(matches!(refusal(world.register_in_group(&settings, "dev-1", "g", [20, 21])), Refusal::WrongKey { .. }));
    world.check();
}

#[test]
fn allocation_keeps_to_the_enrollments_hubs() {
    let settings = settings(&["a", "b", "c"], STRICT);
    let mut world = World::default();
    let only = |hubs: &[&str], allocation| EnrollmentTerms {
        hubs: hubs.iter().map(|host| host.parse().unwrap()).collect(),
        allocation,
        ..terms(1, 2)
    };
    world.enroll(&settings, "d", only(&["b.local"], Some(AllocationPolicy::Static))).unwrap();
    assert_eq!(world.register(&settings, "d").unwrap().hub.as_str(), "b");
    let unknown = refusal(world.put(&settings, "d", None, only(&["z.local"], None), Precondition::Any));
    assert!(unknown.to_string().contains("z.local") && unknown.to_string().contains("a.local"), "{unknown}");
    assert!(world.put(&settings, "d", None, only(&[], Some(AllocationPolicy::Static)), Precondition::Any).is_err());
    let closed = Settings {
        hubs: HubDirectory::new(vec![LinkedHub {
            terms: HubTerms { apply_allocation: false, ..Default::default() },
            ..hub("a")
        }])
        .unwrap(),
        ..settings.clone()
    };
    let mut world = World::default();
    world.enroll(&closed, "d", terms(1, 2)).unwrap();
    assert!(matches!(refusal(world.register(&closed, "d")), Refusal::NoHub { .. }));
}

/// Eight devices of each kind: by chance they would share one of four hubs in one of 16,384 cases, and ids are fixed.
#[test]
fn what_a_sticky_policy_goes_by_keeps_devices_together() {
    let settings = settings(&["a", "b", "c", "d"], STRICT);
    let sticky =
        |by, terms: EnrollmentTerms| EnrollmentTerms { allocation: Some(AllocationPolicy::Sticky(by)), ..terms };
    let at_site = |n: u8| {
        let twin = serde_json::json!({"tags": {"site": 7}});
        let initial_twin = Some(unicity_identity::json::JsonText::from_value(&twin));
        sticky(StickyBy::Tag("site".to_owned()), EnrollmentTerms { initial_twin, ..terms(n, n) })
    };
    let mut world = World::default();
    let mut hubs: BTreeMap<&str, BTreeSet<HubName>> = BTreeMap::new();
    world.enroll_group(&settings, "line-4", sticky(StickyBy::Batch, terms(200, 200))).unwrap();
    for n in 0..8u8 {
        let draft = IndividualDraft {
            registration_id: id(&format!("batch-{n}")),
            device_id: None,
            optional_device_information: None,
            batch: Some("2026-11".parse().unwrap()),
            terms: TermsDraft { terms: sticky(StickyBy::Batch, terms(10 + n, 10 + n)), keys_given: true },
        };
        let put = Command::PutIndividual { draft: Box::new(draft), precondition: Precondition::Absent };
        world.run(&settings, put).unwrap();
        world.enroll(&settings, &format!("alone-{n}"), sticky(StickyBy::Batch, terms(20 + n, 20 + n))).unwrap();
        world.enroll(&settings, &format!("site-{n}"), at_site(30 + n)).unwrap();
        for kind in ["batch", "alone", "site"] {
            let registration = world.register(&settings, &format!("{kind}-{n}")).unwrap();
            hubs.entry(kind).or_default().insert(registration.hub);
        }
        let member = world.register_in_group(&settings, &format!("member-{n}"), "line-4", [40 + n, 50 + n]).unwrap();
        hubs.entry("member").or_default().insert(member.hub);
    }
    let counts: Vec<_> = hubs.iter().map(|(kind, hubs)| (*kind, hubs.len() == 1)).collect();
    assert_eq!(counts, [("alone", false), ("batch", true), ("member", true), ("site", true)]);
}

#[test]
fn preconditions() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    let matches = |text: &str| Precondition::Matches(text.to_owned());
    let put = |world: &mut World, precondition| world.put(&settings, "d", None, terms(1, 2), precondition);
    assert!(matches!(refusal(put(&mut world, Precondition::Any)), Refusal::NotFound(_)));
    assert!(matches!(refusal(put(&mut world, matches("\"x\""))), Refusal::PreconditionFailed(_)));
    put(&mut world, Precondition::Absent).unwrap();
    let etag = world.individuals[&id("d")].etag.to_string();
    assert!(matches!(refusal(put(&mut world, Precondition::Absent)), Refusal::Exists(_)));
    put(&mut world, matches(&format!("\"{etag}\""))).unwrap();
    assert!(matches!(refusal(put(&mut world, matches(&etag))), Refusal::PreconditionFailed(_)), "the etag has changed");
    put(&mut world, Precondition::Any).unwrap();
}

#[test]
fn a_device_made_anew_begins_a_new_generation() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll(&settings, "d", terms(1, 2)).unwrap();
    let first = world.register(&settings, "d").unwrap();
    world
        .run(
            &settings,
            Command::DeleteDevice {
                hub: "a".parse().unwrap(),
                id: "d".parse().unwrap(),
                precondition: Precondition::None,
            },
        )
        .unwrap();
    let second = world.register(&settings, "d").unwrap();
    assert_ne!(first.generation, second.generation);
    world.check();
}

#[derive(Debug, Clone)]
enum Step {
    Enroll(u8, u8, u8, Option<u8>),
    DeleteEnrollment(u8),
    EnrollGroup(u8, u8),
    DeleteGroup(u8),
    Register(u8),
    RegisterInGroup(u8, u8),
    DeleteRegistration(u8),
    PutDevice(u8, u8, u8),
    DeleteDevice(u8, u8),
    PutModule(u8, u8, u8, u8),
    DeleteModule(u8, u8, u8),
    EditTwin(u8, u8, Option<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    (0u8..12, 0u8..4, 0u8..8, 0u8..8, any::<bool>()).prop_map(|(kind, a, b, c, named)| match kind {
        0 => Step::Enroll(a, b, c, named.then_some(c % 4)),
        1 => Step::DeleteEnrollment(a),
        2 => Step::EnrollGroup(a % 2, b),
        3 => Step::DeleteGroup(a % 2),
        4 => Step::Register(a),
        5 => Step::RegisterInGroup(a, b % 2),
        6 => Step::DeleteRegistration(a),
        7 => Step::PutDevice(a % 2, a, b),
        8 => Step::DeleteDevice(b % 2, a),
        9 => Step::PutModule(b % 2, a, c % 2, b),
        10 => Step::DeleteModule(b % 2, a, c % 2),
        _ => Step::EditTwin(b % 2, a, named.then_some(c % 2)),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// U1 and U2 hold after every step of any history, and the key index is exactly the keys in use.
    #[test]
    fn no_history_breaks_unicity(steps in proptest::collection::vec(step(), 1..60)) {
        let settings = settings(&["a", "b"], STRICT);
        let hub = |n: u8| -> HubName { ["a", "b"][usize::from(n)].parse().unwrap() };
        let name = |n: u8| format!("d{n}");
        let mut world = World::default();
        for step in steps {
            let _ = match step {
                Step::Enroll(n, k, l, device) => {
                    let there = world.individuals.contains_key(&id(&name(n)));
                    let precondition = if there { Precondition::Any } else { Precondition::Absent };
                    world.put(&settings, &name(n), device.map(name).as_deref(), terms(k, l), precondition).map(drop)
                }
                Step::DeleteEnrollment(n) => {
                    world.run(&settings, Command::DeleteIndividual { id: id(&name(n)), precondition: Precondition::None }).map(drop)
                }
                Step::EnrollGroup(n, k) => world.enroll_group(&settings, &format!("g{n}"), terms(k, k)).map(drop),
                Step::DeleteGroup(n) => {
                    let id = format!("g{n}").parse().unwrap();
                    world.run(&settings, Command::DeleteGroup { id, precondition: Precondition::None }).map(drop)
                }
                Step::Register(n) => match world.individuals.contains_key(&id(&name(n))) {
                    true => world.register(&settings, &name(n)).map(drop),
                    false => Ok(()),
                },
                // A derived key depends on group and device only.
                Step::RegisterInGroup(n, g) => match world.groups.contains_key(&format!("g{g}").parse().unwrap()) {
                    true => world.register_in_group(&settings, &name(n), &format!("g{g}"), [100 + n * 2 + g, 100 + n * 2 + g]).map(drop),
                    false => Ok(()),
                },
                Step::DeleteRegistration(n) => {
                    world.run(&settings, Command::DeleteRegistration { id: id(&name(n)), precondition: Precondition::None }).map(drop)
                }
                Step::PutDevice(h, n, k) => {
                    let there = world.devices.contains_key(&(hub(h), name(n).parse().unwrap()));
                    let precondition = if there { Precondition::Any } else { Precondition::Absent };
                    world.put_device(&settings, hub(h).as_str(), &name(n), [k, k], precondition).map(drop)
                }
                Step::DeleteDevice(h, n) => {
                    let id = name(n).parse().unwrap();
                    world.run(&settings, Command::DeleteDevice { hub: hub(h), id, precondition: Precondition::None }).map(drop)
                }
                Step::PutModule(h, n, m, k) => world.put_module(&settings, hub(h).as_str(), &name(n), &format!("m{m}"), k).map(drop),
                Step::DeleteModule(h, n, m) => {
                    world.delete_module(&settings, hub(h).as_str(), &name(n), &format!("m{m}"), Precondition::None).map(drop)
                }
                Step::EditTwin(h, n, m) => {
                    let client = twins::client(hub(h).as_str(), &name(n), m.map(|m| format!("m{m}")).as_deref());
                    world.edit_twin(&settings, client, TwinEdit::patch(&serde_json::json!({"tags": {"n": n}})).unwrap(), Precondition::None).map(drop)
                }
            };
            world.check();
        }
    }
}
