//! `unicity demo --hubs N`: one process with several hubs. Devices are spread over them by weight, one hub is drained, its devices are
//! moved at a rate while all stream on, and a checker looks at every hub, every twin and every log.

mod checker;
mod fleet;
mod verdict;

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use hyper::Method;
use serde_json::json;
use unicity_identity::registration::Registration;
use unicity_identity::{ClientIdentity, HubName, HubTerms, TwinEdit};
use unicity_provisioning::registry::{HubEdit, MoveCommand};
use unicity_provisioning::{Actor, Command, Outcome as Answer, Precondition, Provisioning, Request};

use super::{DemoArgs, Stage, size};
use crate::cli::Global;
use crate::clock;
use crate::config::{Config, HubConfig, PARTITIONS_DEFAULT};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};
use crate::server::Running;

/// The first hub takes twice as many devices as each other one, so that a share can be seen to be one.
const FIRST_WEIGHT: u32 = 2;

/// The number that the moves have in their leaves: that of a rebalance, which would walk in the same order.
const REBALANCE: u32 = 1;

/// Writes that wait for the disk together.
const SIDE_BY_SIDE: usize = 256;

/// Registrations that are read at once.
const PAGE: usize = 1000;

/// The hubs of a demo, each with a host of its own. Nobody resolves these names: the fleet is told where they are.
pub(super) fn configure(config: &mut Config, hubs: u32) -> Outcome {
    for number in 1..=hubs {
        config.hubs.push(HubConfig {
            name: format!("hub-{number}").parse().context("a hub's name")?,
            host: Some(format!("hub-{number}.demo").parse().context("a hub's host")?),
            aliases: Vec::new(),
            weight: if number == 1 { FIRST_WEIGHT } else { 1 },
            partitions: PARTITIONS_DEFAULT,
            apply_allocation: true,
            assigned_by: None,
        });
    }
    Ok(())
}

/// What the demo did about one hub's devices.
struct Moves {
    drained: HubName,
    rate: u32,
    /// In the order in which they were moved: where each was, and is.
    moved: Vec<(Registration, Registration)>,
    /// Those that could not be moved, with the reason.
    stayed: Vec<String>,
    took: Duration,
}

/// Runs it, and says what came of it.
pub(super) async fn run(
    global: &Global,
    args: &DemoArgs,
    data: &DataDir,
    running: Running,
    began: Instant,
) -> Outcome<bool> {
    let outcome = show(args, data, &running).await;
    // As for the other demo: the server ends in order whatever came of it.
    let stopped = running.stop(Duration::from_secs(3)).await;
    let shown = outcome?;
    stopped?;
    eprintln!("checks   the audit log, with the public key alone");
    let verdict = shown.judged(data, began)?;
    verdict.print(global.json)?;
    Ok(verdict.passed())
}

async fn show(args: &DemoArgs, data: &DataDir, running: &Running) -> Outcome<verdict::Shown> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(u64::from(args.seconds));
    let stage = super::set_stage(data, running).await?;
    let body = json!({
        "enrollmentGroupId": "demo", "attestation": {"type": "symmetricKey"},
        "initialTwin": {"tags": {"plant": "demo"}, "properties": {"desired": {"interval": 5}}},
    });
    let path = "/enrollmentGroups/demo?api-version=2021-10-01";
    stage.dps_client.call(Method::PUT, path, &[("if-match", "*")], Some(&body)).await?;
    let hubs: Vec<HubName> = running.names().hubs.iter().map(|hub| hub.name.clone()).collect();
    let drained = hubs.last().cloned().ok_or_else(|| CommandError::new("there is no hub"))?;
    eprintln!(
        "factory  id scope {}: {} devices by keys derived from group `demo`'s; they know one endpoint and no hub",
        stage.id_scope, args.devices
    );

    let fleet = fleet::Live::boot(args, &stage)?;
    fleet.until_connected("boot", 0, deadline).await?;
    let provisioning = running.provisioning();
    let before = registrations(provisioning)?;
    let spread = verdict::spread(running.names(), &before);
    for line in &spread {
        eprintln!("spread   {line}");
    }
    // Side by side: one sync of the journal takes many of them.
    for some in before.chunks(SIDE_BY_SIDE) {
        try_join_all(some.iter().map(|registration| report(provisioning, registration))).await?;
    }
    let twins = checker::twins(provisioning, &before)?;

    let rate = args.move_rate;
    let count = before.iter().filter(|registration| registration.hub == drained).count();
    eprintln!(
        "drain    {drained}: its {count} devices are moved, {rate} a second, while all {} stream on",
        args.devices
    );
    let moves = move_away(provisioning, &drained, &before, rate).await?;
    fleet.until_connected("moves", moves.moved.len() as u64, deadline).await?;
    fleet.until_said(u64::from(args.messages), deadline).await?;
    let after = registrations(provisioning)?;
    let twins_after = checker::twins(provisioning, &after)?;
    let mut found = checker::Found::default();
    for hub in &hubs {
        found.identities(data, hub).await?;
    }
    let report = fleet.stop().await?;
    for hub in &hubs {
        found.log(data, hub).await?;
    }
    let broken = verdict::broken(&running.broker().metrics().snapshot());
    let newest = found.newest.clone();
    let sealed = super::proof::seal(&stage, data, newest.as_deref()).await?;
    Ok(verdict::Shown {
        devices: u64::from(args.devices),
        names: running.names().clone(),
        before,
        after,
        changed_twins: checker::changed(&twins, &twins_after),
        twins: twins.len() as u64,
        moves,
        found,
        report,
        broken,
        sealed,
    })
}

