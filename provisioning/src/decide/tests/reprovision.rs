//! The re-provisioning matrix (`service-rest.md` 7.1 and 7.2) as a table: every policy, with either kind of api-version, and every
//! way between local and remote hubs.

use serde_json::{Value, json};
use unicity_identity::enrollment::ReprovisionPolicy;
use unicity_identity::json::JsonText;
use unicity_identity::registration::Substatus;
use unicity_identity::{ClientIdentity, GenerationId, Twin};

use super::elsewhere::Elsewhere;
use super::*;
use crate::registry::Circumstances;
use crate::transfer::{Transfer, TransferEvent, TransferStage, TwinFate};

/// What an enrollment says: `updateHubAssignment` and `migrateDeviceData`, or nothing.
type Stored = Option<(bool, bool)>;

/// The kind of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Remote,
}
use Kind::{Local, Remote};

/// The rows of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Migrate,
    Reset,
    Never,
}

/// A row: the policy stored, whether the device speaks an api-version of 2018-04-01 or before, and what these mean together.
const POLICIES: [(Stored, bool, Means); 10] = [
    (Some((true, true)), false, Means::Migrate),
    (Some((true, false)), false, Means::Reset),
    (Some((false, true)), false, Means::Never),
    (Some((false, false)), false, Means::Never),
    // What is stored always wins.
    (Some((true, true)), true, Means::Migrate),
    (Some((true, false)), true, Means::Reset),
    (Some((false, true)), true, Means::Never),
    (Some((false, false)), true, Means::Never),
    (None, false, Means::Migrate),
    (None, true, Means::Never),
];

/// A column: the kind of the device's hub, and that of the hub where the new allocation puts it; `None`: the same hub.
const WAYS: [(Kind, Option<Kind>); 6] = [
    (Local, None),
    (Remote, None),
    (Local, Some(Local)),
    (Local, Some(Remote)),
    (Remote, Some(Local)),
    (Remote, Some(Remote)),
];

const D: &str = "dev-1";

fn initial() -> Value {
    json!({"tags": {"line": 4}, "properties": {"desired": {"rate": 10}}})
}

fn contents(twin: &Twin) -> [Value; 3] {
    [twin.tags.to_value(), twin.desired.properties.to_value(), twin.reported.properties.to_value()]
}

fn untouched() -> [Value; 3] {
    [json!({"line": 4}), json!({"rate": 10}), json!({})]
}

fn lived_in() -> [Value; 3] {
    [json!({"line": 5, "hall": "b"}), json!({"rate": 20}), json!({"temperature": 7})]
}

fn edits() -> [TwinEdit; 2] {
    [
        TwinEdit::patch(&json!({"tags": {"line": 5, "hall": "b"}, "properties": {"desired": {"rate": 20}}})).unwrap(),
        TwinEdit::report(&json!({"temperature": 7})).unwrap(),
    ]
}

fn at(hub: &str) -> ClientIdentity {
    twins::client(hub, D, None)
}

/// A device at the hub `old` that has lived there for a while, and beside it a hub `new` that takes nobody yet.
struct Scene {
    settings: Settings,
    world: World,
    elsewhere: Elsewhere,
    old: Kind,
}

fn closed() -> HubTerms {
    HubTerms { apply_allocation: false, ..HubTerms::default() }
}

