//! U2 over every path by which a key comes in, whoever holds it already, in each mode.

use unicity_identity::device::CertificateBinding;
use unicity_identity::enrollment::StoredCertificate;

use super::*;

/// The key that is there already.
const HELD: u8 = 77;

type Try = fn(&mut World, &Settings) -> Result<Decision, RegistryError>;

fn certificate(n: u8) -> StoredCertificate {
    StoredCertificate { der: vec![n; 8], key: KeyFingerprint([n; 32]) }
}

fn with(attestation: Attestation) -> EnrollmentTerms {
    EnrollmentTerms { attestation, ..terms(0, 0) }
}

fn clients(n: u8) -> EnrollmentTerms {
    with(Attestation::ClientCertificates { primary: None, secondary: Some(certificate(n)) })
}

fn tpm(n: u8) -> EnrollmentTerms {
    with(Attestation::Tpm { endorsement_key: vec![n; 8], key: KeyFingerprint([n; 32]), storage_root_key: None })
}

fn bound(n: u8) -> DeviceAuthentication {
    let binding = CertificateBinding { thumbprint: vec![n; 32], key: Some(KeyFingerprint([n; 32])) };
    DeviceAuthentication::Certificates { primary: binding, secondary: None }
}

impl World {
    fn first_attestation(
        &mut self,
        settings: &Settings,
        name: &str,
        key: u8,
        authentication: DeviceAuthentication,
    ) -> Result<Decision, RegistryError> {
        let group: EnrollmentGroupId = "members".parse().unwrap();
        let attested = Attested {
            registration_id: id(name),
            enrollment: EnrollmentRef::Group(group.clone()),
            enrollment_etag: self.groups[&group].etag,
            key_fingerprint: KeyFingerprint([key; 32]),
            proof: Proof::Certificate { thumbprint: vec![key; 32] },
            enabled: true,
            token_expiry_seconds: None,
            facets: Default::default(),
        };
        let command = RegisterCommand {
            attested,
            authentication,
            storage_root_key: None,
            device_payload: None,
            continuity: Default::default(),
            circumstances: Default::default(),
        };
        self.run(settings, Command::Register(Box::new(command)))
    }

    fn put_group_again(&mut self, settings: &Settings, terms: EnrollmentTerms) -> Result<Decision, RegistryError> {
        let draft = GroupDraft { group_id: "members".parse().unwrap(), terms: TermsDraft { terms, keys_given: true } };
        self.run(settings, Command::PutGroup { draft: Box::new(draft), precondition: Precondition::Any })
    }
}

fn sas(primary: u8, secondary: u8) -> DeviceAuthentication {
    DeviceAuthentication::Sas { primary: key(primary), secondary: key(secondary) }
}

/// Every way in for a key. Each begins in [`prepared`].
const PATHS: [(&str, Try); 14] = [
    ("individual, primary", |world, settings| world.enroll(settings, "new", terms(HELD, 201))),
    ("individual, secondary", |world, settings| world.enroll(settings, "new", terms(201, HELD))),
    ("individual, certificate", |world, settings| world.enroll(settings, "new", clients(HELD))),
    ("individual, TPM", |world, settings| world.enroll(settings, "new", tpm(HELD))),
    ("individual, update", |world, settings| world.put(settings, "old", None, terms(HELD, HELD), Precondition::Any)),
    ("individual, update of the secondary", |world, settings| {
        world.put(settings, "old", None, terms(101, HELD), Precondition::Any)
    }),
    ("individual, update of the type", |world, settings| {
        world.put(settings, "old", None, tpm(HELD), Precondition::Any)
    }),
    ("group", |world, settings| world.enroll_group(settings, "new", terms(HELD, 201))),
    ("group, authority", |world, settings| {
        let primary = Some(certificate(HELD));
        world.enroll_group(settings, "new", with(Attestation::SigningCertificates { primary, secondary: None }))
    }),
    ("group, update of the secondary", |world, settings| world.put_group_again(settings, terms(103, HELD))),
    ("hub identity", |world, settings| world.put_device(settings, "a", "new", [HELD, 201], Precondition::Absent)),
    ("hub identity, update of the secondary", |world, settings| {
        world.put_device(settings, "a", "hand", [102, HELD], Precondition::Any)
    }),
    ("first attestation, derived key", |world, settings| {
        world.first_attestation(settings, "new", HELD, sas(HELD, 201))
    }),
    ("first attestation, certificate", |world, settings| world.first_attestation(settings, "new", HELD, bound(HELD))),
];

