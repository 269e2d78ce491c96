//! The workloads that are one operation again and again: first boots and connections.

use std::sync::Arc;

use unicity_device_sim::SimError;

use super::{Pool, Site};
use crate::Stage;
use crate::client::codec::Template;
use crate::client::{Event, Failed, Session, Steps, Trace};
use crate::drive::Operation;

/// First boot: TCP to `assigned`.
pub struct Register {
    /// Where.
    pub site: Arc<Site>,
    /// Who.
    pub pool: Arc<Pool>,
}

impl Operation for Register {
    async fn run(&self, index: u64, trace: &mut Trace) -> Result<(), Failed> {
        self.site.register(&self.pool.get(index), trace).await.map(|_| ())
    }
}

/// First boot to the first acknowledged telemetry message.
pub struct ZeroTouch {
    /// Where.
    pub site: Arc<Site>,
    /// Who.
    pub pool: Arc<Pool>,
    /// What the message says.
    pub payload: Vec<u8>,
}

impl Operation for ZeroTouch {
    async fn run(&self, index: u64, trace: &mut Trace) -> Result<(), Failed> {
        let identity = self.pool.get(index);
        let assigned = self.site.register(&identity, trace).await?;
        let mut session = self.site.at_hub(&identity, &assigned, Steps::HUB, trace).await?;
        let topic = unicity_device_sim::topic::events(&assigned.device_id);
        first_message(&mut session, &topic, &self.payload, self.site.patience.step, trace).await?;
        session.disconnect().await;
        Ok(())
    }
}

/// One message at QoS 1, to its PUBACK.
async fn first_message(
    session: &mut Session,
    topic: &str,
    payload: &[u8],
    patience: std::time::Duration,
    trace: &mut Trace,
) -> Result<(), Failed> {
    Template::acknowledged(topic, payload).append(&mut session.write, 1);
    let acknowledged = async {
        loop {
            match session.next().await? {
                Event::Acknowledged(1) => return Ok(()),
                Event::Acknowledged(id) => {
                    return Err(SimError::Protocol(format!("PUBACK of {id}, which was not sent")));
                }
                _ => {}
            }
        }
    };
    trace.step(Stage::FirstPuback, patience, "PUBACK", acknowledged).await
}

/// In which role a device connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Role {
    /// To its hub, or to the plain broker.
    #[default]
    Hub,
    /// To the provisioning service.
    Provisioning,
}

/// Connect, CONNACK, disconnect.
pub struct Connect {
    /// Where.
    pub site: Arc<Site>,
    /// Who; for the hub's role each must have been assigned before.
    pub pool: Arc<Pool>,
    /// As what.
    pub role: Role,
}

impl Operation for Connect {
    async fn run(&self, index: u64, trace: &mut Trace) -> Result<(), Failed> {
        let identity = self.pool.get(index % self.pool.len().max(1) as u64);
        let session = match self.role {
            Role::Provisioning => self.site.first(&identity, trace).await?,
            Role::Hub => self.site.telemetry_session(&identity, trace).await?,
        };
        session.disconnect().await;
        Ok(())
    }
}

/// Registers the devices of a pool that have no hub yet; not measured.
pub(super) struct Settle {
    /// Where.
    pub(super) site: Arc<Site>,
    /// Who.
    pub(super) pool: Arc<Pool>,
}

impl Operation for Settle {
    async fn run(&self, index: u64, _trace: &mut Trace) -> Result<(), Failed> {
        self.site.assigned(&self.pool.get(index)).await.map(|_| ())
    }
}
