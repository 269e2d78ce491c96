//! One device's life within a fleet: registration, hub, telemetry; with patience for what may heal.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use unicity_identity::{Environment, RegistrationId};

use crate::client::MqttClient;
use crate::fleet::FleetSettings;
use crate::progress::{OpenSession, Progress};
use crate::stages::{Stage, StageHistograms};
use crate::{Assignment, Device, Dialer, Endpoint, HubSession, SimError, provision_with};

/// How one device fared.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceOutcome {
    /// The id it registered under.
    pub registration_id: RegistrationId,
    /// Where it was sent, if it was.
    pub assignment: Option<Assignment>,
    /// Messages that its hub acknowledged.
    pub acknowledged: u64,
    /// Why it did not do all it was to do.
    pub error: Option<String>,
}

/// A session that stays open when its device has done its work.
pub(crate) struct Held<C> {
    pub(crate) session: HubSession<C>,
    pub(crate) open: OpenSession,
}

/// What all devices of a fleet share.
pub(crate) struct Surroundings {
    pub(crate) dialer: Dialer,
    pub(crate) endpoint: Endpoint,
    pub(crate) settings: FleetSettings,
    pub(crate) env: Environment,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Surroundings {
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Returns when the fleet is told to stop, or its stoppers are gone.
    pub(crate) async fn stopped(&self) {
        // An error means that nobody is left who could stop it: then it never is.
        if self.stop.clone().wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tries until it works, until what fails will not heal, until attempts are used up, or until the fleet stops.
    async fn persist<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, SimError>
    where
        F: Future<Output = Result<T, SimError>>,
    {
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            failures += 1;
            if !error.may_heal() || failures >= self.settings.attempts_max || self.is_stopped() {
                return Err(error);
            }
            self.progress.add(|progress| &progress.retries);
            tokio::select! {
                () = tokio::time::sleep(back_off(failures, self.env.entropy().draw()[0])) => {}
                () = self.stopped() => return Err(error),
            }
        }
    }

    /// Takes a device through its life. The session comes back if it shall be held.
    pub(crate) async fn live<C: MqttClient>(
        &self,
        device: &Device,
        times: &mut StageHistograms,
    ) -> (DeviceOutcome, Option<Held<C>>) {
        let mut outcome = DeviceOutcome {
            registration_id: device.registration_id.clone(),
            assignment: None,
            acknowledged: 0,
            error: None,
        };
        self.progress.add(|progress| &progress.started);
        let held = match self.steps::<C>(device, times, &mut outcome).await {
            Ok(held) => {
                self.progress.add(|progress| &progress.finished);
                held
            }
            Err(error) => {
                outcome.error = Some(self.progress.device_failed(&error));
                None
            }
        };
        (outcome, held)
    }

    async fn steps<C: MqttClient>(
        &self,
        device: &Device,
        times: &mut StageHistograms,
        outcome: &mut DeviceOutcome,
    ) -> Result<Option<Held<C>>, SimError> {
        let registered = self.persist(|| provision_with::<C>(&self.dialer, &self.endpoint, device, &self.env)).await?;
        self.progress.add(|progress| &progress.provisioned);
        let took = registered.times;
        times.record(Stage::ProvisioningConnect, took.connect);
        if !took.subscribe.is_zero() {
            times.record(Stage::Subscribe, took.subscribe);
        }
        times.record(Stage::Register, took.register);
        times.record(Stage::Provisioned, took.total());
        let assignment = outcome.assignment.insert(registered);
        if self.is_stopped() {
            return Ok(None);
        }

        let mut session =
            self.persist(|| HubSession::<C>::connect_with(&self.dialer, assignment, &device.key, &self.env)).await?;
        self.progress.add(|progress| &progress.connected);
        times.record(Stage::HubConnect, session.connect_time());
        let open = OpenSession::new(&self.progress);

        let messages = (0..self.settings.messages).take_while(|_| !self.is_stopped()).map(|number| {
            self.progress.add(|progress| &progress.sent);
            (self.settings.message)(device, number)
        });
        let sent = session
            .send_all(messages, |took| {
                self.progress.add(|progress| &progress.acknowledged);
                times.record(Stage::Acknowledged, took);
            })
            .await;
        outcome.acknowledged = session.acknowledged();
        sent?;
        if self.settings.hold {
            return Ok(Some(Held { session, open }));
        }
        session.disconnect().await;
        Ok(None)
    }
}

/// The wait after so many failures in a row: doubling from 200 ms to 10 s, of which `random` (0 to 255) takes away up to
/// half, so that a fleet that was refused together does not come back together.
pub(crate) fn back_off(failures: u32, random: u8) -> Duration {
    let full = Duration::from_millis(200).saturating_mul(1 << failures.saturating_sub(1).min(10));
    let full = full.min(Duration::from_secs(10));
    full - full.mul_f64(f64::from(random) / 511.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_bound_and_differ_between_devices() {
        for (failures, longest_ms) in [(0, 200), (1, 200), (2, 400), (3, 800), (7, 10_000), (u32::MAX, 10_000)] {
            let longest = Duration::from_millis(longest_ms);
            assert_eq!(back_off(failures, 0), longest, "{failures}");
            let shortest = back_off(failures, 255);
            assert!(shortest >= longest / 2 && shortest < longest, "{failures} {shortest:?}");
        }
    }
}
