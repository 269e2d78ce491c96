//! `unicity demo --hubs N`: one process with several hubs. Devices are spread over them by weight, one hub is drained, its devices are
//! moved at a rate while all stream on, and a checker looks at every hub, every twin and every log.

mod checker;
mod fleet;
mod moves;
mod verdict;

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hyper::Method;
use serde_json::json;
use unicity_identity::registration::Registration;
use unicity_identity::{ClientIdentity, HubName, TwinEdit};
use unicity_provisioning::{Actor, Command, Precondition, Provisioning, Request};

use super::{DemoArgs, Stage, size};
use crate::cli::Global;
use crate::clock;
use crate::config::{Config, HubConfig, PARTITIONS_DEFAULT};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};
use crate::server::Running;

/// The first hub takes twice as many devices as each other one, so that a share can be seen to be one.
const FIRST_WEIGHT: u32 = 2;

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
    let moves = moves::run(&stage.dps_client, &drained, rate, deadline).await?;
    fleet.until_connected("moves", moves.moved, deadline).await?;
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

/// What the device would report: something that only it could tell again.
async fn report(provisioning: &Provisioning, registration: &Registration) -> Outcome {
    let client =
        ClientIdentity { hub: registration.hub.clone(), device_id: registration.device_id.clone(), module_id: None };
    let patch = json!({"interval": 5, "serial": registration.registration_id});
    let edit = Box::new(TwinEdit::report(&patch).context("a report")?);
    let command = Command::EditTwin { client, edit, precondition: Precondition::None };
    let environment = clock::environment();
    let request = Request { command, actor: Actor::Device, now: environment.now(), entropy: environment.entropy() };
    provisioning.registry().submit(request).await.map(drop).map_err(|error| CommandError::new(error.to_string()))
}

/// The devices of the demo, by their group key.
fn members(args: &DemoArgs, stage: &Stage) -> Outcome<Vec<unicity_device_sim::Device>> {
    unicity_device_sim::Device::group_members(&stage.group_key, "device-", size(args.devices), &stage.id_scope)
        .context("the devices' names")
}
