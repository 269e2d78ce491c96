//! Asks each hub elsewhere, again and again, whether it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::live::Probed;
use super::step::Shared;
use crate::hub::{probe_request, probed};

/// Probes until it is told to stop. A round waits for its slowest hub, whose answer has a deadline.
pub(super) async fn run(shared: Arc<Shared>, every: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = round(&shared) => {}
        }
    }
}

async fn round(shared: &Arc<Shared>) {
    let directory = match shared.provisioning.hubs() {
        Ok(directory) => directory,
        Err(fault) => {
            tracing::error!(%fault, "hubs cannot be probed");
            return;
        }
    };
    let mut probes = JoinSet::new();
    for hub in directory.iter().filter(|hub| hub.is_remote()).cloned() {
        let shared = shared.clone();
        probes.spawn(async move {
            let began = Instant::now();
            let answer = shared.hubs.call(&hub, probe_request()).await;
            let round_trip_us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            let result = probed(&answer).map(|devices| Probed { round_trip_us, devices });
            shared.live.probed(&hub.name, result, shared.environment.now());
        });
    }
    while probes.join_next().await.is_some() {}
}
