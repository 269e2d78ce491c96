//! A revocation ends sessions of both roles, and a CONNECT in flight does not slip through (U7).

use unicity_broker::codec::{ConnAck, ConnectCode, Packet};
use unicity_hub::CloseReason;
use unicity_identity::{Entropy, ProvisioningStatus, RevocationTarget};
use unicity_provisioning::{Actor, Command, Registry as _, Request};

use crate::world::*;

const REVOKED: CloseReason = CloseReason::IdentityChanged("the device was revoked");

impl World {
    fn target(&self, name: &str) -> RevocationTarget {
        RevocationTarget::Key(self.vault.fingerprint(&key(name)))
    }

    /// The record; when this returns, the predicate is visible.
    async fn revoke(&self, target: &RevocationTarget) {
        let command = Command::Revoke { target: target.clone(), reason: None, force: true };
        let actor = Actor::Policy("owner".into());
        let request = Request { command, actor, now: NOW, entropy: Entropy::from_seed([8; 32]) };
        self.registry.submit(request).await.expect("whatever is revoked may be");
    }

    fn cut(&self, target: &RevocationTarget) -> usize {
        self.sessions.close_where(&REVOKED, |facets| facets.are_met_by(target))
    }
}

#[tokio::test(start_paused = true)]
async fn live_sessions_of_both_roles_are_cut_and_new_ones_refused() {
    let world = World::new();
    world.enroll("dev", ProvisioningStatus::Enabled).await;
    world.enroll("other", ProvisioningStatus::Enabled).await;
    world.add_device("hub-dev");
    let registering = world.provisioning_client("dev").await;
    let mut bystander = world.provisioning_client("other").await;
    let live = world.hub_client("hub-dev").await;
    for (name, client, connect) in
        [("dev", registering, provisioning_connect("dev")), ("hub-dev", live, hub_connect("hub-dev"))]
    {
        let target = world.target(name);
        world.revoke(&target).await;
        assert_eq!(world.cut(&target), 1, "{name}");
        client.expect_closed().await;
        let (again, connack) = world.connect(connect).await;
        assert_eq!(connack.code, ConnectCode::NotAuthorized, "{name}");
        again.expect_closed().await;
        assert_eq!(world.cut(&target), 0, "{name}: nothing of it is left");
    }
    assert_eq!(bystander.received().await, [], "whom it does not mean stays");
    bystander.send(&Packet::PingReq).await;
    assert_eq!(bystander.recv().await, Some(Packet::PingResp));
}

#[tokio::test(start_paused = true)]
async fn a_connect_in_flight_is_refused_wherever_the_revocation_meets_it() {
    // In the table, behind the first look and before the second: the walk finds it, and so does the second look alone.
    for is_cut in [true, false] {
        let world = World::new();
        world.add_device("dev");
        world.log.set_manual(true);
        let mut client = world.dial();
        client.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
        settle().await;
        assert_eq!(world.log.queued(), 1, "its fence waits");
        let target = world.target("dev");
        world.revoke(&target).await;
        if is_cut {
            assert_eq!(world.cut(&target), 1);
        }
        world.log.set_manual(false);
        // Who is cut as it opens is told to try again, and is refused for good then.
        match client.recv().await {
            Some(Packet::ConnAck(ConnAck { code, .. })) => {
                assert_eq!(code, if is_cut { ConnectCode::ServerUnavailable } else { ConnectCode::NotAuthorized });
                client.expect_closed().await;
            }
            other => panic!("{other:?}"),
        }
        let (again, connack) = world.connect(hub_connect("dev")).await;
        assert_eq!(connack.code, ConnectCode::NotAuthorized);
        again.expect_closed().await;
        settle().await;
        assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_was_accepted_in_the_same_moment_is_cut() {
    let world = World::new();
    world.add_device("dev");
    let mut client = world.dial();
    client.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
    settle().await;
    // Both looks are behind it; its CONNACK may be on the way.
    let target = world.target("dev");
    world.revoke(&target).await;
    assert_eq!(world.cut(&target), 1);
    assert!(matches!(client.recv().await, Some(Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. }))));
    client.expect_closed().await;
    assert_eq!(world.sessions.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_marked_does_nothing_more_though_it_is_told_later() {
    let world = World::new();
    world.enroll("dev", ProvisioningStatus::Enabled).await;
    world.add_device("hub-dev");
    let mut registering = world.provisioning_client("dev").await;
    let mut live = world.hub_client("hub-dev").await;
    // Another's message fills the log's queue, so this one waits for room.
    world.add_device("other");
    let mut other = world.hub_client("other").await;
    world.log.set_manual(true);
    world.log.set_capacity(1);
    other.send(&publish("devices/other/messages/events/", Some(1), "x")).await;
    settle().await;
    live.send(&publish("devices/hub-dev/messages/events/", Some(1), "x")).await;
    // Its answer is under way.
    world.registry.hold(true);
    let register = "$dps/registrations/PUT/iotdps-register/?$rid=1";
    registering.send(&publish(register, None, r#"{"registrationId":"dev"}"#)).await;
    settle().await;
    let spared = world.target("other");
    let mut marked = world.sessions.mark_where(&REVOKED, |facets| !facets.are_met_by(&spared));
    assert_eq!(marked.len(), 2);
    world.log.set_manual(false);
    world.registry.hold(false);
    live.try_send(&publish("devices/hub-dev/messages/events/", Some(2), "x")).await;
    settle().await;
    assert_eq!(world.log.messages().len(), 1, "only what was in the log's queue before");
    assert_eq!(marked.wake(usize::MAX), 0);
    live.expect_closed().await;
    registering.expect_closed().await;
    assert_eq!(world.sessions.len(), 1, "who is not meant stays");
}
