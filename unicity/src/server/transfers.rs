//! Transfers to hubs elsewhere: what is known of the hubs, who tells of transfers, and who runs them.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use unicity_identity::Environment;
use unicity_outbound::client::{Client, ClientSettings, Reach, SystemResolver};
use unicity_outbound::hub::HttpsHubs;
use unicity_outbound::runner::{
    Ask, LiveHubs, RunnerMetrics, RunnerParts, RunnerSettings, TransferInbox, TransferQueue, TransferRunner,
};
use unicity_outbound::webhook::Webhook;
use unicity_provisioning::Provisioning;
use unicity_provisioning::allocation::Surroundings;

/// Transfers that may wait to be taken up.
const QUEUE: usize = 4_096;

/// The parts that the provisioning service is given before there is a runner.
pub(super) struct Transfers {
    pub(super) live: Arc<LiveHubs>,
    queue: TransferQueue,
    inbox: TransferInbox,
}

impl Transfers {
    pub(super) fn new() -> Self {
        let (queue, inbox) = TransferQueue::new(QUEUE);
        Self { live: Arc::default(), queue, inbox }
    }

    /// The service with its eyes for hubs, telling of transfers.
    pub(super) fn watched_by(&self, provisioning: Provisioning) -> Provisioning {
        provisioning.with_surroundings(self.live.clone() as Arc<dyn Surroundings>).with_transfers(self.queue.hook())
    }

    /// Runs them until `stop`. A hub is where its operator linked it, be that a private network.
    pub(super) fn run(
        self,
        provisioning: Provisioning,
        webhook: Option<Webhook>,
        environment: Environment,
        stop: CancellationToken,
    ) -> (JoinHandle<()>, Arc<RunnerMetrics>) {
        let client = Client::new(ClientSettings::default(), Arc::new(SystemResolver));
        let hubs = HttpsHubs::new(client, provisioning.vault().clone(), environment.clone(), Reach::Private);
        let runner = TransferRunner::new(RunnerParts {
            provisioning,
            inbox: self.inbox,
            hubs: Arc::new(hubs),
            live: self.live,
            ask: webhook.map(|webhook| Arc::new(webhook) as Arc<dyn Ask>),
            environment,
            settings: RunnerSettings::default(),
        });
        let metrics = runner.metrics();
        (tokio::spawn(runner.run(stop)), metrics)
    }
}
