//! Standings: set, quarantined, released, and how often a verdict flips; and what they do to registrations.

use proptest::prelude::*;
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::error::KeyOwner;
use unicity_identity::json::JsonText;
use unicity_identity::{
    Attestation, CloneEvidence, ClonePolicy, Continuity, ETag, EnrollmentRef, Entropy, HubDirectory,
    IndividualEnrollment, KeyFingerprint, KeySlot, LinkedHub, ProvisioningStatus, Refusal, RegistrationId, Sealed,
    Standing, StandingState, Timestamp,
};

use super::*;
use crate::attest::{Attested, Proof, TpmKeys};
use crate::clones::{self, COOL_DOWN_MS, QUARANTINES_MAX, STREAK_MS};
use crate::continuity::{Claim, Judgement};
use crate::memory::Memory;
use crate::registry::{Actor, RegisterCommand, StandingVerdict};
use crate::service::{CloneSettings, UnicityMode};

const START: u64 = 1_767_323_045_678;

fn settings(policy: ClonePolicy, continuity: bool) -> Settings {
    let hub = LinkedHub::local("a".parse().unwrap(), "a.local".parse().unwrap());
    Settings {
        id_scope: "0ne00000001".parse().unwrap(),
        hubs: HubDirectory::new(vec![hub]).unwrap(),
        mode: UnicityMode::Strict,
        token_skew_seconds: 300,
        payload_bytes_max: 8192,
        allow_shared: Default::default(),
        clones: CloneSettings { policy, continuity },
        allocation: Default::default(),
    }
}

fn id() -> RegistrationId {
    "dev".parse().unwrap()
}

fn owner() -> KeyOwner {
    KeyOwner::Registration(id())
}

fn slot() -> KeySlot {
    KeySlot { sealed: Sealed::from_bytes(vec![1; 4]), fingerprint: KeyFingerprint([1; 32]) }
}

struct World {
    memory: Memory,
    settings: Settings,
    now: u64,
}

impl World {
    fn new(policy: ClonePolicy, continuity: bool) -> Self {
        Self::with_payload(policy, continuity, None)
    }

    fn with_payload(policy: ClonePolicy, continuity: bool, payload: Option<&str>) -> Self {
        let mut memory = Memory::default();
        let terms = EnrollmentTerms {
            attestation: Attestation::SymmetricKey { primary: slot(), secondary: slot() },
            status: ProvisioningStatus::Enabled,
            allocation: None,
            hubs: vec![],
            reprovision: None,
            iot_edge: false,
            initial_twin: None,
            payload: payload.map(|text| JsonText::from_value(&serde_json::from_str(text).unwrap())),
            clone_policy: None,
        };
        let enrollment = IndividualEnrollment {
            registration_id: id(),
            device_id: None,
            optional_device_information: None,
            batch: None,
            terms,
            etag: ETag([0; 16]),
            created: Timestamp(START),
            updated: Timestamp(START),
        };
        memory.apply(Change::PutIndividual(Box::new(enrollment)));
        memory.apply(Change::PutKey(slot().fingerprint, owner()));
        Self { memory, settings: settings(policy, continuity), now: START }
    }

    fn run(&mut self, command: Command) -> Result<Decision, RegistryError> {
        let (now, entropy) = (Timestamp(self.now), Entropy::from_seed([7; 32]));
        let request = Request { command, actor: Actor::Server, now, entropy };
        let decision = decide(&self.memory, &self.settings, request)?;
        decision.changes.iter().for_each(|change| self.memory.apply(change.clone()));
        Ok(decision)
    }

    fn set(&mut self, verdict: StandingVerdict) -> Result<Standing, RegistryError> {
        match self.run(Command::SetStanding { owner: owner(), verdict })?.outcome {
            Outcome::Standing(standing) => Ok(*standing),
            other => panic!("{other:?}"),
        }
    }

