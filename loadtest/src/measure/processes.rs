//! Both processes of a run, and the clocks, looked at once a second.

use std::time::{Duration, Instant, SystemTime};

use super::clock::ClockWatch;
use super::usage::{ProcessSampler, Sample, UsageError};
use crate::SecondOfRun;

/// How often it is looked.
const TICK: Duration = Duration::from_secs(1);

/// Looks at the server, at this process and at the clocks. One may look at several runs, one after the other.
#[derive(Debug)]
pub struct Processes {
    server: Option<Seen>,
    /// None where there is no /proc.
    generator: Option<Seen>,
    clock: ClockWatch,
    looked: Instant,
    tick_late: Duration,
    /// When the run began and what the machine had been busy then, and the same at the last look.
    machine: Option<[(Instant, u64); 2]>,
}

/// What was seen of one run.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The server at the beginning and when it was last seen.
    pub server: Option<(Sample, Sample)>,
    /// Why the server could not be seen to the end.
    pub server_lost: Option<String>,
    /// This process at the beginning and the end.
    pub generator: Option<(Sample, Sample)>,
    /// By how much the wall clock jumped.
    pub clock_jumped: Option<Duration>,
    /// The latest that a look came: this process did not get to it for so long.
    pub tick_late: Duration,
    /// Cores that were busy with neither of the two; none if there is no server to be seen, which might be what is busy.
    pub other_cores: Option<f64>,
}

impl Processes {
    /// This process and, if its id is known, the server.
    ///
    /// # Errors
    /// [`UsageError`] if the server cannot be sampled. Where this process cannot be, a run goes on without its usage.
    pub fn of(server_pid: Option<u32>) -> Result<Self, UsageError> {
        let server = server_pid.map(ProcessSampler::of).transpose()?;
        let now = Instant::now();
        Ok(Self {
            server: server.map(Seen::of),
            generator: ProcessSampler::of_this_process().ok().map(Seen::of),
            clock: ClockWatch::begin(now, wall()),
            looked: now,
            tick_late: Duration::ZERO,
            machine: None,
        })
    }

    /// The measured part of a run begins.
    pub fn begin(&mut self) {
        [&mut self.server, &mut self.generator].into_iter().flatten().for_each(Seen::begin);
        self.looked = Instant::now();
        self.clock = ClockWatch::begin(self.looked, wall());
        self.tick_late = Duration::ZERO;
        self.machine = machine().map(|now| [now, now]);
    }

    /// A second of it is over, or its end is there: writes down what the server used in it.
    pub fn second(&mut self, second: &mut SecondOfRun) {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.looked);
        self.tick_late = self.tick_late.max(passed.saturating_sub(TICK));
        self.looked = now;
        self.clock.look(now, wall());
        if let Some((machine, now)) = self.machine.as_mut().zip(machine()) {
            machine[1] = now;
        }
        // Its threads come and go too: what they used is kept from look to look.
        let _ = self.generator.as_mut().and_then(Seen::look);
        if let Some((cpu_ms, rss_bytes)) = self.server.as_mut().and_then(Seen::look) {
            (second.server_cpu_ms, second.server_rss_bytes) = (Some(cpu_ms), Some(rss_bytes));
        }
    }

    /// What was seen of the run; to be called when its last second has been looked at.
    #[must_use]
    pub fn observed(&self) -> Observed {
        let other_cores = self.other_cores();
        let samples = |seen: &Option<Seen>| seen.as_ref().and_then(|seen| seen.first.clone().zip(seen.last.clone()));
        Observed {
            server: samples(&self.server),
            server_lost: self.server.as_ref().and_then(|server| server.lost.clone()),
            generator: samples(&self.generator),
            clock_jumped: self.clock.jumped(),
            tick_late: self.tick_late,
            other_cores,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "times of a run are far below 2^53 nanoseconds")]
    fn other_cores(&self) -> Option<f64> {
        let [(began, before), (ended, after)] = self.machine?;
        let wall = ended.saturating_duration_since(began).as_nanos() as f64;
        let of = |seen: &Option<Seen>| {
            let seen = seen.as_ref()?;
            Some(seen.last.as_ref()?.cpu_us_since(seen.first.as_ref()?) * 1000)
        };
        let own = of(&self.server)? + of(&self.generator)?;
        (wall > 0.0).then(|| (after.saturating_sub(before) as f64 - own as f64).max(0.0) / wall)
    }
}

fn machine() -> Option<(Instant, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    Some((Instant::now(), super::procfs::machine_busy_ns(&text)?))
}

/// A process when it was first and last seen in a run.
#[derive(Debug)]
struct Seen {
    sampler: ProcessSampler,
    first: Option<Sample>,
    last: Option<Sample>,
    lost: Option<String>,
}

impl Seen {
    fn of(sampler: ProcessSampler) -> Self {
        Self { sampler, first: None, last: None, lost: None }
    }

    fn begin(&mut self) {
        (self.first, self.last) = (None, None);
        self.look();
        self.first.clone_from(&self.last);
    }

    /// Processor time since the last look in milliseconds, and memory in bytes.
    fn look(&mut self) -> Option<(f64, u64)> {
        if self.lost.is_some() {
            return None;
        }
        let now = match self.sampler.sample() {
            Ok(now) => now,
            Err(error) => {
                self.lost = Some(error.to_string());
                return None;
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a run are far below 2^53")]
        let cpu_ms = self.last.as_ref().map_or(0.0, |last| now.cpu_us_since(last) as f64 / 1000.0);
        let rss_bytes = now.rss_bytes();
        self.last = Some(now);
        Some((cpu_ms, rss_bytes))
    }
}

#[expect(clippy::disallowed_methods, reason = "whether the wall clock jumps can only be seen by looking at it")]
fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn second() -> SecondOfRun {
        SecondOfRun {
            at: 1.0,
            completed: 0,
            failed: 0,
            messages: 0,
            connected: 0,
            server_cpu_ms: None,
            server_rss_bytes: None,
        }
    }

    #[test]
    fn a_second_gets_what_the_server_used_in_it() {
        let mut processes = Processes::of(Some(std::process::id())).unwrap();
        processes.begin();
        let mut seen = second();
        processes.second(&mut seen);
        assert!(seen.server_cpu_ms.is_some() && seen.server_rss_bytes.is_some_and(|bytes| bytes > 0));
        let observed = processes.observed();
        assert!(observed.server.is_some() && observed.generator.is_some() && observed.server_lost.is_none());
        assert!(observed.other_cores.is_some());

        let mut alone = Processes::of(None).unwrap();
        alone.begin();
        let mut seen = second();
        alone.second(&mut seen);
        assert_eq!(seen, second());
        assert!(alone.observed().server.is_none() && alone.observed().generator.is_some());
        assert_eq!(alone.observed().other_cores, None);
    }

    #[test]
    fn a_server_that_ends_does_not_end_the_watch() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut processes = Processes::of(Some(child.id())).unwrap();
        processes.begin();
        child.kill().unwrap();
        child.wait().unwrap();
        let mut seen = second();
        processes.second(&mut seen);
        assert_eq!(seen, second());
        let observed = processes.observed();
        assert!(observed.server_lost.unwrap().contains(&child.id().to_string()));
        assert!(observed.server.is_some());
    }
}
