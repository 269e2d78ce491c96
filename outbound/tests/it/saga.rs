//! Every kind of move, with every kind of failure, killed at every point.

use serde_json::json;
use unicity_identity::{RevocationTarget, Twin, TwinEdit};
use unicity_outbound::hub::{HubRequest, Method};
use unicity_outbound::runner::HubState;
use unicity_provisioning::transfer::TransferStage;
use unicity_provisioning::{Command, Outcome, Precondition, RegistryView as _, UnicityMode};

use crate::world::{ID, World, hub, id};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    First,
    BetweenRemotes { migrate: bool },
    ToRemote { migrate: bool },
    ToLocal { migrate: bool },
    InPlace,
    Redirected,
    Revoked,
}

const ALL: [Scenario; 10] = [
    Scenario::First,
    Scenario::BetweenRemotes { migrate: true },
    Scenario::BetweenRemotes { migrate: false },
    Scenario::ToRemote { migrate: true },
    Scenario::ToRemote { migrate: false },
    Scenario::ToLocal { migrate: true },
    Scenario::ToLocal { migrate: false },
    Scenario::InPlace,
    Scenario::Redirected,
    Scenario::Revoked,
];

impl Scenario {
    /// Where the device is before, and where it is to be.
    fn ends(self) -> (Option<&'static str>, &'static str) {
        match self {
            Self::First => (None, "r1"),
            Self::BetweenRemotes { .. } | Self::Revoked => (Some("r1"), "r2"),
            Self::ToRemote { .. } => (Some("local"), "r1"),
            Self::ToLocal { .. } => (Some("r1"), "local"),
            Self::InPlace => (Some("r1"), "r1"),
            Self::Redirected => (Some("local"), "r2"),
        }
    }

    fn migrates(self) -> bool {
        !matches!(
            self,
            Self::BetweenRemotes { migrate: false }
                | Self::ToRemote { migrate: false }
                | Self::ToLocal { migrate: false }
        )
    }
}

/// The device is where it is before, without faults, and has reported.
async fn prepare(world: &World, scenario: Scenario) {
    let Some(at) = scenario.ends().0 else { return };
    world.enroll(&[at], true).await;
    let running = world.start();
    world.register(&[]).await.unwrap();
    world.settled().await;
    running.stop().await;
    assert_eq!(world.enabled(), [at]);
    if at == "local" {
        let client = unicity_identity::ClientIdentity { hub: hub(at), device_id: ID.parse().unwrap(), module_id: None };
        let edit = TwinEdit::report(&json!({"seen": 9})).unwrap();
        world.run(Command::EditTwin { client, edit: Box::new(edit), precondition: Precondition::None }).await.unwrap();
        return;
    }
    let mut state = world.hubs.state();
    let device = state.hubs.get_mut(&hub(at)).unwrap().devices.get_mut(ID).unwrap();
    device.twin["properties"]["reported"] = json!({"seen": 9, "$version": 4});
    device.twin["etag"] = json!("reported");
}

/// One run with a kill at this event. Says whether there was one.
async fn play(scenario: Scenario, seed: u64, faults: u64, kill_at: u64) -> bool {
    let what = format!("{scenario:?}, seed {seed}, {faults} % faults, killed at {kill_at}");
    let world = World::new(UnicityMode::Strict, seed, 0).await;
    prepare(&world, scenario).await;
    let (_, to) = scenario.ends();
    world.hubs.state().faults = faults;
    world.hubs.kill_after(Some(kill_at));
    let mut running = world.start();
    match scenario {
        Scenario::Redirected => world.enroll(&["r1"], true).await,
        _ => world.enroll(&[to], scenario.migrates()).await,
    }
    world.register(&[]).await.unwrap();
    running.provisioning.took_up_any(&id()).unwrap();
    let mut was_killed = false;
    tokio::select! {
        () = world.hubs.reached.notified() => was_killed = true,
        () = world.settled() => {}
    }
    if was_killed {
        running.kill().await;
    } else {
        running.stop().await;
    }
    world.hubs.kill_after(None);
    match scenario {
        Scenario::Redirected if was_killed => {
            // Its target is gone for good, as far as anybody knows.
            world.enroll(&["r2"], true).await;
            world.register(&["r1"]).await.unwrap();
            world.hubs.state().hubs.get_mut(&hub("r1")).unwrap().is_down = true;
        }
        Scenario::Revoked => {
            let target = RevocationTarget::Registration(id());
            world.run(Command::Revoke { target, reason: None, force: false }).await.unwrap();
        }
        _ => {}
    }
    running = world.start();
    if scenario == Scenario::Redirected && was_killed {
        let is_new = || world.transfer().is_none_or(|it| it.stage == TransferStage::Delete);
        // What was made at the first target is deleted once that answers again.
        let to_r2 = world.transfer().is_some_and(|it| it.target.is_some_and(|end| end.hub == hub("r2")));
        if to_r2 {
            world.until("the assignment elsewhere", is_new).await;
        }
        world.hubs.state().hubs.get_mut(&hub("r1")).unwrap().is_down = false;
        world.settled().await;
        if !to_r2 {
            // It was assigned already; then it moves on as any other.
            world.register(&[]).await.unwrap();
        }
    }
    world.settled().await;
    running.stop().await;
    if scenario == Scenario::Revoked {
        assert_eq!(world.enabled(), [""; 0], "{what}");
        assert!(world.transfer().is_none(), "{what}");
        world.hubs.deliver_late();
        assert_eq!(world.enabled(), [""; 0], "{what}, after what came late");
        return was_killed;
    }
    let to = if scenario == Scenario::Redirected && !was_killed { "r1" } else { to };
    assert!(world.transfer().is_none(), "{what}: {:?}", world.transfer());
    assert_eq!(world.enabled(), [to], "{what}");
    let registration = world.registry.registration(&id()).unwrap().unwrap();
    assert_eq!(registration.hub, hub(to), "{what}");
    let device = world.registry.device(&hub(to), &ID.parse().unwrap()).unwrap().unwrap();
    assert_eq!(device.status, unicity_identity::DeviceStatus::Enabled, "{what}");
    for other in ["r1", "r2"].into_iter().filter(|other| *other != to) {
        let state = world.hubs.state();
        assert!(!state.hubs[&hub(other)].devices.contains_key(ID), "{what}: {other} still has it");
    }
    twin(&world, scenario, to, &what);
    world.hubs.deliver_late();
    assert_eq!(world.enabled(), [to], "{what}, after what came late");
    was_killed
}

