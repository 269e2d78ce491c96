//! The table of live sessions.

use unicity_identity::{GenerationId, KeyFingerprint, QoS, Timestamp};

use super::*;
use crate::{AuthMethod, SessionStamp};

struct Handle(Mutex<Vec<CloseReason>>);
impl SessionControl for Handle {
    fn close(&self, reason: CloseReason) {
        self.0.lock().push(reason);
    }
}

fn client() -> ClientIdentity {
    ClientIdentity { hub: "default".parse().unwrap(), device_id: "d".parse().unwrap(), module_id: None }
}

fn will(counter: u64) -> Box<Message> {
    let stamp = SessionStamp {
        client: client(),
        generation: GenerationId(1),
        auth_method: AuthMethod::Sas,
        key_fingerprint: KeyFingerprint([0; 32]),
        epoch: epoch(counter),
    };
    Box::new(Message {
        stamp: Arc::new(stamp),
        enqueued: Timestamp(0),
        qos: QoS::AtLeastOnce,
        dup: false,
        will: true,
        properties: vec![],
        system_properties: vec![],
        body: Default::default(),
    })
}

fn epoch(counter: u64) -> SessionEpoch {
    SessionEpoch { boot: 1, counter }
}

#[test]
fn the_newest_epoch_is_the_live_one_in_whatever_order_they_come() {
    let sessions = Sessions::default();
    let handle = || Arc::new(Handle(Mutex::default()));
    assert!(matches!(sessions.insert(&client(), epoch(2), handle()), Inserted::First));
    assert!(matches!(sessions.insert(&client(), epoch(1), handle()), Inserted::Superseded { by } if by == epoch(2)));
    assert!(matches!(sessions.insert(&client(), epoch(3), handle()), Inserted::TookOver(old) if old.epoch == epoch(2)));
    assert_eq!(sessions.len(), 1);
    assert!(sessions.remove(&client(), epoch(2)).is_none(), "the older one finds that it was taken over");
    assert!(sessions.remove(&client(), epoch(3)).is_some());
    assert!(sessions.is_empty());
}

#[test]
fn a_session_has_a_will_only_from_its_acceptance_on() {
    let sessions = Sessions::default();
    let handle = || Arc::new(Handle(Mutex::default()));
    let taken_over = |newer| {
        assert!(matches!(sessions.insert(&client(), epoch(newer), handle()), Inserted::TookOver(_)));
        let mut passed = None;
        sessions.pass_will(&client(), epoch(newer), |will| {
            passed = Some(will.stamp.epoch);
            Ok(())
        });
        passed
    };
    assert!(!sessions.arm(&client(), epoch(1), Some(will(1))), "it was never in the table");
    sessions.insert(&client(), epoch(1), handle());
    // Taken over while it opens: there is no will, and none can come later.
    assert_eq!(taken_over(2), None);
    assert!(!sessions.arm(&client(), epoch(1), Some(will(1))));
    assert!(sessions.arm(&client(), epoch(2), Some(will(2))));
    assert_eq!(taken_over(3), Some(epoch(2)));
    assert!(!sessions.arm(&client(), epoch(2), Some(will(2))), "its will is with the newer one already");
    assert!(sessions.arm(&client(), epoch(3), None), "a session without a will is asked too");
    assert!(sessions.remove(&client(), epoch(3)).is_some_and(|will| will.is_none()));
    assert!(!sessions.arm(&client(), epoch(3), Some(will(3))));
}

struct Known(Arc<SessionFacts>, Mutex<usize>);
impl SessionControl for Known {
    fn close(&self, _: CloseReason) {
        *self.1.lock() += 1;
    }
    fn facts(&self) -> Option<&SessionFacts> {
        Some(&self.0)
    }
}

fn known(registration: &str, rejudge: Option<Rejudge>) -> Arc<Known> {
    let facets = Facets { registration: Some(registration.parse().unwrap()), ..Facets::default() };
    Arc::new(Known(Arc::new(SessionFacts { facets, rejudge }), Mutex::default()))
}