/// All registrations, in the order of their ids.
fn registrations(provisioning: &Provisioning) -> Outcome<Vec<Registration>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = provisioning.registry().list_registrations(after.as_ref(), PAGE).context("the registrations")?;
        all.extend(page.items);
        after = all.last().map(|last: &Registration| last.registration_id.clone());
        if !page.more {
            return Ok(all);
        }
    }
}

async fn submit(provisioning: &Provisioning, command: Command, actor: Actor) -> Outcome<Answer> {
    let environment = clock::environment();
    let request = Request { command, actor, now: environment.now(), entropy: environment.entropy() };
    provisioning.registry().submit(request).await.map_err(|error| CommandError::new(error.to_string()))
}

/// What the device would report: something that only it could tell again.
async fn report(provisioning: &Provisioning, registration: &Registration) -> Outcome {
    let client =
        ClientIdentity { hub: registration.hub.clone(), device_id: registration.device_id.clone(), module_id: None };
    let patch = json!({"interval": 5, "serial": registration.registration_id});
    let edit = Box::new(TwinEdit::report(&patch).context("a report")?);
    let command = Command::EditTwin { client, edit, precondition: Precondition::None };
    submit(provisioning, command, Actor::Device).await.map(drop)
}

/// Drains a hub, and moves its devices to where the policy puts them now: as a rebalance does, under its number.
async fn move_away(provisioning: &Provisioning, drained: &HubName, all: &[Registration], rate: u32) -> Outcome<Moves> {
    let hubs = provisioning.hubs().context("the hubs")?;
    let terms = hubs.by_name(drained).map(|hub| hub.terms.clone()).unwrap_or_default();
    let terms = HubTerms { draining: true, ..terms };
    let edit = Box::new(HubEdit::Terms(terms));
    submit(provisioning, Command::SetHub { name: drained.clone(), edit }, Actor::Server).await?;
    let here: Vec<&Registration> = all.iter().filter(|registration| registration.hub == *drained).collect();
    let began = Instant::now();
    let mut turns = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut moved, mut stayed) = (Vec::new(), Vec::new());
    let begun = futures_util::stream::unfold((here.into_iter(), turns), |(mut left, mut turns)| async move {
        let registration = left.next()?;
        turns.tick().await;
        Some((registration, (left, turns)))
    });
    let mut begun =
        std::pin::pin!(begun.map(|registration| move_one(provisioning, registration)).buffered(SIDE_BY_SIDE));
    while let Some((registration, answer)) = begun.next().await {
        match answer? {
            Answer::Moved { registration: there, .. } => moved.push((registration.clone(), *there)),
            Answer::NotMoved(why) => stayed.push(format!("{}: {why}", registration.registration_id)),
            other => stayed.push(format!("{}: {other:?}", registration.registration_id)),
        }
    }
    Ok(Moves { drained: drained.clone(), rate, moved, stayed, took: began.elapsed() })
}

/// Moves one device, and ends the session that it left behind.
async fn move_one<'a>(
    provisioning: &Provisioning,
    registration: &'a Registration,
) -> (&'a Registration, Outcome<Answer>) {
    let command = MoveCommand {
        registration_id: registration.registration_id.clone(),
        from: registration.hub.clone(),
        rebalance: REBALANCE,
        circumstances: provisioning.circumstances(None),
    };
    let answer = submit(provisioning, Command::Move(Box::new(command)), Actor::Server).await;
    if let Ok(Answer::Moved { displaced, .. }) = &answer {
        provisioning.moved(displaced.as_ref());
    }
    (registration, answer)
}

/// The devices of the demo, by their group key.
fn members(args: &DemoArgs, stage: &Stage) -> Outcome<Vec<unicity_device_sim::Device>> {
    unicity_device_sim::Device::group_members(&stage.group_key, "device-", size(args.devices), &stage.id_scope)
        .context("the devices' names")
}