fn twin(world: &World, scenario: Scenario, to: &str, what: &str) {
    let shown = if to == "local" {
        let client = unicity_identity::ClientIdentity { hub: hub(to), device_id: ID.parse().unwrap(), module_id: None };
        world.registry.twin(&client).unwrap().map_or_else(|| json!({}), |twin: Twin| twin.to_carried())
    } else {
        world.twin_at(to)
    };
    assert_eq!(shown["tags"]["plant"], 1, "{what}: {shown}");
    assert_eq!(shown["properties"]["desired"]["rate"], 5, "{what}: {shown}");
    let has_reported = scenario.ends().0.is_some() && scenario.migrates();
    let seen = if has_reported { json!(9) } else { json!(null) };
    assert_eq!(shown["properties"]["reported"]["seen"], seen, "{what}: {shown}");
}

#[tokio::test]
async fn each_move_ends_well_wherever_it_is_killed() {
    for scenario in ALL {
        let mut kill_at = 1;
        while play(scenario, 1, 0, kill_at).await {
            kill_at += 1;
        }
        assert!(kill_at > 2, "{scenario:?} was never killed");
    }
}

#[tokio::test]
async fn each_move_ends_well_whatever_fails() {
    for seed in 0..30 {
        for scenario in ALL {
            let kill_at = 1 + (seed * 7) % 40;
            play(scenario, seed + 100, 40, kill_at).await;
        }
    }
}

fn make_foreign(world: &World) {
    let mut state = world.hubs.state();
    let body = json!({"deviceId": ID, "status": "enabled", "authentication": {"type": "sas"}});
    let request = HubRequest {
        method: Method::Put,
        path: format!("/devices/{ID}"),
        condition: unicity_outbound::hub::Condition::Absent,
        body: Some(body),
    };
    assert_eq!(state.hubs.get_mut(&hub("r1")).unwrap().handle(&request).status, 200);
}

#[tokio::test]
async fn somebody_elses_identity_is_left_alone_in_strict_mode() {
    let world = World::new(UnicityMode::Strict, 3, 0).await;
    make_foreign(&world);
    world.enroll(&["r1"], true).await;
    let running = world.start();
    world.register(&[]).await.unwrap();
    world.settled().await;
    running.stop().await;
    let transfer = world.transfer().unwrap();
    assert!(matches!(transfer.stage, TransferStage::Failed { code: 409_204, .. }), "{:?}", transfer.stage);
    let state = world.hubs.state();
    assert!(state.hubs[&hub("r1")].devices[ID].is_enabled(), "it goes on as it was");
}

#[tokio::test]
async fn somebody_elses_identity_is_taken_over_in_compat_mode() {
    let world = World::new(UnicityMode::Compat, 3, 0).await;
    make_foreign(&world);
    world.enroll(&["r1"], true).await;
    let running = world.start();
    world.register(&[]).await.unwrap();
    world.settled().await;
    running.stop().await;
    assert!(world.transfer().is_none());
    assert_eq!(world.enabled(), ["r1"]);
    let reason = world.hubs.state().hubs[&hub("r1")].devices[ID].identity["statusReason"].clone();
    assert!(reason.as_str().unwrap().contains("reg meter-1 assigned"), "{reason}");
}

