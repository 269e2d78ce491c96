//! Modules and twins: whose they are, what goes with what, which conditions are heeded, and what the log is told.

use serde_json::json;
use unicity_identity::json::JsonText;
use unicity_identity::module::MODULES_MAX;
use unicity_identity::{ClientIdentity, RevocationTarget, Twin};

use super::*;
use crate::registry::ModuleDraft;

pub(super) fn client(hub: &str, device: &str, module: Option<&str>) -> ClientIdentity {
    ClientIdentity {
        hub: hub.parse().unwrap(),
        device_id: device.parse().unwrap(),
        module_id: module.map(|id| id.parse().unwrap()),
    }
}

impl World {
    /// Makes a module, or gives the one that is there another key.
    pub(super) fn put_module(
        &mut self,
        settings: &Settings,
        hub: &str,
        device: &str,
        module: &str,
        n: u8,
    ) -> Result<Decision, RegistryError> {
        let draft = ModuleDraft {
            hub: hub.parse().unwrap(),
            device_id: device.parse().unwrap(),
            module_id: module.parse().unwrap(),
            authentication: DeviceAuthentication::Sas { primary: key(n), secondary: key(n) },
            keys_given: true,
            managed_by: None,
        };
        let there = self.modules.contains_key(&(draft.hub.clone(), draft.device_id.clone(), draft.module_id.clone()));
        let precondition = if there { Precondition::Any } else { Precondition::Absent };
        self.run(settings, Command::PutModule { draft: Box::new(draft), precondition })
    }

    pub(super) fn delete_module(
        &mut self,
        settings: &Settings,
        hub: &str,
        device: &str,
        module: &str,
        precondition: Precondition,
    ) -> Result<Decision, RegistryError> {
        let (hub, device_id, module_id) = (hub.parse().unwrap(), device.parse().unwrap(), module.parse().unwrap());
        self.run(settings, Command::DeleteModule { hub, device_id, module_id, precondition })
    }

    pub(super) fn edit_twin(
        &mut self,
        settings: &Settings,
        client: ClientIdentity,
        edit: TwinEdit,
        precondition: Precondition,
    ) -> Result<Decision, RegistryError> {
        self.run(settings, Command::EditTwin { client, edit: Box::new(edit), precondition })
    }
}

fn twin(decision: Decision) -> Twin {
    match decision.outcome {
        Outcome::Twin(twin) => *twin,
        other => panic!("{other:?}"),
    }
}

fn tags(value: serde_json::Value) -> TwinEdit {
    TwinEdit::patch(&json!({ "tags": value })).unwrap()
}

#[test]
fn a_modules_key_is_no_one_elses() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.put_device(&settings, "a", "d", [1, 2], Precondition::Absent).unwrap();
    world.put_device(&settings, "a", "e", [3, 3], Precondition::Absent).unwrap();
    let holder = KeyOwner::Module("a".parse().unwrap(), "d".parse().unwrap(), "m".parse().unwrap());
    assert!(matches!(refusal(world.put_module(&settings, "a", "d", "m", 1)), Refusal::KeyInUse { .. }), "its device's");
    world.put_module(&settings, "a", "d", "m", 4).unwrap();
    for taken in [
        world.put_module(&settings, "a", "d", "n", 4),
        world.put_module(&settings, "a", "e", "m", 4),
        world.put_device(&settings, "a", "f", [4, 5], Precondition::Absent),
        world.enroll(&settings, "r", terms(4, 4)),
    ] {
        assert_eq!(refusal(taken), Refusal::KeyInUse { fingerprint: KeyFingerprint([4; 32]), holder: holder.clone() });
    }
    world.put_module(&settings, "a", "d", "m", 5).unwrap();
    world.put_module(&settings, "a", "d", "n", 4).unwrap();
    world.check();
}

#[test]
fn modules_and_twins_go_with_their_device_and_begin_anew() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.put_device(&settings, "a", "d", [1, 2], Precondition::Absent).unwrap();
    world.put_module(&settings, "a", "d", "m", 4).unwrap();
    for module in [None, Some("m")] {
        world.edit_twin(&settings, client("a", "d", module), tags(json!({"site": 4})), Precondition::None).unwrap();
    }
    let old = world.twins[&client("a", "d", None)].etag();
    let delete =
        Command::DeleteDevice { hub: "a".parse().unwrap(), id: "d".parse().unwrap(), precondition: Precondition::None };
    let gone = world.run(&settings, delete).unwrap();
    assert!(matches!(gone.leaf.unwrap().event, LeafEvent::DeviceDeleted { modules, .. } if modules.len() == 1));
    assert_eq!((world.modules.len(), world.twins.len(), world.keys.len()), (0, 0, 0));

    world.put_device(&settings, "a", "d", [4, 4], Precondition::Absent).unwrap();
    let stale = world.edit_twin(&settings, client("a", "d", None), tags(json!({})), Precondition::Matches(old));
    assert!(matches!(refusal(stale), Refusal::PreconditionFailed(Subject::Twin(_))), "an etag of an earlier life");
    assert!(matches!(
        refusal(world.edit_twin(&settings, client("a", "d", Some("m")), tags(json!({})), Precondition::None)),
        Refusal::NotFound(Subject::Module(..))
    ));
    world.check();
}

