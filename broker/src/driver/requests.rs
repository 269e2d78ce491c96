//! Requests of a registering device: handed to the provisioning service, answered, counted.

use tracing::{debug, info};
use unicity_provisioning::Answer;
use unicity_provisioning::service::{Origin, Registered};

use super::admission::claim_of;
use super::connection::{Connection, JobDone};
use crate::metrics::RequestOutcome;
use crate::session::{Event, Moment, Request};

impl Connection {
    pub(super) fn request(&mut self, now: Moment, request: Request) {
        let Some(claim) = self.claim.clone() else { return };
        let chain = self.chain.clone();
        let (peer, wall) = (self.peer, now.wall);
        let origin = Origin { peer: Some(peer), now: wall };
        let provisioning = self.shared.parts.provisioning.clone();
        let entropy = self.shared.parts.environment.entropy();
        // The service draws its tracking id first: so does this copy.
        let tracking_id = entropy.clone().tracking_id();
        match request {
            Request::Register { body } => {
                self.job = Some(Box::pin(async move {
                    let registered =
                        provisioning.register(claim_of(&claim, chain.as_deref()), &body, origin, entropy).await;
                    let tracking_id = tracking_id.to_string();
                    JobDone::Answered { request: "registration", registered: Box::new(registered), tracking_id }
                }));
            }
            Request::Status { operation_id } => {
                let registered =
                    provisioning.operation_status(claim_of(&claim, chain.as_deref()), &operation_id, origin, entropy);
                self.answered(now, "poll", registered, tracking_id.as_str());
            }
            Request::Refuse(refusal) => {
                let refusals = provisioning.refusals();
                refusals.record(tracking_id.clone(), &refusal, &claim.registration_id, Some(peer), wall);
                let answer = Answer::error(&refusal, &tracking_id, wall);
                self.answered(now, "request", Registered { answer, refusal: Some(refusal) }, tracking_id.as_str());
            }
        }
    }

    pub(super) fn answered(&mut self, now: Moment, request: &'static str, registered: Registered, tracking_id: &str) {
        let Registered { answer, refusal } = registered;
        let outcome = RequestOutcome::of(refusal.as_ref());
        match request {
            "poll" => self.shared.metrics.polled(outcome),
            _ => self.shared.metrics.registered(outcome),
        }
        match &refusal {
            None => debug!(status = answer.status, "{request} answered"),
            Some(refusal) => {
                let code = refusal.code();
                info!(status = answer.status, code = %code, tracking_id, cause = %refusal, "{request} refused");
                if code.http_status() == 401 {
                    self.shared.parts.provisioning.failures().failed(self.peer.ip(), now.at);
                }
            }
        }
        self.session.handle_event(now, Event::Answered(answer));
    }
}
