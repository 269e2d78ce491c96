//! A device and the provisioning service: it registers, remembers where it was sent, and forgets it.

use std::sync::Arc;

use super::life::{Life, micros};
use crate::client::MqttClient;
use crate::events::Event;
use crate::stages::Stage;
use crate::state::Remembered;
use crate::{Assignment, Credential, SimError, provision_with};

impl<C: MqttClient> Life<C> {
    /// `None` if the fleet stops meanwhile.
    pub(super) async fn register(&mut self) -> Option<Result<Assignment, SimError>> {
        let _permit = self.turn().await?;
        let (shared, dialer, device) = (Arc::clone(&self.shared), Arc::clone(&self.dialer), self.member.device.clone());
        // On the heap, and only now: neither who waits for a turn nor who streams carries the room for it.
        let registration =
            Box::pin(async move { provision_with::<C>(&dialer, &shared.endpoint, &device, &shared.env).await });
        tokio::select! {
            Ok(_) = self.stop.wait_for(|stopped| *stopped) => None,
            registered = registration => Some(registered),
        }
    }

    pub(super) fn registered(&mut self, assignment: Assignment) {
        let (shared, took) = (&self.shared, assignment.times);
        shared.progress.add(|progress| &progress.provisioned);
        shared.record(&self.member, Stage::ProvisioningConnect, took.connect);
        if !took.subscribe.is_zero() {
            shared.record(&self.member, Stage::Subscribe, took.subscribe);
        }
        shared.record(&self.member, Stage::Register, took.register);
        shared.record(&self.member, Stage::Provisioned, took.total());
        self.tell(|| Event::Registered {
            hub: assignment.hub_host.clone(),
            device_id: assignment.device_id.to_string(),
            took_us: micros(took.total()),
        });
        self.remember(Some(&assignment));
        self.assignment = Some(assignment);
    }

    /// Goes back to the provisioning service.
    pub(super) fn forget(&mut self, refusals: u32) {
        self.assignment = None;
        self.remember(None);
        self.shared.progress.add(|progress| &progress.reprovisioned);
        self.tell(|| Event::Reprovisioning { refusals });
    }

    fn remember(&self, assignment: Option<&Assignment>) {
        let Some(state) = &self.shared.state else { return };
        let device = &self.member.device;
        let remembered = Remembered {
            registration_id: device.registration_id.clone(),
            id_scope: device.id_scope.to_string(),
            key: match &device.key {
                Credential::Key(key) => Some(key.expose_base64().to_string()),
                Credential::Certificate(_) | Credential::Tpm(_) | Credential::Token(_) => None,
            },
            hub: assignment.map(|assignment| assignment.hub_host.clone()),
            device_id: assignment.map(|assignment| assignment.device_id.to_string()),
        };
        if let Err(error) = state.remember(&remembered) {
            // The device goes on as one whose flash is worn out: it will register again.
            self.shared.progress.note("state", &format!("the state cannot be written: {error}"));
        }
    }
}