/// Records with keys of their own, which updates can change.
fn prepared(settings: &Settings) -> World {
    let mut world = World::default();
    world.enroll(settings, "old", terms(101, 101)).unwrap();
    world.put_device(settings, "a", "hand", [102, 102], Precondition::Absent).unwrap();
    world.enroll_group(settings, "members", terms(103, 104)).unwrap();
    world
}

/// Everyone who can hold a key, and as whom a refusal names it.
fn holders() -> Vec<(&'static str, Try, KeyOwner)> {
    let registration = |name: &str| KeyOwner::Registration(id(name));
    vec![
        ("an enrollment", |world, settings| world.enroll(settings, "holder", terms(105, HELD)), registration("holder")),
        ("a certificate", |world, settings| world.enroll(settings, "holder", clients(HELD)), registration("holder")),
        ("a TPM", |world, settings| world.enroll(settings, "holder", tpm(HELD)), registration("holder")),
        (
            "a group",
            |world, settings| world.enroll_group(settings, "holders", terms(105, HELD)),
            KeyOwner::Group("holders".parse().unwrap()),
        ),
        (
            "a device made by hand",
            |world, settings| world.put_device(settings, "a", "holder", [105, HELD], Precondition::Absent),
            KeyOwner::Device("a".parse().unwrap(), "holder".parse().unwrap()),
        ),
        (
            "a group's member",
            |world, settings| world.first_attestation(settings, "holder", HELD, bound(HELD)),
            registration("holder"),
        ),
    ]
}

fn warnings(decision: &Decision) -> Vec<String> {
    match &decision.leaf.as_ref().unwrap().event {
        LeafEvent::EnrollmentPut { warnings, .. }
        | LeafEvent::GroupPut { warnings, .. }
        | LeafEvent::DevicePut { warnings, .. }
        | LeafEvent::ModulePut { warnings, .. }
        | LeafEvent::Registered { warnings, .. } => warnings.clone(),
        other => panic!("{other:?}"),
    }
}

fn allowing(keys: &[u8]) -> Settings {
    Settings { allow_shared: keys.iter().map(|n| KeyFingerprint([*n; 32])).collect(), ..settings(&["a"], STRICT) }
}

#[test]
fn a_held_key_is_refused_on_every_path_and_its_holder_named() {
    for settings in [settings(&["a"], STRICT), allowing(&[HELD + 1])] {
        for (holder, hold, owner) in holders() {
            for (path, attempt) in PATHS {
                let mut world = prepared(&settings);
                hold(&mut world, &settings).unwrap();
                world.check();
                let before = (world.keys.clone(), world.individuals.clone(), world.devices.clone());
                let refused = refusal(attempt(&mut world, &settings));
                let expected = Refusal::KeyInUse { fingerprint: KeyFingerprint([HELD; 32]), holder: owner.clone() };
                assert_eq!(refused, expected, "{path}, held by {holder}");
                assert_eq!(before, (world.keys.clone(), world.individuals.clone(), world.devices.clone()));
                world.check();
            }
        }
    }
}

#[test]
fn compat_mode_and_the_list_of_shared_keys_let_it_pass_with_a_warning_in_the_leaf() {
    for settings in [settings(&["a"], UnicityMode::Compat), allowing(&[HELD])] {
        for (holder, hold, owner) in holders() {
            for (path, attempt) in PATHS {
                let mut world = prepared(&settings);
                hold(&mut world, &settings).unwrap();
                let passed = attempt(&mut world, &settings).unwrap_or_else(|error| panic!("{path}: {error}"));
                let warnings = warnings(&passed);
                assert!(
                    matches!(&warnings[..], [one] if one.contains(&owner.to_string())),
                    "{path}, held by {holder}: {warnings:?}"
                );
                assert_eq!(world.keys[&KeyFingerprint([HELD; 32])], owner, "the first owner stays in the index");
            }
        }
    }
}

#[test]
fn a_key_that_nobody_else_has_leaves_no_warning() {
    let settings = allowing(&[HELD]);
    for (path, attempt) in PATHS {
        let mut world = prepared(&settings);
        let passed = attempt(&mut world, &settings).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(warnings(&passed), Vec::<String>::new(), "{path}");
        world.check();
    }
}

