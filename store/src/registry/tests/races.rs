//! Many ask at the same time for what only one may have (U1, U2): real threads against the real writer, round after round. Whether the
//! rivals meet in one batch or in several is left to the scheduler; who wins, too.

use std::sync::Barrier;

use unicity_identity::{DeviceId, EnrollmentRef, KeyFingerprint, Refusal, RegistrationId};
use unicity_provisioning::registry::GroupDraft;
use unicity_provisioning::{Command, Outcome, Precondition, Registry as _, RegistryError, RegistryView as _, Request};

use super::fleet;
use super::world::open;
use crate::registry::RegistryStore;
use crate::vfs::SimVfs;

const ROUNDS: u64 = 150;
const RIVALS: u64 = 4;

type Answers = Vec<Result<Outcome, RegistryError>>;

/// Submits each request from a thread of its own, all let go at once; the answers in the order of the requests.
fn race(store: &RegistryStore, requests: Vec<Request>) -> Answers {
    let start = Barrier::new(requests.len());
    std::thread::scope(|scope| {
        let submit = |request| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                fleet::submit(store, request)
            })
        };
        let running: Vec<_> = requests.into_iter().map(submit).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The place of the one that won, and the refusals of the others.
fn one_winner(answers: Answers) -> (usize, Vec<Refusal>) {
    let (mut winners, mut refused) = (Vec::new(), Vec::new());
    for (place, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(Outcome::Registered { .. }) => winners.push(place),
            Err(RegistryError::Refused(refusal)) => refused.push(refusal),
            other => panic!("{other:?}"),
        }
    }
    let [winner] = winners[..] else { panic!("{winners:?} have won, refused were {refused:?}") };
    (winner, refused)
}

fn of_enrollment(mut request: Request, enrollment: EnrollmentRef, etag: unicity_identity::ETag) -> Request {
    let Command::Register(command) = &mut request.command else { panic!("it registers") };
    (command.attested.enrollment, command.attested.enrollment_etag) = (enrollment, etag);
    request
}

/// Rival `r` of a round has the number of its own keys.
fn number(round: u64, rival: u64) -> u64 {
    1000 + round * RIVALS + rival
}

fn key_of(store: &RegistryStore, id: &RegistrationId) -> KeyFingerprint {
    store.registration(id).unwrap().expect("it is registered").key_fingerprint
}

#[test]
fn of_many_credentials_for_one_registration_id_one_is_pinned() {
    let store = open(&SimVfs::new());
    let group = fleet::group(&*store);
    for round in 0..ROUNDS {
        let keys = |rival| fleet::slots(number(round, rival));
        let requests = (0..RIVALS).map(|rival| fleet::register_with(&group, round, keys(rival))).collect();
        let (winner, refused) = one_winner(race(&store, requests));
        assert!(refused.iter().all(|refusal| matches!(refusal, Refusal::WrongKey { .. })), "{refused:?}");
        assert_eq!(key_of(&store, &fleet::id(round)), keys(winner as u64)[0].fingerprint);
        for rival in 0..RIVALS {
            let is_held = store.key_owner(&keys(rival)[0].fingerprint).unwrap().is_some();
            assert_eq!(is_held, rival == winner as u64, "a key that was refused is left free");
        }
    }
}