#[test]
fn a_predicate_reaches_hub_sessions_and_registering_ones_alike() {
    let sessions = Arc::new(Sessions::default());
    let reason = CloseReason::IdentityChanged("revoked");
    let (hub, registering, other) = (known("a", None), known("a", None), known("b", None));
    sessions.insert(&client(), epoch(1), hub.clone());
    let place = sessions.enter_registering(registering.clone());
    let _other = sessions.enter_registering(other.clone());
    // One that is not described yet is passed over.
    let _new = sessions.enter_registering(Arc::new(Handle(Mutex::default())));
    let meant = |facets: &Facets| facets.registration.as_ref().is_some_and(|id| id.as_str() == "a");
    assert_eq!((sessions.count_where(meant), sessions.close_where(&reason, meant)), (2, 2));
    assert_eq!((*hub.1.lock(), *registering.1.lock(), *other.1.lock()), (1, 1, 0));
    drop(place);
    assert_eq!(sessions.close_where(&reason, meant), 1, "who has left is not found");
}

#[test]
fn sessions_of_certificates_are_judged_again_and_others_are_left_alone() {
    let sessions = Arc::new(Sessions::default());
    let (good, bad, key) =
        (known("a", Some(Arc::new(|| true))), known("b", Some(Arc::new(|| false))), known("c", None));
    let _places = [good.clone(), bad.clone(), key.clone()].map(|control| sessions.enter_registering(control));
    assert_eq!(sessions.rejudge(&CloseReason::Stopping).len(), 1);
    assert_eq!((*good.1.lock(), *bad.1.lock(), *key.1.lock()), (0, 1, 0));
}

#[test]
fn an_older_session_stays_if_it_is_told_to_and_modules_are_apart() {
    let sessions = Sessions::default();
    let handle = || Arc::new(Handle(Mutex::default()));
    assert!(matches!(sessions.insert_unless(&client(), epoch(1), handle(), |_| true), Inserted::First));
    let stays = sessions.insert_unless(&client(), epoch(2), handle(), |older| older.is_alive());
    assert!(matches!(stays, Inserted::OlderStays { epoch: older } if older == epoch(1)));
    assert_eq!(sessions.live(&client()), Some(epoch(1)));
    let module = |name: &str| ClientIdentity { module_id: Some(name.parse().unwrap()), ..client() };
    for (number, client) in [(3, module("a")), (4, module("b"))] {
        assert!(matches!(sessions.insert_unless(&client, epoch(number), handle(), |_| true), Inserted::First));
    }
    assert_eq!(sessions.len(), 3, "a device and each of its modules have a session of their own");
    assert!(matches!(sessions.insert_unless(&client(), epoch(5), handle(), |_| false), Inserted::TookOver(_)));
}

#[test]
fn a_will_that_finds_no_room_goes_to_whoever_is_live_by_then() {
    let sessions = Sessions::default();
    let handle = || Arc::new(Handle(Mutex::default()));
    sessions.insert(&client(), epoch(1), handle());
    assert!(sessions.arm(&client(), epoch(1), Some(will(1))));
    sessions.insert(&client(), epoch(2), handle());
    assert_eq!(sessions.pass_will(&client(), epoch(2), Err), WillPassed::NoRoom);
    sessions.insert(&client(), epoch(3), handle());
    let not_called = |_| panic!("it is not this one's to pass on");
    assert_eq!(sessions.pass_will(&client(), epoch(2), not_called), WillPassed::NotLive(Some(epoch(3))));
    assert!(sessions.remove(&client(), epoch(2)).is_none());
    assert_eq!(sessions.pass_will(&client(), epoch(3), |_| Ok(())), WillPassed::Queued);
    assert_eq!(sessions.pass_will(&client(), epoch(3), not_called), WillPassed::Nothing);
    assert!(sessions.remove(&client(), epoch(3)).is_some_and(|will| will.is_none()), "it is stored once");
    assert_eq!(sessions.pass_will(&client(), epoch(3), not_called), WillPassed::NotLive(None));
}