    fn suspect(&mut self, score: u32, quarantine: bool) -> StandingState {
        let signal = "alternatingTakeover".to_owned();
        let evidence = vec![CloneEvidence { at: Timestamp(self.now), signal, score: 20, detail: "d".into() }];
        self.set(StandingVerdict::Suspect { score, evidence, quarantine }).unwrap().state
    }

    fn release(&mut self, by: &str) -> Result<Standing, RegistryError> {
        self.set(StandingVerdict::Release { by: by.into() })
    }

    fn after(&mut self, ms: u64) {
        self.now += ms;
    }

    fn register(&mut self, continuity: Claim) -> Result<Decision, RegistryError> {
        let attested = Attested {
            registration_id: id(),
            enrollment: EnrollmentRef::Individual(id()),
            enrollment_etag: ETag([0; 16]),
            key_fingerprint: slot().fingerprint,
            proof: Proof::EnrolledKeys,
            enabled: true,
            token_expiry_seconds: None,
            facets: Default::default(),
        };
        self.run(Command::Register(Box::new(RegisterCommand {
            attested,
            authentication: DeviceAuthentication::Sas { primary: slot(), secondary: slot() },
            storage_root_key: None,
            device_payload: None,
            continuity,
            circumstances: Default::default(),
        })))
    }
}

fn event(decision: &Decision) -> &LeafEvent {
    &decision.leaf.as_ref().unwrap().event
}

const BY_POLICY: &str = "provisioningserviceowner";

#[test]
fn suspicion_quarantines_only_where_the_policy_says_so() {
    let mut world = World::new(ClonePolicy::Newest, false);
    assert_eq!(world.suspect(100, false), StandingState::Suspected);
    assert!(world.register(Claim::Off).is_ok());
    assert_eq!(world.suspect(200, true), StandingState::Quarantined);
    let refused = world.register(Claim::Off).unwrap_err();
    assert!(matches!(refused, RegistryError::Refused(Refusal::Quarantined { .. })), "{refused:?}");
    assert_eq!(world.suspect(300, false), StandingState::Quarantined, "more of the same does not end it");
    let released = world.release(BY_POLICY).unwrap();
    assert_eq!((released.state, released.score, released.evidence.len()), (StandingState::Released, 0, 3));
    assert!(world.register(Claim::Off).is_ok());
}

#[test]
fn nobody_is_released_of_whom_nothing_is_known() {
    let refused = World::new(ClonePolicy::Newest, false).release(BY_POLICY).unwrap_err();
    assert!(matches!(refused, RegistryError::Refused(Refusal::NotFound(_))), "{refused:?}");
}

#[test]
fn a_verdict_does_not_flip_at_a_thiefs_will() {
    let mut world = World::new(ClonePolicy::Quarantine, false);
    assert_eq!(world.suspect(100, true), StandingState::Quarantined);
    world.release(BY_POLICY).unwrap();
    world.after(COOL_DOWN_MS - 1);
    assert_eq!(world.suspect(5000, true), StandingState::Released, "a cool-down, whatever the score");
    world.after(1);
    assert_eq!(world.suspect(199, true), StandingState::Suspected, "the second asks for twice as much");
    assert_eq!(world.suspect(200, true), StandingState::Quarantined);
    for score in [300, 400, 5000] {
        world.release(BY_POLICY).unwrap();
        world.after(COOL_DOWN_MS);
        let expected = if score == 300 { StandingState::Quarantined } else { StandingState::Suspected };
        assert_eq!(world.suspect(score, true), expected, "{score}: {QUARANTINES_MAX} a day, and no more");
    }
    world.after(STREAK_MS + 1);
    assert_eq!(world.suspect(100, true), StandingState::Quarantined, "a day later all is as at first");
}