#[tokio::test]
async fn a_key_that_was_rotated_at_the_hub_heals_with_the_next_link() {
    let world = World::new(UnicityMode::Strict, 4, 0).await;
    let other = unicity_identity::SharedAccessKey::from_bytes(vec![2; 32]).unwrap();
    world.hubs.state().hubs.get_mut(&hub("r1")).unwrap().key = Some(world.vault.fingerprint(&other));
    world.enroll(&["r1"], true).await;
    let running = world.start();
    world.register(&[]).await.unwrap();
    let says_so = || {
        let health = world.live.health(&hub("r1"));
        health.and_then(|health| health.cause).is_some_and(|cause| cause.contains("401"))
    };
    world.until("the cause", says_so).await;
    assert!(world.transfer().is_some_and(|transfer| transfer.is_awaited()));
    world.link("r1", 2).await;
    world.settled().await;
    running.stop().await;
    assert_eq!(world.enabled(), ["r1"]);
}

#[tokio::test]
async fn a_hub_of_another_kind_gets_tags_and_desired_properties() {
    let world = World::new(UnicityMode::Strict, 5, 0).await;
    for hub in world.hubs.state().hubs.values_mut() {
        hub.is_unicity = false;
    }
    prepare(&world, Scenario::BetweenRemotes { migrate: true }).await;
    world.enroll(&["r2"], true).await;
    let running = world.start();
    world.register(&[]).await.unwrap();
    world.settled().await;
    running.stop().await;
    assert_eq!(world.enabled(), ["r2"]);
    let twin = world.twin_at("r2");
    assert_eq!(twin["tags"]["plant"], 1, "{twin}");
    assert_eq!(twin["properties"]["desired"]["rate"], 5, "{twin}");
    assert_eq!(twin["properties"]["desired"]["$version"], 1, "{twin}");
}

#[tokio::test]
async fn a_revoked_device_is_disabled_at_its_hub_and_stays_so() {
    let world = World::new(UnicityMode::Strict, 6, 0).await;
    prepare(&world, Scenario::InPlace).await;
    let target = RevocationTarget::Registration(id());
    let running = world.start();
    let revoked = world.run(Command::Revoke { target, reason: None, force: false }).await.unwrap();
    assert!(matches!(revoked, Outcome::Revoked(_)));
    world.settled().await;
    running.stop().await;
    assert!(world.transfer().is_none());
    assert_eq!(world.enabled(), [""; 0]);
    let reason = world.hubs.state().hubs[&hub("r1")].devices[ID].identity["statusReason"].clone();
    assert!(reason.as_str().unwrap().contains("reg meter-1 ended"), "{reason}");
}

fn enables(request: &HubRequest) -> bool {
    request.body.as_ref().is_some_and(|body| body["status"] == "enabled")
}

#[tokio::test]
async fn an_enabling_that_comes_after_the_revocation_finds_another_version() {
    let world = World::new(UnicityMode::Strict, 1_000_023, 0).await;
    world.hubs.state().late_if = Some(enables);
    world.enroll(&["r1"], true).await;
    let running = world.start();
    world.register(&[]).await.unwrap();
    world.until("an enabling on its way", || world.hubs.state().on_their_way() > 0).await;
    let target = RevocationTarget::Registration(id());
    world.run(Command::Revoke { target, reason: None, force: false }).await.unwrap();
    world.settled().await;
    running.stop().await;
    world.hubs.deliver_late();
    assert_eq!(world.enabled(), [""; 0]);
}

#[tokio::test]
async fn an_enabling_that_comes_after_the_next_move_finds_another_version() {
    let world = World::new(UnicityMode::Strict, 1_000_023, 0).await;
    world.hubs.state().late_if = Some(enables);
    world.enroll(&["r1"], true).await;
    let running = world.start();
    world.register(&[]).await.unwrap();
    world.until("an enabling on its way", || world.hubs.state().on_their_way() > 0).await;
    running.kill().await;
    world.hubs.state().late_if = None;
    let running = world.start();
    world.settled().await;
    world.enroll(&["r2"], true).await;
    world.register(&[]).await.unwrap();
    world.settled().await;
    running.stop().await;
    assert_eq!(world.enabled(), ["r2"]);
    world.hubs.deliver_late();
    assert_eq!(world.enabled(), ["r2"]);
}

#[tokio::test]
async fn what_waits_for_a_hub_goes_on_when_its_probe_answers_again() {
    let world = World::new(UnicityMode::Strict, 8, 0).await;
    world.hubs.state().hubs.get_mut(&hub("r1")).unwrap().is_down = true;
    world.enroll(&["r1"], true).await;
    // Without a probe's word each would wait for an hour.
    let running = world.start_waiting(std::time::Duration::from_secs(3600));
    world.register(&[]).await.unwrap();
    let is_down = || world.live.health(&hub("r1")).is_some_and(|health| health.state == HubState::Down);
    world.until("the fall", is_down).await;
    running.provisioning.took_up_any(&id()).unwrap();
    world.until("a try", || world.live.health(&hub("r1")).is_some_and(|health| health.cause.is_some())).await;
    let told = unicity_provisioning::allocation::Surroundings::retry_after_seconds;
    assert!(told(world.live.as_ref(), &world.transfer().unwrap()).unwrap() >= 10, "a device need not ask soon");
    world.hubs.state().hubs.get_mut(&hub("r1")).unwrap().is_down = false;
    world.settled().await;
    assert_eq!(world.enabled(), ["r1"]);
    running.stop().await;
}