/// A device may move from one enrollment to another, so neither is refused; but there is one assignment, and one set of keys.
#[test]
fn of_two_enrollments_for_one_registration_id_the_later_replaces_the_earlier() {
    let store = open(&SimVfs::new());
    let first = fleet::group(&*store);
    let Command::PutGroup { draft, .. } = fleet::put_group().command else { panic!("it puts a group") };
    let draft = GroupDraft { group_id: "other".parse().unwrap(), ..*draft };
    let mut draft = Box::new(draft);
    let [primary, secondary] = fleet::slots(999);
    draft.terms.terms.attestation = unicity_identity::Attestation::SymmetricKey { primary, secondary };
    let put = fleet::request(Command::PutGroup { draft, precondition: Precondition::Absent }, 999);
    let Ok(Outcome::Group(second)) = fleet::submit(&*store, put) else { panic!("the group is new") };
    for round in 0..ROUNDS {
        let groups = [&first, &second];
        let keys = |rival: u64| fleet::slots(number(round, rival));
        let requests =
            (0..2).zip(groups).map(|(rival, group)| fleet::register_with(group, round, keys(rival))).collect();
        for answer in race(&store, requests) {
            assert!(matches!(answer, Ok(Outcome::Registered { .. })), "{answer:?}");
        }
        let stored = store.registration(&fleet::id(round)).unwrap().unwrap();
        let winner = groups.iter().position(|group| stored.enrollment == EnrollmentRef::Group(group.group_id.clone()));
        let winner = winner.expect("one of the two") as u64;
        let device = store.device(&stored.hub, &stored.device_id).unwrap().expect("its device");
        assert_eq!(device.generation, stored.generation);
        assert_eq!(device.authentication.keys(), keys(winner).map(|slot| slot.fingerprint).into_iter().collect());
        for slot in keys(1 - winner) {
            assert_eq!(store.key_owner(&slot.fingerprint).unwrap(), None, "the other's keys are free");
        }
    }
    assert_eq!(store.list_devices(&fleet::hub(), None, 1000).unwrap().items.len(), ROUNDS as usize);
}

#[test]
fn of_many_registration_ids_with_one_key_one_gets_it() {
    let store = open(&SimVfs::new());
    let group = fleet::group(&*store);
    for round in 0..ROUNDS {
        let keys = fleet::slots(number(round, 0));
        let requests = (0..RIVALS).map(|rival| fleet::register_with(&group, number(round, rival), keys.clone()));
        let (winner, refused) = one_winner(race(&store, requests.collect()));
        let holder = fleet::id(number(round, winner as u64));
        for refusal in refused {
            let Refusal::KeyInUse { holder: named, .. } = &refusal else { panic!("{refusal:?}") };
            assert_eq!(named.to_string(), format!("registration {holder}"));
        }
        for rival in 0..RIVALS {
            let id = fleet::id(number(round, rival));
            assert_eq!(store.registration(&id).unwrap().is_some(), id == holder);
            assert_eq!(store.device(&fleet::hub(), &id.to_device_id()).unwrap().is_some(), id == holder);
        }
    }
}

#[test]
fn of_many_registrations_for_one_device_id_one_gets_it() {
    let store = open(&SimVfs::new());
    for round in 0..ROUNDS {
        let device_id: DeviceId = format!("shared-{round}").parse().unwrap();
        let enrolled = |rival| {
            let n = number(round, rival);
            let mut put = fleet::put_individual(n, fleet::slots(n));
            let Command::PutIndividual { draft, .. } = &mut put.command else { panic!("it enrolls") };
            draft.device_id = Some(device_id.clone());
            let Ok(Outcome::Individual(enrollment)) = fleet::submit(&*store, put) else { panic!("it is new") };
            enrollment.etag
        };
        let group = fleet::group(&*store);
        let requests = (0..RIVALS).map(|rival| {
            let etag = enrolled(rival);
            let n = number(round, rival);
            of_enrollment(fleet::register(&group, n), EnrollmentRef::Individual(fleet::id(n)), etag)
        });
        let (winner, refused) = one_winner(race(&store, requests.collect()));
        let holder = fleet::id(number(round, winner as u64));
        for refusal in refused {
            let Refusal::DeviceIdInUse { device_id: named, holder: by, .. } = &refusal else { panic!("{refusal:?}") };
            assert_eq!((named, by), (&device_id, &format!("registration {holder}")));
        }
        let device = store.device(&fleet::hub(), &device_id).unwrap().expect("the winner's device");
        assert_eq!(device.registration.as_ref(), Some(&holder));
        for rival in 0..RIVALS {
            let id = fleet::id(number(round, rival));
            assert_eq!(store.registration(&id).unwrap().is_some(), id == holder);
        }
    }
}