impl Scene {
    fn new(stored: Stored, old: Kind, new: Kind) -> Self {
        let hubs = [("old", old, HubTerms::default()), ("new", new, closed())];
        let local: Vec<_> = hubs.iter().filter(|(_, kind, _)| *kind == Local).map(|(name, ..)| *name).collect();
        let settings = settings(&local, STRICT);
        let (world, elsewhere) = (World::default(), Elsewhere::default());
        let mut scene = Self { settings, world, elsewhere, old };
        for (name, kind, terms) in hubs {
            match kind {
                Local => drop(scene.world.set_terms(&scene.settings, name, terms).unwrap()),
                Remote => scene.world.link(&scene.settings, name, terms),
            }
        }
        let reprovision = stored.map(|(update_hub_assignment, migrate_device_data)| ReprovisionPolicy {
            update_hub_assignment,
            migrate_device_data,
        });
        let terms =
            EnrollmentTerms { reprovision, initial_twin: Some(JsonText::from_value(&initial())), ..terms(1, 2) };
        scene.world.enroll(&scene.settings, D, terms).unwrap();
        scene.register(false);
        assert_eq!(scene.assignment().substatus, Substatus::InitialAssignment);
        assert_eq!(contents(&scene.twin("old", old).unwrap()), untouched());
        for edit in edits() {
            match old {
                Local => drop(scene.world.edit_twin(&scene.settings, at("old"), edit, Precondition::None).unwrap()),
                Remote => {
                    let there = scene.elsewhere.identities.get_mut(&(at("old").hub, at("old").device_id)).unwrap();
                    there.twin = there.twin.edit(&edit, Timestamp(1000)).unwrap();
                }
            }
        }
        assert_eq!(contents(&scene.twin("old", old).unwrap()), lived_in());
        scene
    }

    /// Registers, and carries through whatever follows. Gives the client whose session had to end, and the stages.
    fn register(&mut self, is_old: bool) -> (Option<ClientIdentity>, Vec<TransferStage>) {
        let circumstances = Circumstances { stays_by_default: is_old, ..Circumstances::default() };
        let before = self.world.registrations.get(&id(D)).cloned();
        let decision = self.world.ask(&self.settings, D, circumstances).unwrap();
        let displaced = match decision.outcome {
            Outcome::Registered { displaced, .. } => displaced,
            Outcome::Transferring { displaced, transfer } => {
                self.check_begun(&transfer);
                assert_eq!(self.world.registrations.get(&id(D)), before.as_ref(), "what is not done is not recorded");
                displaced
            }
            other => panic!("{other:?}"),
        };
        let stages = self.world.carry_through(&self.settings, &mut self.elsewhere, D);
        assert!(self.world.transfers.is_empty(), "{:?}", self.world.transfers);
        self.world.check();
        (displaced, stages)
    }

    /// Whoever comes from another hub has its identity there named as the source.
    fn check_begun(&self, transfer: &Transfer) {
        let Some(before) = self.world.registrations.get(&id(D)) else { return };
        let target = transfer.target.as_ref().unwrap();
        match &transfer.source {
            Some(source) => {
                assert_eq!((&source.hub, &source.device_id), (&before.hub, &before.device_id));
                assert_eq!(source.generation, Some(before.generation));
                assert_ne!(source.hub, target.hub);
            }
            None => assert!(transfer.in_place && target.hub == before.hub),
        }
        assert_ne!(transfer.fate, TwinFate::Initial);
    }

    fn open_the_new_hub_only(&mut self) {
        self.world.set_terms(&self.settings, "old", closed()).unwrap();
        self.world.set_terms(&self.settings, "new", HubTerms::default()).unwrap();
    }

    fn assignment(&self) -> &Registration {
        &self.world.registrations[&id(D)]
    }

    /// The identity's life at the hub that it is at, `None`: it has none there.
    fn life(&self, hub: &str, kind: Kind) -> Option<GenerationId> {
        let key = (at(hub).hub, at(hub).device_id);
        let record = self.world.devices.get(&key).map(|device| device.generation);
        let there = self.elsewhere.identities.get(&key).map(|identity| identity.generation);
        match kind {
            Local => assert_eq!(there, None),
            Remote => assert_eq!(there, record, "the record knows the hub's generation"),
        }
        record
    }

    fn is_enabled(&self, hub: &str, kind: Kind) -> bool {
        let key = (at(hub).hub, at(hub).device_id);
        let record = self.world.devices.get(&key).is_some_and(|device| device.status == DeviceStatus::Enabled);
        if kind == Remote {
            let there = self.elsewhere.identities.get(&key).is_some_and(|identity| identity.is_enabled);
            assert_eq!(there, record, "the record knows whether it is enabled");
        }
        record
    }

    fn twin(&self, hub: &str, kind: Kind) -> Option<Twin> {
        match kind {
            Local => self.world.twins.get(&at(hub)).cloned(),
            Remote => {
                assert!(!self.world.twins.contains_key(&at(hub)), "a twin elsewhere is not here too");
                self.elsewhere.identities.get(&(at(hub).hub, at(hub).device_id)).map(|identity| identity.twin.clone())
            }
        }
    }
}

