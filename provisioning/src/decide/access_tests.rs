//! Shared access policies, as a table of commands one after the other.

use unicity_identity::{AccessPolicy, Audience, Entropy, HubDirectory, LinkedHub, Right, Rights, Timestamp};

use super::*;
use crate::memory::Memory;
use crate::registry::Actor;
use crate::service::UnicityMode;

struct World {
    memory: Memory,
    settings: Settings,
    drawn: u8,
}

impl World {
    fn new() -> Self {
        let hub = LinkedHub::local("alpha".parse().unwrap(), "alpha.local".parse().unwrap());
        let settings = Settings {
            id_scope: "0ne00000001".parse().unwrap(),
            hubs: HubDirectory::new(vec![hub]).unwrap(),
            mode: UnicityMode::Strict,
            allow_shared: Default::default(),
            token_skew_seconds: 300,
            payload_bytes_max: 8192,
            clones: Default::default(),
            allocation: Default::default(),
        };
        Self { memory: Memory::default(), settings, drawn: 0 }
    }

    /// The stored policy and its leaf, or the code of the refusal.
    fn run(&mut self, command: Command) -> Result<(AccessPolicy, LeafEvent), u32> {
        self.drawn += 1;
        let request = Request {
            command,
            actor: Actor::Policy("admin".into()),
            now: Timestamp(u64::from(self.drawn) * 1000),
            entropy: Entropy::from_seed([self.drawn; 32]),
        };
        let decision =
            decide(&self.memory, &self.settings, request).map_err(|error| error.into_refusal().code().number)?;
        decision.changes.into_iter().for_each(|change| self.memory.apply(change));
        let leaf = decision.leaf.unwrap();
        assert_eq!(leaf.actor, Actor::Policy("admin".into()));
        match decision.outcome {
            Outcome::AccessPolicy(policy) => Ok((*policy, leaf.event)),
            other => panic!("{other:?}"),
        }
    }
}

fn put(audience: &str, name: &str, rights: &[Right], precondition: Precondition) -> Command {
    Command::PutAccessPolicy {
        audience: audience.parse().unwrap(),
        name: name.parse().unwrap(),
        rights: Rights::of(rights),
        precondition,
    }
}

fn rotate(audience: &str, name: &str, both: bool, precondition: Precondition) -> Command {
    Command::RotateAccessPolicy { audience: audience.parse().unwrap(), name: name.parse().unwrap(), both, precondition }
}

fn delete(audience: &str, name: &str) -> Command {
    Command::DeleteAccessPolicy {
        audience: audience.parse().unwrap(),
        name: name.parse().unwrap(),
        precondition: Precondition::None,
    }
}

const OWNER: &str = "provisioningserviceowner";
const ALL_OF_HUB: [Right; 4] = [Right::RegistryRead, Right::RegistryWrite, Right::ServiceConnect, Right::DeviceConnect];