#[test]
fn whose_place_was_taken_ends_when_told_with_whatever_ends_the_client_or_with_the_last_that_opens() {
    let handles = || [(); 3].map(|()| Arc::new(Handle(Mutex::default())));
    let reasons = |handles: &[Arc<Handle>; 3]| handles.each_ref().map(|handle| handle.0.lock().clone());
    let chain = || {
        let (sessions, handles) = (Sessions::default(), handles());
        for (number, handle) in (1..).zip(&handles) {
            sessions.insert(&client(), epoch(number), handle.clone());
        }
        (sessions, handles)
    };
    let by = |number| vec![CloseReason::TakenOver { by: epoch(number) }];

    let (sessions, all) = chain();
    sessions.fenced(&client(), epoch(2));
    assert_eq!(reasons(&all), [vec![], vec![], vec![]], "they are in the hands of the newest");
    sessions.fenced(&client(), epoch(3));
    sessions.fenced(&client(), epoch(3));
    assert_eq!(reasons(&all), [by(3), by(3), vec![]], "told once");

    let (sessions, all) = chain();
    assert!(sessions.close(&client(), CloseReason::Stopping));
    assert_eq!(reasons(&all), [(); 3].map(|()| vec![CloseReason::Stopping]));

    let (sessions, all) = chain();
    assert!(sessions.remove(&client(), epoch(1)).is_none(), "one of them goes by itself");
    assert!(sessions.remove(&client(), epoch(3)).is_some());
    assert_eq!(reasons(&all), [vec![], by(3), vec![]]);

    let sessions = Arc::new(Sessions::default());
    let known = [known("a", None), known("a", None)];
    for (number, control) in (1..).zip(&known) {
        sessions.insert(&client(), epoch(number), control.clone());
    }
    assert_eq!(sessions.close_where(&CloseReason::Stopping, |_| true), 2, "a revocation finds both");
    assert_eq!(known.map(|control| *control.1.lock()), [1, 1]);
}

#[test]
fn closing_reaches_the_live_session_only() {
    let sessions = Sessions::default();
    let handle = Arc::new(Handle(Mutex::default()));
    assert!(!sessions.close(&client(), CloseReason::Stopping));
    sessions.insert(&client(), epoch(1), handle.clone());
    assert!(sessions.close(&client(), CloseReason::IdentityChanged("disabled")));
    assert_eq!(*handle.0.lock(), [CloseReason::IdentityChanged("disabled")]);
}

#[derive(Default)]
struct Halves(Mutex<(usize, usize)>, Option<SessionFacts>);
impl SessionControl for Halves {
    fn close(&self, reason: CloseReason) {
        self.mark(reason);
        self.wake();
    }
    fn mark(&self, _: CloseReason) {
        self.0.lock().0 += 1;
    }
    fn wake(&self) {
        self.0.lock().1 += 1;
    }
    fn facts(&self) -> Option<&SessionFacts> {
        self.1.as_ref()
    }
}

#[test]
fn many_are_marked_at_once_and_told_a_few_at_a_time_and_nobody_is_forgotten() {
    let sessions = Arc::new(Sessions::default());
    let facts = || SessionFacts { facets: Facets::default(), rejudge: None };
    let all: Vec<_> = (0..10).map(|_| Arc::new(Halves(Mutex::default(), Some(facts())))).collect();
    let _places: Vec<_> = all.iter().map(|control| sessions.enter_registering(control.clone())).collect();
    let told = || all.iter().map(|control| control.0.lock().1).sum::<usize>();
    let mut marked = sessions.mark_where(&CloseReason::Stopping, |_| true);
    assert!(all.iter().all(|control| *control.0.lock() == (1, 0)));
    assert_eq!((marked.wake(3), told()), (7, 3));
    assert_eq!((marked.wake(4), told()), (3, 7));
    drop(marked);
    assert!(all.iter().all(|control| *control.0.lock() == (1, 1)), "each once");
    assert_eq!(sessions.close_where(&CloseReason::Stopping, |_| true), 10);
    assert!(all.iter().all(|control| *control.0.lock() == (2, 2)));
}
