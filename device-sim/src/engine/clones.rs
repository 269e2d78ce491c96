//! Devices whose credential somebody else has too.

use std::sync::Arc;

use super::{Member, Shared};
use crate::events::Event;
use crate::life::DeviceOutcome;
use crate::{Scene, SimError, run_attack};

/// Lets a device live through the attacks of its group, one after the other.
pub(super) async fn suffer(shared: Arc<Shared>, member: Member) -> DeviceOutcome {
    let id = member.device.registration_id.clone();
    let mut outcome = DeviceOutcome { registration_id: id.clone(), assignment: None, acknowledged: 0, error: None };
    let group = shared.group(&member);
    let mut stop = shared.stop.clone();
    tokio::select! {
        Ok(_) = stop.wait_for(|stopped| *stopped) => return outcome,
        () = tokio::time::sleep_until(shared.began + group.plan.boot.at(member.index, member.of)) => {}
    }
    shared.progress.add(|progress| &progress.started);
    // A stop ends an attack in the middle: thieves have nothing that must not be lost.
    let suffered = tokio::select! {
        Ok(_) = stop.wait_for(|stopped| *stopped) => Ok(()),
        suffered = Box::pin(attacks(&shared, &member)) => suffered,
    };
    match suffered {
        Ok(()) => shared.progress.add(|progress| &progress.finished),
        Err(error) => {
            let text = shared.progress.device_failed(&error);
            shared.events.of(&id, &group.name, || Event::Failed { error: text.clone() });
            outcome.error = Some(text);
        }
    }
    outcome
}

async fn attacks(shared: &Shared, member: &Member) -> Result<(), SimError> {
    let group = shared.group(member);
    let Some(clones) = &group.plan.clones else { return Ok(()) };
    let dialer = &group.dialers[member.index % group.dialers.len()];
    for kind in &clones.attacks {
        let _permit = shared.handshakes.acquire().await;
        let usual = Scene::new(dialer, &shared.endpoint, &shared.env);
        let scene = Scene { rounds: clones.rounds, ..usual };
        let report = run_attack(*kind, &scene, &member.device).await?;
        let seen = report.line();
        shared.events.of(&member.device.registration_id, &group.name, || Event::Attack {
            attack: kind.name(),
            seen: seen.clone(),
        });
        *shared.attacks.lock().entry((kind.name(), seen)).or_default() += 1;
    }
    Ok(())
}