#[test]
fn the_rules_one_after_the_other() {
    use Precondition::{Absent, Any, Matches};
    let stale = || Matches("\"00000000-0000-0000-0000-000000000001\"".into());
    let mut world = World::new();
    let steps: Vec<(&str, Command, Result<u64, u32>)> = vec![
        ("a new one", put("dps", "line-1", &[Right::EnrollmentWrite], Absent), Ok(0)),
        ("again, as new", put("dps", "line-1", &[Right::EnrollmentWrite], Absent), Err(409_212)),
        ("an older version", put("dps", "line-1", &[Right::EnrollmentRead], stale()), Err(412_001)),
        ("whatever version", put("dps", "line-1", &[Right::EnrollmentRead], Any), Ok(0)),
        ("one that is not there", put("dps", "line-2", &[Right::EnrollmentRead], Any), Err(404_214)),
        ("without rights", put("dps", "line-2", &[], Absent), Err(400_004)),
        ("with a hub's rights", put("dps", "line-2", &[Right::RegistryRead], Absent), Err(400_004)),
        ("with the service's at a hub", put("alpha", "line-2", &[Right::EnrollmentRead], Absent), Err(400_004)),
        ("at no hub", put("beta", "line-2", &[Right::RegistryRead], Absent), Err(404_208)),
        ("the same name at a hub", put("alpha", "line-1", &[Right::RegistryRead], Absent), Ok(0)),
        ("a rotation", rotate("dps", "line-1", false, Precondition::None), Ok(1)),
        ("of an older version", rotate("dps", "line-1", false, stale()), Err(412_001)),
        ("of both keys", rotate("dps", "line-1", true, Precondition::None), Ok(3)),
        ("of a built-in one", rotate("dps", OWNER, false, Any), Ok(1)),
        ("of a hub's", rotate("alpha", "iothubowner", true, Any), Ok(2)),
        ("of none", rotate("alpha", "nobody", false, Any), Err(404_214)),
        ("rights do not touch keys", put("dps", "line-1", &[Right::EnrollmentWrite], Any), Ok(3)),
        ("the last keeper goes", delete("dps", OWNER), Err(400_004)),
        ("the last keeper loses the right", put("dps", OWNER, &[Right::EnrollmentRead], Any), Err(400_004)),
        ("a second keeper", put("dps", "admin", &[Right::ServiceConfig], Absent), Ok(0)),
        ("now it may go", delete("dps", OWNER), Ok(1)),
        ("the other is the last now", delete("dps", "admin"), Err(400_004)),
        ("it comes back under new keys", put("dps", OWNER, &[Right::ServiceConfig], Absent), Ok(3)),
        ("a hub's built-in one goes", delete("alpha", "service"), Ok(0)),
        ("it is gone", delete("alpha", "service"), Err(404_214)),
        ("and comes back under new keys", put("alpha", "service", &[Right::ServiceConnect], Absent), Ok(2)),
        ("a hub keeps an owner", delete("alpha", "iothubowner"), Err(400_004)),
        ("of all rights", put("alpha", "iothubowner", &[Right::RegistryWrite], Any), Err(400_004)),
        ("a second owner", put("alpha", "owner-2", &ALL_OF_HUB, Absent), Ok(0)),
        ("then the first may go", delete("alpha", "iothubowner"), Ok(2)),
    ];
    for (what, command, expected) in steps {
        let found = world.run(command).map(|(policy, _)| policy.generation);
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn leaves_name_rights_and_no_key() {
    let mut world = World::new();
    let (made, leaf) = world.run(put("alpha", "reader", &[Right::RegistryRead], Precondition::Absent)).unwrap();
    assert_eq!(
        serde_json::to_value(leaf).unwrap(),
        serde_json::json!({"event": "policyPut", "audience": "alpha", "policy": "reader", "rights": ["RegistryRead"], "replaced": false})
    );
    let version = Precondition::Matches(made.etag.to_string());
    let (rotated, leaf) = world.run(rotate("alpha", "reader", false, version.clone())).unwrap();
    assert_eq!(
        serde_json::to_value(leaf).unwrap(),
        serde_json::json!({"event": "policyRotated", "audience": "alpha", "policy": "reader", "rights": ["RegistryRead"], "generation": 1, "both": false})
    );
    assert_eq!((rotated.created, rotated.updated), (made.created, Timestamp(2000)));
    // Asked again after a lost answer, it does not rotate twice.
    assert_eq!(world.run(rotate("alpha", "reader", false, version)).unwrap_err(), 412_001);
    let (removed, leaf) = world.run(delete("alpha", "reader")).unwrap();
    assert!(removed.removed.is_some());
    assert_eq!(
        serde_json::to_value(leaf).unwrap(),
        serde_json::json!({"event": "policyRemoved", "audience": "alpha", "policy": "reader", "rights": ["RegistryRead"]})
    );
}

#[test]
fn a_place_is_bounded() {
    let mut world = World::new();
    let name = |n: usize| format!("p{n}");
    for n in 1..64 {
        world.run(put("dps", &name(n), &[Right::EnrollmentRead], Precondition::Absent)).unwrap();
    }
    let one_more = || put("dps", "more", &[Right::EnrollmentRead], Precondition::Absent);
    assert_eq!(world.run(one_more()).unwrap_err(), 400_004);
    world.run(delete("dps", "p1")).unwrap();
    world.run(one_more()).unwrap();
    // Names of removed ones count towards another bound.
    world.run(delete("dps", "more")).unwrap();
    let template = world.memory.access_policies[&(Audience::Dps, "more".parse().unwrap())].clone();
    for n in world.memory.access_policies.len()..1024 {
        let name = format!("old-{n}").parse().unwrap();
        world.memory.apply(Change::PutAccessPolicy(Box::new(AccessPolicy { name, ..template.clone() })));
    }
    let refused = world.run(put("dps", "new", &[Right::EnrollmentRead], Precondition::Absent)).unwrap_err();
    assert_eq!(refused, 400_004);
    world.run(one_more()).unwrap();
}