#[test]
fn an_identity_that_compat_mode_takes_over_gives_up_its_keys_and_its_session() {
    let settings = settings(&["a"], UnicityMode::Compat);
    let mut world = World::default();
    world.put_device(&settings, "a", "dev", [5, 6], Precondition::Absent).unwrap();
    world.enroll(&settings, "dev", terms(1, 2)).unwrap();
    assert!(displaced(&registers(&mut world, &settings, "dev")), "who came in with key 5 has to go");
    world.check();
    // Of a registration that keeps its enrollment, the keys stay with that.
    world.put(&settings, "other", Some("dev"), terms(3, 4), Precondition::Absent).unwrap();
    assert!(displaced(&registers(&mut world, &settings, "other")));
    world.check();
}

#[test]
fn a_thumbprint_over_another_identitys_key_is_found_at_its_first_use() {
    let unseen = |world: &World| {
        let device = &world.devices[&("a".parse().unwrap(), "hand".parse().unwrap())];
        let thumbprint_only = CertificateBinding { thumbprint: vec![1; 32], key: None };
        let primary = thumbprint_only;
        DeviceIdentity {
            authentication: DeviceAuthentication::Certificates { primary, secondary: None },
            ..device.clone()
        }
    };
    let holder = |settings: &Settings| {
        let mut world = prepared(settings);
        world.enroll(settings, "holder", clients(HELD)).unwrap();
        other_holder(&world.memory, settings, &unseen(&world), &KeyFingerprint([HELD; 32])).unwrap()
    };
    assert_eq!(holder(&settings(&["a"], STRICT)), Some(KeyOwner::Registration(id("holder"))));
    assert_eq!(holder(&settings(&["a"], UnicityMode::Compat)), None);
    assert_eq!(holder(&allowing(&[HELD])), None);
    let settings = settings(&["a"], STRICT);
    let world = prepared(&settings);
    assert_eq!(
        other_holder(&world.memory, &settings, &unseen(&world), &KeyFingerprint([102; 32])),
        Ok(None),
        "its own"
    );
    assert_eq!(
        other_holder(&world.memory, &settings, &unseen(&world), &KeyFingerprint([99; 32])),
        Ok(None),
        "nobody's"
    );
}

#[test]
fn a_device_whose_registration_no_longer_leads_to_it_stands_alone() {
    let settings = settings(&["a"], STRICT);
    let device = |world: &World, name: &str| world.devices[&("a".parse().unwrap(), name.parse().unwrap())].clone();
    let delete_registration = || Command::DeleteRegistration { id: id("dev"), precondition: Precondition::None };
    let delete_individual = || Command::DeleteIndividual { id: id("dev"), precondition: Precondition::None };
    for first_the_record in [true, false] {
        let mut world = World::default();
        world.put(&settings, "dev", Some("Named"), terms(1, 2), Precondition::Absent).unwrap();
        world.register(&settings, "dev").unwrap();
        let mut deletions = [delete_registration(), delete_individual()];
        if !first_the_record {
            deletions.reverse();
        }
        for deletion in deletions {
            world.run(&settings, deletion).unwrap();
            world.check();
        }
        assert_eq!(device(&world, "Named").registration, None);
        // Its keys are its own now: a new enrollment of the old id cannot have them a second time.
        assert!(matches!(refusal(world.enroll(&settings, "dev", terms(1, 9))), Refusal::KeyInUse { .. }));
        world.enroll(&settings, "dev", terms(8, 9)).unwrap();
        world.register(&settings, "dev").unwrap();
        world.check();
    }
}

#[test]
fn an_enrollment_cannot_leave_its_hub_device_behind() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    let delete_registration = || Command::DeleteRegistration { id: id("dev"), precondition: Precondition::None };
    world.put(&settings, "dev", Some("Named"), terms(1, 2), Precondition::Absent).unwrap();
    world.register(&settings, "dev").unwrap();
    // As long as the record stands, the device is where the record says.
    world.put(&settings, "dev", Some("Other"), terms(1, 2), Precondition::Any).unwrap();
    assert_eq!(world.register(&settings, "dev").unwrap().device_id.as_str(), "Named");
    let refused = refusal(world.run(&settings, delete_registration()));
    assert!(matches!(&refused, Refusal::Invalid { what, .. } if what.contains("Named")), "{refused}");
    world.put(&settings, "dev", Some("Named"), terms(1, 2), Precondition::Any).unwrap();
    world.run(&settings, delete_registration()).unwrap();
    let refused = refusal(world.put(&settings, "dev", Some("Other"), terms(1, 2), Precondition::Any));
    assert!(matches!(&refused, Refusal::Invalid { what, .. } if what.contains("Named")), "{refused}");
    world.check();
}