fn names(stages: &[TransferStage]) -> String {
    stages.iter().map(|stage| format!("{stage:?}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_matrix() {
    for (stored, is_old, means) in POLICIES {
        for (from, to) in WAYS {
            let row = format!("{stored:?}, of an old version: {is_old}, {from:?} to {to:?}");
            // A hub that nobody goes to is there in any case.
            let mut scene = Scene::new(stored, from, to.unwrap_or(Local));
            let before = scene.assignment().clone();
            if to.is_some() {
                scene.open_the_new_hub_only();
            }
            let (displaced, stages) = scene.register(is_old);
            let after = scene.assignment().clone();

            let moves_to = to.filter(|_| means != Means::Never);
            let (hub, kind) = moves_to.map_or(("old", from), |kind| ("new", kind));
            assert_eq!(after.hub.as_str(), hub, "{row}");
            assert!(scene.is_enabled(hub, kind), "{row}");
            assert_eq!(scene.life(hub, kind), Some(after.generation), "{row}");
            assert_eq!(
                after.generation != before.generation,
                moves_to.is_some(),
                "a new life at a new hub only: {row}"
            );
            assert_eq!((&after.device_id, after.created), (&before.device_id, before.created), "{row}");
            assert_ne!(after.operation_id, before.operation_id, "{row}");

            let substatus = match (means, moves_to) {
                (Means::Migrate, Some(_)) => Substatus::DeviceDataMigrated,
                (Means::Reset, _) => Substatus::DeviceDataReset,
                (Means::Migrate, None) | (Means::Never, _) => Substatus::InitialAssignment,
            };
            assert_eq!(after.substatus, substatus, "{row}");
            let twin = scene.twin(hub, kind).unwrap();
            assert_eq!(contents(&twin), if means == Means::Reset { untouched() } else { lived_in() }, "{row}");
            assert_eq!(twin.generation, after.generation, "{row}");

            if moves_to.is_some() {
                assert_eq!((scene.life("old", from), scene.twin("old", from)), (None, None), "gone from there: {row}");
            }
            // Whoever is connected goes with what it relied on.
            let ends = moves_to.is_some() || (means == Means::Reset && from == Local);
            assert_eq!(displaced, ends.then(|| at("old")), "{row}");

            let expected = match (from, moves_to, means) {
                (Local, None | Some(Local), _) => "",
                (Local, Some(Remote), _) => "Create Fill Enable",
                (Remote, None, Means::Reset) => "Verify Fill",
                (Remote, None, _) => "Verify",
                (Remote, Some(Local), Means::Migrate) => "Disable Read Delete",
                (Remote, Some(Local), _) => "Disable Delete",
                (Remote, Some(Remote), Means::Migrate) => "Disable Read Create Fill Enable Delete",
                (Remote, Some(Remote), _) => "Disable Create Fill Enable Delete",
            };
            assert_eq!(names(&stages), expected, "{row}");

            // Once it is there, the same answer: nothing moves without a cause.
            let twin = scene.twin(hub, kind).map(|twin| contents(&twin));
            scene.register(is_old);
            let again = scene.assignment();
            assert_eq!((&again.hub, again.generation), (&after.hub, after.generation), "{row}");
            assert_eq!(again.substatus, after.substatus, "{row}");
            assert_eq!(scene.twin(hub, kind).map(|twin| contents(&twin)), twin, "{row}");
        }
    }
}

/// Until the assignment is recorded, the identity before is where it was: disabled, and enabled again if nothing comes of it.
#[test]
fn what_a_refused_move_leaves_is_what_was() {
    for (from, to) in [(Local, Remote), (Remote, Local), (Remote, Remote)] {
        for refused_at in 0.. {
            let mut scene = Scene::new(Some((true, true)), from, to);
            let before = (scene.assignment().clone(), scene.life("old", from), scene.world.keys.clone());
            scene.open_the_new_hub_only();
            scene.world.ask(&scene.settings, D, Circumstances::default()).unwrap();
            let pending = |scene: &Scene| scene.world.transfers.get(&id(D)).cloned();
            for _ in 0..refused_at {
                let transfer = pending(&scene).unwrap();
                let event = scene.elsewhere.perform(&scene.world, &transfer);
                scene.world.step(&scene.settings, &transfer, event).unwrap();
            }
            let Some(transfer) = pending(&scene).filter(|transfer| !transfer.is_committed()) else { break };
            assert!(!scene.is_enabled("old", Local), "{:?}", transfer.stage);
            let refused = TransferEvent::Refused { code: 400_208, message: "no".to_owned() };
            scene.world.step(&scene.settings, &transfer, refused).unwrap();
            scene.world.carry_through(&scene.settings, &mut scene.elsewhere, D);
            let row = format!("{from:?} to {to:?}, refused at {:?}", transfer.stage);
            assert!(pending(&scene).is_some_and(|transfer| transfer.is_failed()), "{row}");
            let after = (scene.assignment().clone(), scene.life("old", from), scene.world.keys.clone());
            assert_eq!(after, before, "{row}");
            assert!(scene.is_enabled("old", from), "{row}");
            assert_eq!(contents(&scene.twin("old", from).unwrap()), lived_in(), "{row}");
            assert_eq!((scene.life("new", to), scene.twin("new", to)), (None, None), "{row}");
            scene.world.check();
            // The next registration tries anew.
            scene.register(false);
            assert_eq!(scene.assignment().substatus, Substatus::DeviceDataMigrated, "{row}");
            assert_eq!(contents(&scene.twin("new", to).unwrap()), lived_in(), "{row}");
            assert_eq!(scene.life("old", from), None, "{row}");
        }
    }
}

/// Somebody deleted the identity at the remote hub: it begins anew there, whatever the policy says of moves.
#[test]
fn an_identity_that_is_gone_from_its_remote_hub_is_made_anew() {
    for (stored, is_old, _) in POLICIES {
        let mut scene = Scene::new(stored, Remote, Local);
        let before = scene.assignment().generation;
        scene.elsewhere.identities.clear();
        let (_, stages) = scene.register(is_old);
        assert_eq!(names(&stages), "Verify Create Fill Enable", "{stored:?}");
        assert_ne!(scene.life("old", scene.old), Some(before), "{stored:?}");
        assert!(scene.is_enabled("old", scene.old), "{stored:?}");
        assert_eq!(contents(&scene.twin("old", scene.old).unwrap()), untouched(), "{stored:?}");
    }
}

/// A device that waits for a hub that does not answer is sent elsewhere, or back: what was begun there goes, and comes to nothing.
#[test]
fn a_device_that_is_sent_elsewhere_leaves_nothing_at_the_hub_that_it_waited_for() {
    for steps in [0, 1] {
        for instead in ["old", "other"] {
            let row = format!("{instead} after {steps} steps");
            let mut scene = Scene::new(Some((true, true)), Local, Remote);
            let beside = hub("other");
            scene.settings.hubs =
                HubDirectory::new(scene.settings.hubs.iter().cloned().chain([beside]).collect()).unwrap();
            scene.world.set_terms(&scene.settings, "other", closed()).unwrap();
            let before = scene.assignment().clone();
            scene.open_the_new_hub_only();
            scene.world.ask(&scene.settings, D, Circumstances::default()).unwrap();
            for _ in 0..steps {
                let transfer = scene.world.transfers[&id(D)].clone();
                let event = scene.elsewhere.perform(&scene.world, &transfer);
                scene.world.step(&scene.settings, &transfer, event).unwrap();
            }
            scene.world.set_terms(&scene.settings, instead, HubTerms::default()).unwrap();
            let mut live = crate::allocation::LiveFacts::default();
            live.down.insert(at("new").hub, "it does not answer".to_owned());
            let circumstances = Circumstances { live: live.into(), ..Circumstances::default() };
            let decision = scene.world.ask(&scene.settings, D, circumstances).unwrap();
            assert!(matches!(decision.outcome, Outcome::Registered { .. }), "{row}: {:?}", decision.outcome);
            assert!(
                scene.world.transfers.get(&id(D)).is_none_or(|transfer| !transfer.is_awaited()),
                "{row}: it waits still"
            );
            assert_eq!(scene.assignment().hub.as_str(), instead, "{row}");
            assert_eq!(scene.assignment().generation == before.generation, instead == "old", "{row}");
            assert!(scene.is_enabled(instead, Local), "{row}");
            assert_eq!(contents(&scene.twin(instead, Local).unwrap()), lived_in(), "{row}");
            let stages = scene.world.carry_through(&scene.settings, &mut scene.elsewhere, D);
            assert!(stages.iter().all(|stage| *stage == TransferStage::Delete), "{row}: {stages:?}");
            assert_eq!((scene.life("new", Remote), scene.twin("new", Remote)), (None, None), "{row}");
            assert_eq!(scene.assignment().hub.as_str(), instead, "{row}");
            scene.world.check();
        }
    }
}

/// The same for a first registration, that has nowhere to go back to, under another key of another enrollment.
#[test]
fn a_first_registration_that_is_sent_elsewhere_keeps_no_claim() {
    for instead in [Local, Remote] {
        let local = if instead == Local { vec!["other"] } else { vec![] };
        let settings = settings(&local, STRICT);
        let (mut world, mut elsewhere) = (World::default(), Elsewhere::default());
        world.link(&settings, "new", HubTerms::default());
        match instead {
            Local => drop(world.set_terms(&settings, "other", closed()).unwrap()),
            Remote => world.link(&settings, "other", closed()),
        }
        world.enroll(&settings, D, terms(1, 2)).unwrap();
        world.ask(&settings, D, Circumstances::default()).unwrap();
        let transfer = world.transfers[&id(D)].clone();
        let event = elsewhere.perform(&world, &transfer);
        world.step(&settings, &transfer, event).unwrap();
        world.set_terms(&settings, "other", HubTerms::default()).unwrap();
        world.put(&settings, D, None, terms(3, 4), Precondition::Any).unwrap();
        world.check();
        let mut live = crate::allocation::LiveFacts::default();
        live.down.insert(at("new").hub, "it does not answer".to_owned());
        let circumstances = Circumstances { live: live.into(), ..Circumstances::default() };
        world.ask(&settings, D, circumstances).unwrap();
        world.check();
        let stages = world.carry_through(&settings, &mut elsewhere, D);
        assert_eq!(names(&stages), if instead == Local { "Delete" } else { "Create Fill Enable Delete" });
        let registration = &world.registrations[&id(D)];
        assert_eq!((registration.hub.as_str(), registration.substatus), ("other", Substatus::InitialAssignment));
        assert_eq!(world.devices.keys().map(|(hub, _)| hub.as_str()).collect::<Vec<_>>(), ["other"]);
        assert!(elsewhere.identities.keys().all(|(hub, _)| hub.as_str() == "other"));
        let keys = |n: u8| KeyFingerprint([n; 32]);
        assert!(world.keys.contains_key(&keys(3)) && !world.keys.contains_key(&keys(1)), "the old key is free");
        assert!(world.transfers.is_empty());
        world.check();
    }
}

/// An operator who deletes the identity or the record of a device on its way does not free the key that it is to have there.
#[test]
fn a_key_of_a_device_on_its_way_is_nobody_elses() {
    let mut scene = Scene::new(Some((true, true)), Local, Remote);
    scene.open_the_new_hub_only();
    scene.world.ask(&scene.settings, D, Circumstances::default()).unwrap();
    let Scene { settings, world, .. } = &mut scene;
    let delete = Command::DeleteIndividual { id: id(D), precondition: Precondition::None };
    world.run(settings, delete).unwrap();
    let delete =
        Command::DeleteDevice { hub: at("old").hub, id: at("old").device_id, precondition: Precondition::None };
    world.run(settings, delete).unwrap();
    world.check();
    let taken = world.put_device(settings, "old", "x", [1, 9], Precondition::Absent);
    assert!(matches!(refusal(taken), Refusal::KeyInUse { .. }));

    let target = unicity_identity::RevocationTarget::Registration(id(D));
    world.run(settings, Command::Revoke { target, reason: None, force: false }).unwrap();
    assert!(world.is_denied(&KeyFingerprint([1; 32])).unwrap(), "it ends with the registration");
    world.check();
}
