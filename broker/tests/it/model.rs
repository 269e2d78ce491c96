//! U3 and U4 under random interleavings: clients of a few identities connect, publish, go, and take each other over, while the
//! log stores when it likes. The whole edge takes part; only the registry and the log are fakes, with the real fence in the log.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use unicity_broker::Guarantee;
use unicity_broker::codec::{ConnectCode, Packet};
use unicity_hub::SessionEpoch;
use unicity_identity::ClientIdentity;

use crate::world::*;

const DEVICES: [&str; 3] = ["d0", "d1", "d2"];

#[derive(Debug, Clone)]
enum Action {
    /// A new connection of a device sends CONNECT, with a will or not.
    Connect { device: usize, will: bool },
    /// One of the connections sends a message, whether it has its CONNACK or not.
    Publish { connection: prop::sample::Index, acknowledged: bool },
    /// One of them publishes as another device.
    PublishForeign { connection: prop::sample::Index, device: usize },
    /// One of them says goodbye.
    Disconnect { connection: prop::sample::Index },
    /// One of them is gone.
    Drop { connection: prop::sample::Index },
    /// The log stores so many entries.
    Store { count: usize },
    /// The log's queue has so much room.
    Capacity { entries: usize },
    /// All that can happen now does.
    Settle,
}

fn action() -> impl Strategy<Value = Action> {
    let connection = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..DEVICES.len(), any::<bool>()).prop_map(|(device, will)| Action::Connect { device, will }),
        8 => (connection(), prop::bool::weighted(0.8)).prop_map(|(connection, acknowledged)| Action::Publish { connection, acknowledged }),
        1 => (connection(), 0..DEVICES.len()).prop_map(|(connection, device)| Action::PublishForeign { connection, device }),
        1 => connection().prop_map(|connection| Action::Disconnect { connection }),
        1 => connection().prop_map(|connection| Action::Drop { connection }),
        6 => (1usize..6).prop_map(|count| Action::Store { count }),
        1 => (1usize..8).prop_map(|entries| Action::Capacity { entries }),
        6 => Just(Action::Settle),
    ]
}

/// One client end.
struct Connection {
    device: usize,
    client: Client,
    accepted: bool,
    sent: u16,
    bodies: BTreeMap<u16, String>,
}

#[derive(Default)]
struct Model {
    connections: Vec<Connection>,
    /// Bodies that were acknowledged.
    acked: BTreeSet<String>,
    /// Bodies that were ever sent, with the device that sent them.
    sent: BTreeMap<String, usize>,
    takeover_seen: bool,
}

