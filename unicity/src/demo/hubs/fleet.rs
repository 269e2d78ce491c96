//! The demo's devices: each streams until it is told to stop, and finds its hub again by registering when the one it knew refuses it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use unicity_device_sim::Progress;
use unicity_device_sim::engine::{Engine, EngineReport, EngineStopper, Member};
use unicity_device_sim::events::EventSink;
use unicity_device_sim::fleet_file::{Outside, parse};

use super::{DemoArgs, Stage, members};
use crate::clock;
use crate::error::{CommandError, Context as _, Outcome};

/// How often what the devices have done is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Messages a second of the whole fleet, about: what one core takes with ease.
const PACE: u64 = 1000;

/// A fleet that runs.
pub(super) struct Live {
    devices: u64,
    progress: Arc<Progress>,
    stopper: EngineStopper,
    run: JoinHandle<EngineReport>,
}

impl Live {
    /// Switches all devices on.
    pub(super) fn boot(args: &DemoArgs, stage: &Stage) -> Outcome<Self> {
        let devices = u64::from(args.devices);
        let interval_ms = (devices * 1000 / PACE).clamp(200, 60_000);
        let text = format!(
            r#"
            [fleet]
            handshakes = {}
            [[group]]
            name = "demo"
            count = {devices}
            id = "device-{{n:05}}"
            attestation.group_key = {{}}
            reconnect = {{ base = "50ms", factor = 2, cap = "1s", jitter = "full", refusals = 1, rounds = 100 }}
            [group.telemetry]
            interval = "{interval_ms}ms"
            jitter = 0.5
            body = '{{"device":"${{device_id}}","sequence":${{sequence}}}}'
            "#,
            args.concurrency,
        );
        let nothing = Outside {
            base: Path::new("."),
            read: &|path| Err(format!("the demo's fleet needs no file, not {} either", path.display())),
            variable: &|_| None,
        };
        let plan = parse(&text, &nothing).context("the demo's fleet")?;
        let all = members(args, stage)?;
        let of = all.len();
        let member = |(index, device)| Member { device, group: 0, index, of, assigned: None };
        let engine = Engine::new(
            plan,
            all.into_iter().enumerate().map(member).collect(),
            &stage.dialer,
            stage.endpoint.clone(),
            None,
            EventSink::none(),
            clock::environment(),
        );
        let (progress, stopper) = (engine.progress(), engine.stopper());
        Ok(Self { devices, progress, stopper, run: tokio::spawn(engine.run()) })
    }

    async fn until(&self, what: &str, deadline: Instant, done: impl Fn() -> bool) -> Outcome {
        while !done() {
            if Instant::now() >= deadline || self.run.is_finished() {
                let now = self.progress.snapshot();
                let error = now.first_error.map(|error| format!("; first error: {error}")).unwrap_or_default();
                return Err(CommandError::new(format!(
                    "{what}: {} of {} devices are connected, {} gave up, {} messages are acknowledged{error}",
                    now.open, self.devices, now.failed, now.acknowledged
                ))
                .hint("--seconds gives more time"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until every device has a session, and so many have lost one and found another.
    pub(super) async fn until_connected(&self, what: &str, lost: u64, deadline: Instant) -> Outcome {
        let is_done = || {
            let now = self.progress.snapshot();
            now.open == self.devices && now.reconnects >= lost
        };
        self.until(what, deadline, is_done).await?;
        let now = self.progress.snapshot();
        eprintln!(
            "fleet    all {} connected: {} registrations, {} messages acknowledged, {} sessions lost and found again",
            self.devices, now.provisioned, now.acknowledged, now.reconnects
        );
        Ok(())
    }

    /// Waits until so many more messages a device were acknowledged.
    pub(super) async fn until_said(&self, messages: u64, deadline: Instant) -> Outcome {
        let wanted = self.progress.snapshot().acknowledged + messages * self.devices;
        self.until("telemetry after the moves", deadline, || self.progress.snapshot().acknowledged >= wanted).await
    }

    /// Switches all devices off: each waits for what is in flight.
    pub(super) async fn stop(self) -> Outcome<EngineReport> {
        self.stopper.stop();
        self.run.await.context("the fleet broke off")
    }
}
