//! The count of identities that each hub holds is that of a recount, and the index of keys that of those in use, whatever happens:
//! devices register, move, are made by hand, deleted and revoked, hubs come and go, and transfers go on, fail or hang.

use unicity_identity::RevocationTarget;

use super::elsewhere::Elsewhere;
use super::*;
use crate::registry::{Circumstances, HubEdit, MoveCommand};
use crate::transfer::TransferEvent;

/// Two hubs here and two elsewhere.
const HUBS: [&str; 4] = ["a", "b", "r", "s"];
const LOCAL: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Step {
    Enroll {
        device: u8,
        updates: bool,
        migrates: bool,
    },
    DeleteEnrollment(u8),
    Register {
        device: u8,
        down: Option<u8>,
    },
    RegisterInGroup(u8),
    Move(u8),
    /// The step of a transfer is done, or is refused.
    Transfer {
        device: u8,
        refused: bool,
    },
    PutDevice {
        hub: u8,
        device: u8,
    },
    DeleteDevice {
        hub: u8,
        device: u8,
    },
    DeleteRegistration(u8),
    Revoke(u8),
    RevokeKey(u8),
    RevokeGroup,
    Lift(u8),
    Terms {
        hub: u8,
        draining: bool,
        capacity: Option<u64>,
    },
    Link(u8),
    Unlink {
        hub: u8,
        force: bool,
    },
    Policy(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let device = || 0u8..4;
    let hub = || 0u8..4;
    prop_oneof![
        4 => (device(), any::<bool>(), any::<bool>())
            .prop_map(|(device, updates, migrates)| Step::Enroll { device, updates, migrates }),
        1 => device().prop_map(Step::DeleteEnrollment),
        8 => (device(), proptest::option::weighted(0.2, hub())).prop_map(|(device, down)| Step::Register { device, down }),
        3 => device().prop_map(Step::RegisterInGroup),
        6 => device().prop_map(Step::Move),
        20 => (device(), prop::bool::weighted(0.1)).prop_map(|(device, refused)| Step::Transfer { device, refused }),
        1 => (0u8..2, device()).prop_map(|(hub, device)| Step::PutDevice { hub, device }),
        1 => (0u8..2, device()).prop_map(|(hub, device)| Step::DeleteDevice { hub, device }),
        1 => device().prop_map(Step::DeleteRegistration),
        1 => device().prop_map(Step::Revoke),
        1 => (0u8..8).prop_map(Step::RevokeKey),
        1 => Just(Step::RevokeGroup),
        2 => device().prop_map(Step::Lift),
        6 => (hub(), any::<bool>(), proptest::option::weighted(0.3, 0u64..4))
            .prop_map(|(hub, draining, capacity)| Step::Terms { hub, draining, capacity }),
        3 => (2u8..4).prop_map(Step::Link),
        1 => (2u8..4, prop::bool::weighted(0.2)).prop_map(|(hub, force)| Step::Unlink { hub, force }),
        1 => any::<bool>().prop_map(Step::Policy),
    ]
}

/// A world that steps are taken in, and the hubs elsewhere that belong to it.
struct Scene {
    settings: Settings,
    world: World,
    elsewhere: Elsewhere,
    /// A hub was unlinked by force: what it held is there still, and nobody reaches it.
    is_torn: bool,
}

impl Scene {
    fn new() -> Self {
        let settings = settings(&LOCAL, STRICT);
        let mut world = World::default();
        for name in &HUBS[2..] {
            world.link(&settings, name, HubTerms::default());
        }
        world.enroll_group(&settings, "g", terms(200, 201)).unwrap();
        Self { settings, world, elsewhere: Elsewhere::default(), is_torn: false }
    }

    fn take(&mut self, step: Step) -> Result<(), RegistryError> {
        let Self { settings, world, .. } = self;
        let name = |n: u8| format!("d{n}");
        let hub = |n: u8| -> HubName { HUBS[usize::from(n)].parse().unwrap() };
        let none = Precondition::None;
        let command = match step {
            Step::Enroll { device, updates, migrates } => {
                let reprovision = unicity_identity::enrollment::ReprovisionPolicy {
                    update_hub_assignment: updates,
                    migrate_device_data: migrates,
                };
                let there = world.individuals.contains_key(&id(&name(device)));
                let precondition = if there { Precondition::Any } else { Precondition::Absent };
                let terms = EnrollmentTerms { reprovision: Some(reprovision), ..terms(2 * device, 2 * device + 1) };
                return world.put(settings, &name(device), None, terms, precondition).map(drop);
            }
            Step::DeleteEnrollment(n) => Command::DeleteIndividual { id: id(&name(n)), precondition: none },
            Step::Register { device, down } => {
                let mut live = crate::allocation::LiveFacts::default();
                live.down.extend(down.map(|n| (hub(n), "it does not answer".to_owned())));
                if !world.individuals.contains_key(&id(&name(device))) {
                    return Ok(());
                }
                let circumstances = Circumstances { live: live.into(), ..Circumstances::default() };
                return world.ask(settings, &name(device), circumstances).map(drop);
            }
            Step::RegisterInGroup(n) => {
                let group: EnrollmentGroupId = "g".parse().unwrap();
                let etag = world.groups[&group].etag;
                let [primary, secondary] = [key(100 + n), key(110 + n)];
                let attested = Attested {
                    registration_id: id(&name(n)),
                    enrollment: EnrollmentRef::Group(group),
                    enrollment_etag: etag,
                    key_fingerprint: primary.fingerprint,
                    proof: Proof::EnrolledKeys,
                    enabled: true,
                    token_expiry_seconds: None,
                    facets: unicity_identity::Facets::default(),
                };
                Command::Register(Box::new(RegisterCommand {
                    attested,
                    authentication: DeviceAuthentication::Sas { primary, secondary },
                    storage_root_key: None,
                    device_payload: None,
                    continuity: Default::default(),
                    circumstances: Default::default(),
                }))
            }
            Step::Move(n) => {
                let Some(registration) = world.registrations.get(&id(&name(n))) else { return Ok(()) };
                Command::Move(Box::new(MoveCommand {
                    registration_id: id(&name(n)),
                    from: registration.hub.clone(),
                    rebalance: 0,
                    circumstances: Circumstances::default(),
                }))
            }
            Step::Transfer { device, refused } => {
                let found = world.transfers.get(&id(&name(device))).filter(|transfer| !transfer.is_failed());
                let Some(transfer) = found.cloned() else { return Ok(()) };
                let event = match refused {
                    true => TransferEvent::Refused { code: 400_208, message: "no".to_owned() },
                    false => self.elsewhere.perform(world, &transfer),
                };
                return world.step(settings, &transfer, event).map(drop);
            }
            Step::PutDevice { hub: h, device } => {
                let there = world.devices.contains_key(&(hub(h), name(device).parse().unwrap()));
                let precondition = if there { Precondition::Any } else { Precondition::Absent };
                let keys = [120 + device, 130 + device];
                return world.put_device(settings, hub(h).as_str(), &name(device), keys, precondition).map(drop);
            }
            Step::DeleteDevice { hub: h, device } => {
                Command::DeleteDevice { hub: hub(h), id: name(device).parse().unwrap(), precondition: none }
            }
            Step::DeleteRegistration(n) => Command::DeleteRegistration { id: id(&name(n)), precondition: none },
            Step::Revoke(n) => {
                let target = RevocationTarget::Registration(id(&name(n)));
                Command::Revoke { target, reason: None, force: false }
            }
            Step::RevokeKey(n) => {
                let target = RevocationTarget::Key(KeyFingerprint([n; 32]));
                Command::Revoke { target, reason: None, force: false }
            }
            Step::RevokeGroup => {
                let target = RevocationTarget::Group("g".parse().unwrap());
                world.run(settings, Command::Revoke { target: target.clone(), reason: None, force: false })?;
                let registrations = world.registrations.keys().cloned().collect();
                Command::FollowRevocation { target, registrations, complete: true }
            }
            Step::Lift(n) => Command::LiftRevocation { target: RevocationTarget::Registration(id(&name(n))) },
            Step::Terms { hub: h, draining, capacity } => {
                let terms = HubTerms { draining, capacity, ..HubTerms::default() };
                return world.set_terms(settings, hub(h).as_str(), terms).map(drop);
            }
            Step::Link(n) => {
                world.link(settings, hub(n).as_str(), HubTerms::default());
                return Ok(());
            }
            Step::Unlink { hub: h, force } => {
                self.is_torn |= force && world.hub_loads.get(&hub(h)).is_some_and(|load| *load > 0);
                Command::SetHub { name: hub(h), edit: Box::new(HubEdit::Remove { force }) }
            }
            Step::Policy(by_load) => Command::SetDefaultPolicy(by_load.then_some(AllocationPolicy::LeastLoaded)),
        };
        world.run(settings, command).map(drop)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn loads_are_a_recount_after_any_history(steps in proptest::collection::vec(step(), 1..80)) {
        let mut scene = Scene::new();
        for step in steps {
            if let Err(RegistryError::Fault(fault)) = scene.take(step) {
                panic!("{fault}");
            }
            scene.world.check();
            if !scene.is_torn {
                scene.world.check_enabled(&scene.settings, &scene.elsewhere);
            }
        }
    }
}
