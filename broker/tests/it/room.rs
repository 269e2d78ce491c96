//! Takeovers that wait for room in the partition's queue: who was taken over lives on meanwhile, and must not be forgotten.

use unicity_broker::codec::{ConnAck, ConnectCode, Packet};
use unicity_hub::{CloseReason, SessionEpoch};

use crate::world::*;

const EVENTS: &str = "devices/dev/messages/events/";
const CUT: CloseReason = CloseReason::IdentityChanged("cut by a test");

/// A live session with a will whose messages fill the queue, and so many newer ones that wait for room.
async fn crowded(newer: usize) -> (World, Client, Vec<Client>, SessionEpoch) {
    let world = World::with(|settings| settings.hand_over_max = 1);
    world.add_device("dev");
    let mut connect = hub_connect("dev");
    connect.will = will("dev");
    let (mut live, connack) = world.connect(connect).await;
    assert_eq!(connack.code, ConnectCode::Accepted);
    let epoch = world.sessions.live(&client_identity("dev")).expect("it is live");
    world.log.set_manual(true);
    world.log.set_capacity(2);
    for number in 1..=2 {
        live.send(&publish(EVENTS, Some(number), "before")).await;
    }
    settle().await;
    let mut waiting = Vec::new();
    for _ in 0..newer {
        let mut client = world.dial();
        client.send(&Packet::Connect(Box::new(hub_connect("dev")))).await;
        settle().await;
        waiting.push(client);
    }
    assert_eq!(world.log.queued(), 2, "nobody of them got in");
    (world, live, waiting, epoch)
}

fn stored(world: &World) -> Vec<(SessionEpoch, bool, String)> {
    let of = |message: unicity_hub::Message| {
        (message.stamp.epoch, message.will, String::from_utf8_lossy(&message.body).into_owned())
    };
    world.log.messages().into_iter().map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn what_ends_the_client_ends_also_the_session_that_was_taken_over_at_once() {
    for newer in 0..4 {
        let (world, mut live, waiting, epoch) = crowded(newer).await;
        // In one moment there is room again, the oldest sends, and the client is cut: the oldest is the first to run after it.
        world.log.set_capacity(usize::MAX);
        live.try_send(&publish(EVENTS, Some(3), "after")).await;
        assert!(world.sessions.close(&client_identity("dev"), CUT));
        settle().await;
        world.log.set_manual(false);
        let before = (epoch, false, "before".to_owned());
        assert_eq!(stored(&world), [before.clone(), before], "nothing more, nor the will: {newer} in between");
        for mut client in waiting {
            let unavailable = ConnAck { session_present: false, code: ConnectCode::ServerUnavailable };
            assert_eq!(client.recv().await, Some(Packet::ConnAck(unavailable)));
        }
        settle().await;
        assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_will_is_stored_before_the_fence_of_whoever_opens_in_the_end() {
    for newer in 1..4 {
        // Room comes one by one, so that each who waits may be the one that gets it.
        let (world, mut live, mut waiting, epoch) = crowded(newer).await;
        for _ in 0..8 {
            world.log.process(1);
            settle().await;
        }
        world.log.set_manual(false);
        let before = (epoch, false, "before".to_owned());
        assert_eq!(stored(&world), [before.clone(), before, (epoch, true, "gone".to_owned())], "{newer} newer");
        let mut newest = waiting.pop().expect("there is one");
        assert!(matches!(newest.recv().await, Some(Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. }))));
        for mut client in waiting {
            let unavailable = ConnAck { session_present: false, code: ConnectCode::ServerUnavailable };
            assert_eq!(client.recv().await, Some(Packet::ConnAck(unavailable)));
        }
        while live.recv().await.is_some() {}
        settle().await;
        assert_eq!((world.sessions.len(), world.log.open_sessions()), (1, 1));
    }
}