impl Model {
    async fn hear(&mut self) {
        for connection in &mut self.connections {
            for packet in connection.client.received().await {
                match packet {
                    Packet::ConnAck(connack) => connection.accepted = connack.code == ConnectCode::Accepted,
                    Packet::PubAck { id } => {
                        self.acked.insert(connection.bodies[&id.get()].clone());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    async fn act(&mut self, world: &World, action: Action) {
        let pick = |connection: prop::sample::Index, model: &Self| {
            (!model.connections.is_empty()).then(|| connection.index(model.connections.len()))
        };
        match action {
            Action::Connect { device, will: has_will } => {
                let mut client = world.dial();
                let mut connect = hub_connect(DEVICES[device]);
                connect.will = will(DEVICES[device]).filter(|_| has_will);
                client.send(&Packet::Connect(Box::new(connect))).await;
                let bodies = BTreeMap::new();
                self.connections.push(Connection { device, client, accepted: false, sent: 0, bodies });
            }
            Action::Publish { connection, acknowledged } => {
                let Some(index) = pick(connection, self) else { return };
                let connection = &mut self.connections[index];
                connection.sent += 1;
                let body = format!("{}/{index}/{}/{}", DEVICES[connection.device], self.sent.len(), connection.sent);
                self.sent.insert(body.clone(), connection.device);
                connection.bodies.insert(connection.sent, body.clone());
                let number = acknowledged.then_some(connection.sent);
                let topic = format!("devices/{}/messages/events/", DEVICES[connection.device]);
                connection.client.try_send(&publish(&topic, number, &body)).await;
            }
            Action::PublishForeign { connection, device } => {
                let Some(index) = pick(connection, self) else { return };
                if self.connections[index].device != device {
                    let topic = format!("devices/{}/messages/events/", DEVICES[device]);
                    self.connections[index].client.try_send(&publish(&topic, None, "foreign")).await;
                }
            }
            Action::Disconnect { connection } => {
                let Some(index) = pick(connection, self) else { return };
                self.connections[index].client.try_send(&Packet::Disconnect).await;
            }
            Action::Drop { connection } => {
                let Some(index) = pick(connection, self) else { return };
                drop(self.connections.swap_remove(index));
            }
            Action::Store { count } => world.log.process(count),
            Action::Capacity { entries } => world.log.set_capacity(entries),
            Action::Settle => {
                settle().await;
                self.hear().await;
            }
        }
    }

    fn check(&self, world: &World) -> Result<(), TestCaseError> {
        let mut newest: BTreeMap<ClientIdentity, SessionEpoch> = BTreeMap::new();
        let mut sequences: BTreeMap<SessionEpoch, u64> = BTreeMap::new();
        let mut stored = BTreeSet::new();
        for logged in world.log.logged() {
            match logged {
                Logged::Open(client, epoch) => {
                    let before = newest.insert(client, epoch);
                    prop_assert!(before.is_none_or(|before| before < epoch), "U3: {epoch} opened after {before:?}");
                }
                Logged::Message(message, sequence) => {
                    let stamp = &message.stamp;
                    prop_assert_eq!(newest.get(&stamp.client), Some(&stamp.epoch), "U3: stored behind a newer opening");
                    let last = sequences.entry(stamp.epoch).or_default();
                    *last += 1;
                    prop_assert_eq!(*last, sequence);
                    let device = DEVICES.iter().position(|name| *name == stamp.client.device_id.as_str());
                    prop_assert_eq!(
                        stamp.key_fingerprint,
                        world.vault.fingerprint(&key(stamp.client.device_id.as_str()))
                    );
                    if message.will {
                        continue;
                    }
                    let body = String::from_utf8(message.body.to_vec()).expect("bodies here are text");
                    prop_assert_eq!(self.sent.get(&body).copied(), device, "U4: stamped as whom it came from");
                    prop_assert!(stored.insert(body), "no message is stored twice");
                }
            }
        }
        for body in &self.acked {
            prop_assert!(stored.contains(body), "acknowledged, but not stored: {body}");
        }
        prop_assert_eq!(world.broker.metrics().violations(Guarantee::U3), 0);
        prop_assert_eq!(world.broker.metrics().violations(Guarantee::U4), 0);
        Ok(())
    }
}

/// No deadline may end a session here: the log may be as slow as it likes.
fn world() -> World {
    World::with(|settings| settings.accept_deadline = std::time::Duration::from_secs(100_000))
}

/// Runs the actions; says whether a session took over a live one.
async fn run(world: World, actions: Vec<Action>) -> Result<bool, TestCaseError> {
    DEVICES.iter().for_each(|device| world.add_device(device));
    world.log.set_manual(true);
    let mut model = Model::default();
    for action in actions {
        model.act(&world, action).await;
        model.check(&world)?;
        let live = DEVICES.iter().filter(|device| world.sessions.live(&client_identity(device)).is_some()).count();
        prop_assert_eq!(world.sessions.len(), live, "U3: one live session an identity");
    }
    world.log.set_capacity(usize::MAX);
    world.log.set_manual(false);
    settle().await;
    model.hear().await;
    model.check(&world)?;
    // When all is quiet, who still is connected is the one live session of its device.
    let mut open = BTreeMap::new();
    for connection in &mut model.connections {
        connection.client.try_send(&Packet::PingReq).await;
        let answered = connection.client.received().await.contains(&Packet::PingResp);
        prop_assert!(!answered || connection.accepted);
        *open.entry(connection.device).or_insert(0) += usize::from(answered);
    }
    for (device, count) in open {
        prop_assert!(count <= 1, "U3: {count} live sessions of {}", DEVICES[device]);
    }
    model.takeover_seen = world.metric("unicity_session_takeovers_total", "") > 0.0;
    model.connections.clear();
    settle().await;
    prop_assert_eq!((world.sessions.len(), world.log.open_sessions()), (0, 0), "nothing is left behind");
    model.check(&world)?;
    Ok(model.takeover_seen)
}

#[test]
fn sessions_hold_u3_and_u4_whatever_happens_when() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    let takeovers = std::cell::Cell::new(0);
    let result = runner.run(&prop::collection::vec(action(), 1..60), |actions| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        takeovers.set(takeovers.get() + u32::from(runtime.block_on(async { run(world(), actions).await })?));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(takeovers.get() > 100, "the model would say nothing if sessions seldom met: {} of 400", takeovers.get());
}

/// The proof that the model looks: the same run, with openings that overtake messages, is fine behind a fence and not without.
#[tokio::test(start_paused = true)]
async fn the_model_notices_a_log_without_a_fence() {
    let connection = || any_index(0);
    let actions = vec![
        Action::Connect { device: 0, will: false },
        Action::Settle,
        Action::Store { count: 1 },
        Action::Settle,
        Action::Publish { connection: connection(), acknowledged: true },
        Action::Settle,
        Action::Connect { device: 0, will: false },
        Action::Settle,
        Action::Store { count: 9 },
        Action::Settle,
    ];
    for (fence_is_off, is_noticed) in [(false, false), (true, true)] {
        let world = world();
        world.log.sabotage(fence_is_off);
        let result = run(world, actions.clone()).await;
        assert_eq!(result.is_err(), is_noticed, "{result:?}");
    }
}

/// The index of this place in a list of any length above it.
fn any_index(place: usize) -> prop::sample::Index {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    loop {
        let index = any::<prop::sample::Index>().new_tree(&mut runner).expect("an index").current();
        if index.index(2) == place {
            return index;
        }
    }
}