#[test]
fn an_operators_quarantine_needs_an_operator() {
    let mut world = World::new(ClonePolicy::Newest, false);
    world.set(StandingVerdict::Quarantine { reason: "stolen van".into() }).unwrap();
    // However much comes on top.
    for _ in 0..40 {
        world.suspect(100, true);
    }
    let standing = world.memory.standing(&owner()).unwrap().unwrap();
    assert!(clones::is_held_by_operator(&standing));
    assert_eq!(standing.evidence.len(), Standing::EVIDENCE_MAX);
    let keys = TpmKeys { endorsement_key: vec![], storage_root_key: vec![] };
    let tpm = Proof::Tpm { keys, signed_with: slot().fingerprint };
    assert_eq!(clones::releasing_factor(&standing, &tpm, Judgement::Advanced), None);
    assert!(matches!(world.release("tpm"), Err(RegistryError::Refused(Refusal::Quarantined { .. }))));
    world.release(BY_POLICY).unwrap();
    // Suspicion's own quarantine is released by what a key does not imply, and by nothing else.
    world.after(COOL_DOWN_MS);
    assert_eq!(world.suspect(100, true), StandingState::Quarantined, "an operator's counts for no limit");
    let standing = world.memory.standing(&owner()).unwrap().unwrap();
    for (proof, judgement, factor) in [
        (&tpm, Judgement::Unknown, Some("tpm")),
        (&Proof::EnrolledKeys, Judgement::Advanced, Some("continuity")),
        (&Proof::EnrolledKeys, Judgement::Repeated, None),
        (&Proof::EnrolledKeys, Judgement::Unknown, None),
        (&Proof::EnrolledKeys, Judgement::Stale, None),
    ] {
        assert_eq!(clones::releasing_factor(&standing, proof, judgement), factor, "{proof:?} {judgement:?}");
    }
    assert!(world.release("tpm").is_ok());
}