#[test]
fn conditions_of_modules() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    assert!(matches!(refusal(world.put_module(&settings, "a", "d", "m", 4)), Refusal::NotFound(Subject::Device(..))));
    world.put_device(&settings, "a", "d", [1, 2], Precondition::Absent).unwrap();
    world.put_module(&settings, "a", "d", "m", 4).unwrap();
    let mut delete = |precondition| world.delete_module(&settings, "a", "d", "m", precondition);
    assert!(matches!(refusal(delete(Precondition::Matches("x".into()))), Refusal::PreconditionFailed(_)));
    delete(Precondition::Any).unwrap();
    assert!(matches!(refusal(delete(Precondition::Any)), Refusal::NotFound(Subject::Module(..))));
    for n in 0..MODULES_MAX {
        world.put_module(&settings, "a", "d", &format!("m{n}"), 100 + u8::try_from(n).unwrap()).unwrap();
    }
    assert!(matches!(
        refusal(world.put_module(&settings, "a", "d", "more", 9)),
        Refusal::TooManyModules { max: 50, .. }
    ));
    world.put_module(&settings, "a", "d", "m7", 9).unwrap();
    world.check();
}

#[test]
fn the_log_is_told_that_an_operator_wrote_and_not_what() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.put_device(&settings, "a", "d", [1, 2], Precondition::Absent).unwrap();
    let client = client("a", "d", None);
    let edit = TwinEdit::patch(&json!({"tags": {"secret-key": "secret-value"}})).unwrap();
    let leaf = world.edit_twin(&settings, client.clone(), edit, Precondition::None).unwrap().leaf.unwrap();
    let text = String::from_utf8(leaf.to_bytes()).unwrap();
    assert!(text.contains("\"event\":\"twinEdited\"") && !text.contains("secret"), "{text}");
    let report = TwinEdit::report(&json!({"temperature": 4})).unwrap();
    let reported = world.edit_twin(&settings, client, report, Precondition::None).unwrap();
    assert_eq!(reported.leaf, None);
    assert_eq!(twin(reported).reported.properties.to_value(), json!({"temperature": 4}));
}

#[test]
fn the_initial_twin_is_that_of_a_device_made_anew_only() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    let initial = json!({"tags": {"line": 4}, "properties": {"desired": {"rate": 10}}});
    let with = |terms: EnrollmentTerms| EnrollmentTerms { initial_twin: Some(JsonText::from_value(&initial)), ..terms };
    world.enroll(&settings, "r", with(terms(1, 2))).unwrap();
    let assigned = world.register(&settings, "r").unwrap();
    let place = client(assigned.hub.as_str(), assigned.device_id.as_str(), None);
    let made = world.twins[&place].clone();
    assert_eq!((made.tags.to_value(), made.desired.properties.to_value()), (json!({"line": 4}), json!({"rate": 10})));
    assert_eq!((made.version, made.desired.version), (2, 2));

    // The operator's later word counts, however often the device comes back and whatever becomes of its enrollment.
    world.edit_twin(&settings, place.clone(), tags(json!({"line": 5})), Precondition::None).unwrap();
    world.register(&settings, "r").unwrap();
    world.put(&settings, "r", None, with(terms(1, 2)), Precondition::Any).unwrap();
    world.register(&settings, "r").unwrap();
    assert_eq!(world.twins[&place].tags.to_value(), json!({"line": 5}));

    // One from before there were rules harms nobody's first boot.
    let broken =
        EnrollmentTerms { initial_twin: Some(JsonText::from_value(&json!({"tags": {"$a": 1}}))), ..terms(3, 3) };
    world.enroll(&settings, "old", broken).unwrap();
    world.register(&settings, "old").unwrap();
    assert!(!world.twins.contains_key(&client("a", "old", None)));
    world.check();
}

#[test]
fn a_revocation_of_a_device_denies_the_keys_of_its_modules() {
    let settings = settings(&["a"], STRICT);
    let mut world = World::default();
    world.enroll(&settings, "r", terms(1, 2)).unwrap();
    world.register(&settings, "r").unwrap();
    world.put_module(&settings, "a", "r", "m", 4).unwrap();
    let target = RevocationTarget::Registration(id("r"));
    world.run(&settings, Command::Revoke { target, reason: None, force: false }).unwrap();
    assert!(world.is_denied(&KeyFingerprint([4; 32])).unwrap());
    assert!(matches!(refusal(world.put_module(&settings, "a", "r", "n", 4)), Refusal::Barred { .. }));

    world.put_device(&settings, "a", "d", [8, 8], Precondition::Absent).unwrap();
    world.put_module(&settings, "a", "d", "m", 9).unwrap();
    let target = RevocationTarget::Key(KeyFingerprint([9; 32]));
    world.run(&settings, Command::Revoke { target, reason: None, force: false }).unwrap();
    assert!(world.is_denied(&KeyFingerprint([9; 32])).unwrap());
    assert!(!world.is_denied(&KeyFingerprint([8; 32])).unwrap(), "the device has done nothing");
}
