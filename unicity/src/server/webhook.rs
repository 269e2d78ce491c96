//! Operators' functions that choose hubs, as the configuration has them.

use std::sync::Arc;

use unicity_api::shown_enrollment;
use unicity_identity::Environment;
use unicity_outbound::client::{Client, ClientSettings, SystemResolver};
use unicity_outbound::webhook::Webhook;

use crate::config::Config;
use crate::error::Outcome;

/// Whoever asks them; `None`: no function may be asked. It has a client of its own.
pub(super) fn webhook(config: &Config, environment: Environment) -> Outcome<Option<Webhook>> {
    let Some(webhook) = &config.webhook else { return Ok(None) };
    let client = Client::new(ClientSettings::default(), Arc::new(SystemResolver));
    Ok(Some(Webhook::new(webhook.settings()?, client, Arc::new(shown_enrollment), environment)))
}