fn counter(decision: &Decision) -> Option<u64> {
    match &decision.outcome {
        Outcome::Registered { continuity, .. } => *continuity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_counter_is_written_with_the_registration() {
    let mut world = World::new(ClonePolicy::Newest, true);
    let first = world.register(Claim::Absent).unwrap();
    assert_eq!(counter(&first), Some(1));
    assert!(first.changes.contains(&Change::PutContinuity(id(), Continuity { confirmed: 0, issued: 1 })));
    // The answer was lost.
    let again = world.register(Claim::Absent).unwrap();
    assert_eq!((counter(&again), again.changes.len()), (Some(1), 1), "nothing changes that did not");
    assert_eq!(counter(&world.register(Claim::Presented(1)).unwrap()), Some(2));
    assert_eq!(counter(&world.register(Claim::Presented(1)).unwrap()), Some(2));
    assert_eq!(counter(&world.register(Claim::Presented(2)).unwrap()), Some(3));
    let before = world.memory.continuity.clone();
    let without = world.register(Claim::Absent).unwrap();
    assert_eq!((counter(&without), without.changes.len()), (None, 1), "the key alone buys no token");
    assert!(matches!(without.outcome, Outcome::Registered { stale: None, .. }), "and is no evidence");
    assert_eq!(world.memory.continuity, before);
    let stale = world.register(Claim::Presented(1)).unwrap();
    assert_eq!(counter(&stale), None, "what is newest does not go to who holds an old one");
    let Outcome::Registered { stale: Some(evidence), .. } = &stale.outcome else { panic!("{stale:?}") };
    assert_eq!((evidence.signal.as_str(), evidence.score), ("staleContinuity", 100));
    assert!(evidence.detail.contains("counter 1, after 2"), "{evidence:?}");
}

#[test]
fn a_stale_counter_quarantines_under_that_policy_and_a_release_begins_anew() {
    let mut world = World::new(ClonePolicy::Quarantine, true);
    for claim in [Claim::Absent, Claim::Presented(1), Claim::Presented(2)] {
        world.register(claim).unwrap();
    }
    let quarantined = world.register(Claim::Presented(1)).unwrap();
    assert!(
        matches!(&quarantined.outcome, Outcome::Standing(standing) if standing.state == StandingState::Quarantined)
    );
    assert!(matches!(event(&quarantined), LeafEvent::Quarantined { signals, .. } if signals == &["staleContinuity"]));
    assert!(world.register(Claim::Presented(3)).is_err(), "the writer lets nobody through; the service releases first");
    world.release("continuity").unwrap();
    assert_eq!(world.memory.continuity.len(), 1, "a factor's release leaves the counter");
    assert_eq!(counter(&world.register(Claim::Presented(3)).unwrap()), Some(4));
    let flip = world.register(Claim::Presented(1)).unwrap();
    assert!(matches!(flip.outcome, Outcome::Registered { stale: Some(_), .. }), "no quarantine in the cool-down");
    world.release(BY_POLICY).unwrap();
    assert!(world.memory.continuity.is_empty());
    assert_eq!(counter(&world.register(Claim::Presented(1)).unwrap()), Some(2), "the one that the operator let go on");
}

#[test]
fn a_deleted_registration_begins_its_counter_anew() {
    let mut world = World::new(ClonePolicy::Newest, true);
    for claim in [Claim::Absent, Claim::Presented(1), Claim::Absent] {
        world.register(claim).unwrap();
    }
    world.run(Command::DeleteRegistration { id: id(), precondition: Precondition::None }).unwrap();
    assert!(world.memory.continuity.is_empty());
    assert_eq!(counter(&world.register(Claim::Absent).unwrap()), Some(1));
}

#[test]
fn no_counter_where_it_is_off_or_the_payload_cannot_carry_it() {
    for (continuity, payload, handed_out) in [
        (false, None, None),
        (true, None, Some(1)),
        (true, Some(r#"{"a":1}"#), Some(1)),
        (true, Some("[1]"), None),
        (true, Some(r#""text""#), None),
    ] {
        let mut world = World::with_payload(ClonePolicy::Newest, continuity, payload);
        assert_eq!(counter(&world.register(Claim::Absent).unwrap()), handed_out, "{continuity} {payload:?}");
        assert_eq!(world.memory.continuity.len(), usize::from(handed_out.is_some()));
    }
}

#[test]
fn the_policy_is_the_enrollments_or_else_the_services() {
    let mut world = World::new(ClonePolicy::Oldest, false);
    let policy = |world: &World| clones::policy_of(&world.memory, &world.settings, &owner()).unwrap();
    assert_eq!(policy(&world), ClonePolicy::Oldest);
    let mut enrollment = world.memory.individuals[&id()].clone();
    enrollment.terms.clone_policy = Some(ClonePolicy::Quarantine);
    world.memory.apply(Change::PutIndividual(Box::new(enrollment)));
    assert_eq!(policy(&world), ClonePolicy::Quarantine);
    let by_hand = KeyOwner::Device("a".parse().unwrap(), "dev".parse().unwrap());
    assert_eq!(clones::policy_of(&world.memory, &world.settings, &by_hand).unwrap(), ClonePolicy::Oldest);
}

proptest! {
    /// Whatever a thief provokes and owners release, suspicion alone quarantines at most three times in any day, and never within
    /// a cool-down.
    #[test]
    fn quarantines_by_suspicion_are_bounded(steps in proptest::collection::vec((0u8..4, 0u32..600, 0u64..3_600_000), 1..120)) {
        let mut world = World::new(ClonePolicy::Quarantine, false);
        let (mut quarantined, mut released): (Vec<u64>, Option<u64>) = (Vec::new(), None);
        let mut state = None;
        for (kind, score, ms) in steps {
            world.after(ms);
            if kind == 0 {
                if world.release(BY_POLICY).is_ok() {
                    (state, released) = (Some(StandingState::Released), Some(world.now));
                }
                continue;
            }
            let next = world.suspect(score, true);
            if next == StandingState::Quarantined && state != Some(StandingState::Quarantined) {
                quarantined.push(world.now);
                if state == Some(StandingState::Released) {
                    prop_assert!(world.now - released.unwrap() >= COOL_DOWN_MS);
                }
            }
            state = Some(next);
        }
        for window in quarantined.windows(4) {
            prop_assert!(window[3] - window[0] > STREAK_MS, "{quarantined:?}");
        }
    }
}
