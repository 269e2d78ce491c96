//! The keep-alive clock: one and a half times what the client promised (MQTT-3.1.2-24), standing still while the server itself
//! reads nothing.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct KeepAlive {
    patience: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Running { deadline: Instant },
    Standing { left: Duration },
}

impl KeepAlive {
    /// A client that promises nothing (0), or less than the server asks for, is held to the server's maximum.
    pub(super) fn new(now: Instant, seconds: u16, max: Duration) -> Self {
        let promised = match seconds {
            0 => max,
            seconds => Duration::from_secs(seconds.into()).min(max),
        };
        let patience = promised + promised / 2;
        Self { patience, state: State::Running { deadline: now + patience } }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.state = match self.state {
            State::Running { .. } => State::Running { deadline: now + self.patience },
            State::Standing { .. } => State::Standing { left: self.patience },
        };
    }

    pub(super) fn set_running(&mut self, now: Instant, running: bool) {
        self.state = match (&self.state, running) {
            (State::Running { deadline }, false) => State::Standing { left: deadline.saturating_duration_since(now) },
            (State::Standing { left }, true) => State::Running { deadline: now + *left },
            _ => return,
        };
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Running { deadline } => Some(deadline),
            State::Standing { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(1740);

    #[test]
    fn a_client_has_one_and_a_half_times_what_it_promised_and_at_most_the_servers_maximum() {
        let now = Instant::now();
        for (promised, patience) in [(0, 2610), (1, 1), (60, 90), (1740, 2610), (65_535, 2610)] {
            let deadline = KeepAlive::new(now, promised, MAX).deadline().unwrap();
            assert_eq!((deadline - now).as_secs(), patience, "{promised}");
        }
    }

    #[test]
    fn the_clock_stands_still_while_the_server_does_not_read() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = KeepAlive::new(now, 60, MAX);
        clock.set_running(now + 30 * second, false);
        assert_eq!(clock.deadline(), None);
        clock.set_running(now + 1000 * second, true);
        assert_eq!(clock.deadline(), Some(now + 1060 * second));
        clock.set_running(now + 1001 * second, false);
        clock.heard(now + 1002 * second);
        clock.set_running(now + 2000 * second, true);
        assert_eq!(clock.deadline(), Some(now + 2090 * second));
    }
}
