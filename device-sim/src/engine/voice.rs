//! What a device has to say next, and when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Member, Shared};
use crate::Message;
use crate::dice::Dice;
use crate::fleet_file::TelemetryPlan;
use crate::template::{Moment, Running, Template};

/// The shortest interval of messages that nobody acknowledges: nothing else would slow them down.
const UNACKNOWLEDGED_MIN: Duration = Duration::from_millis(1);

/// A device's messages in order.
pub(super) struct Voice {
    template: Option<(Arc<Template>, Vec<Running>)>,
    dice: Dice,
    sequence: u64,
    /// `None` once there is nothing more to say.
    due: Option<Instant>,
}

impl Voice {
    pub(super) fn new(shared: &Shared, member: &Member, plan: &TelemetryPlan, now: Instant) -> Self {
        let id = member.device.registration_id.as_str();
        let template = plan.template.as_ref().map(|template| (Arc::clone(template), template.start(shared.seed, id)));
        let mut dice = Dice::new(shared.seed, &format!("{id}/interval"));
        // Devices that boot together do not speak together for the rest of their lives.
        let first = plan.interval.mul_f64(dice.unit() * plan.jitter);
        let due = (plan.messages != Some(0)).then(|| now + first);
        Self { template, dice, sequence: 0, due }
    }

    /// When the next message is due; `None` if there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The message that is due. What was not said on time, because the device was away, is not made up for.
    pub(super) fn speak(
        &mut self,
        shared: &Shared,
        member: &Member,
        plan: &TelemetryPlan,
        now: Instant,
    ) -> Option<Message> {
        let sequence = self.sequence;
        let message = match &mut self.template {
            None => Some((shared.usual)(&member.device, sequence)),
            Some((template, running)) => {
                // By the plan, not the clock: the same seed says the same, however long the network takes.
                let steps = u32::try_from(sequence).unwrap_or(u32::MAX);
                let moment = Moment {
                    device_id: member.device.registration_id.as_str(),
                    sequence,
                    elapsed: plan.interval.saturating_mul(steps),
                    now: shared.env.now(),
                };
                template.message(running, moment)
            }
        };
        if message.is_none() {
            self.due = None;
            return None;
        }
        self.sequence += 1;
        let spread = 1.0 + plan.jitter * (self.dice.unit() * 2.0 - 1.0);
        let mut interval = plan.interval.mul_f64(spread);
        if !plan.acknowledged {
            interval = interval.max(UNACKNOWLEDGED_MIN);
        }
        let next = self.due.unwrap_or(now) + interval;
        let more = plan.messages.is_none_or(|messages| self.sequence < messages);
        self.due = more.then(|| next.max(now));
        message
    }
}
