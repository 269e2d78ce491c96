//! The workloads that are one operation again and again: first boots and connections.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
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

/// Connect, CONNACK, disconnect. A device never connects twice at once: the second session would take the first one over.
pub struct Connect {
    site: Arc<Site>,
    pool: Arc<Pool>,
    role: Role,
    /// Devices that are not at work, the longest idle first; each has a permit.
    idle: Mutex<VecDeque<u64>>,
    free: Semaphore,
}

impl Connect {
    /// For the hub's role each device of the pool should have been assigned before.
    #[must_use]
    pub fn new(site: Arc<Site>, pool: Arc<Pool>, role: Role) -> Self {
        let idle = Mutex::new((0..pool.len() as u64).collect());
        let free = Semaphore::new(pool.len());
        Self { site, pool, role, idle, free }
    }

    async fn connect(&self, number: u64, trace: &mut Trace) -> Result<(), Failed> {
        let identity = self.pool.get(number);
        let session = match self.role {
            Role::Provisioning => self.site.first(&identity, trace).await?,
            Role::Hub => self.site.telemetry_session(&identity, trace).await?,
        };
        session.disconnect().await;
        Ok(())
    }
}

impl Operation for Connect {
    async fn run(&self, _index: u64, trace: &mut Trace) -> Result<(), Failed> {
        let permit = self.free.acquire().await;
        let stopped = || Failed { stage: Stage::Total, error: SimError::Protocol("no device is left".to_owned()) };
        let number = self.idle.lock().pop_front().ok_or_else(stopped)?;
        let result = self.connect(number, trace).await;
        self.idle.lock().push_back(number);
        drop(permit);
        result
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
