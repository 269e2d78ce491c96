//! What a process uses, from /proc.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Instant;

use super::procfs::{self, TICK_NS};
use crate::ProcessUsage;

/// Why a process cannot be sampled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// It is not there, or not any more.
    #[error("process {pid} has ended or never was")]
    Ended {
        /// Its id.
        pid: u32,
    },
    /// Another process has its id now.
    #[error("process {pid} has ended, and its id belongs to another one now")]
    Replaced {
        /// The id.
        pid: u32,
    },
    /// There is no /proc, or it is not Linux's.
    #[error("{path} says nothing that can be read: processes are sampled on Linux only")]
    NoProc {
        /// What was looked for.
        path: PathBuf,
        /// What opening it said, if it could not be opened.
        source: Option<std::io::Error>,
    },
}

/// A process at one moment. Counts have grown since the sampler first saw the process, or since the process began: only
/// differences mean anything.
#[derive(Debug, Clone)]
pub struct Sample {
    at: Instant,
    /// Of all threads ever, in whole ticks.
    ticks_ns: u64,
    /// Of the threads that were seen, exact.
    sched_ns: Option<u64>,
    context_switches: u64,
    rss_bytes: u64,
    rss_high_bytes: u64,
    /// The highest that this sampler has seen.
    rss_seen_bytes: u64,
    cores: BTreeSet<u32>,
}

impl Sample {
    /// Resident memory, in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.rss_bytes
    }

    /// The cores that the process may run on, by number.
    #[must_use]
    pub fn cores(&self) -> &BTreeSet<u32> {
        &self.cores
    }

    /// Processor time since `before`, in microseconds.
    ///
    /// The scheduler's own count is exact but lacks threads that came and went between two samples; the process's count has
    /// them but comes in ticks of 10 ms, one for user and one for system time. So the exact one holds as long as the two agree
    /// within what rounding can do.
    #[must_use]
    pub fn cpu_us_since(&self, before: &Self) -> u64 {
        let ticks = self.ticks_ns.saturating_sub(before.ticks_ns);
        let exact = self.sched_ns.zip(before.sched_ns).map(|(after, before)| after.saturating_sub(before));
        let cpu_ns = exact.filter(|exact| exact.abs_diff(ticks) <= 3 * TICK_NS).unwrap_or(ticks);
        cpu_ns / 1000
    }
}

/// Samples one process. A sample reads three small files of it and two a thread: some tens of microseconds a thread.
#[derive(Debug)]
pub struct ProcessSampler {
    pid: u32,
    folder: PathBuf,
    began_ticks: u64,
    /// Of each thread that is there, its time on a core and its context switches when last seen; bounded by the threads.
    threads: HashMap<u32, Thread>,
    /// Of threads that were seen and have ended since.
    ended: Thread,
    rss_seen_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Thread {
    sched_ns: Option<u64>,
    context_switches: u64,
}

impl ProcessSampler {
    /// A sampler of the process with this id.
    ///
    /// # Errors
    /// [`UsageError`], if there is no such process or no /proc.
    pub fn of(pid: u32) -> Result<Self, UsageError> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let mut sampler = Self {
            pid,
            folder,
            began_ticks: 0,
            threads: HashMap::new(),
            ended: Thread { sched_ns: Some(0), context_switches: 0 },
            rss_seen_bytes: 0,
        };
        sampler.began_ticks = sampler.stat()?.began_ticks;
        Ok(sampler)
    }

    /// A sampler of this process.
    ///
    /// # Errors
    /// [`UsageError::NoProc`].
    pub fn of_this_process() -> Result<Self, UsageError> {
        Self::of(std::process::id())
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Looks at the process now.
    ///
    /// # Errors
    /// [`UsageError::Ended`] and [`UsageError::Replaced`] from the process's exit on, for good.
    pub fn sample(&mut self) -> Result<Sample, UsageError> {
        let stat = self.stat()?;
        let status = procfs::status(&self.read("status")?);
        self.look_at_threads()?;
        self.rss_seen_bytes = self.rss_seen_bytes.max(status.rss_bytes);
        let all = || self.threads.values().chain([&self.ended]);
        Ok(Sample {
            at: Instant::now(),
            ticks_ns: stat.cpu_ns,
            sched_ns: all().map(|thread| thread.sched_ns).sum(),
            context_switches: all().map(|thread| thread.context_switches).sum(),
            rss_bytes: status.rss_bytes,
            rss_high_bytes: status.rss_high_bytes,
            rss_seen_bytes: self.rss_seen_bytes,
            cores: status.cores,
        })
    }

    fn look_at_threads(&mut self) -> Result<(), UsageError> {
        let list = std::fs::read_dir(self.folder.join("task")).map_err(|_| UsageError::Ended { pid: self.pid })?;
        let mut now = HashMap::with_capacity(self.threads.len());
        for entry in list.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A thread may end between the listing and the reading: it counts as it was last seen.
            let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
            let sched = std::fs::read_to_string(entry.path().join("schedstat")).ok();
            let thread = Thread {
                sched_ns: sched.as_deref().and_then(procfs::schedstat),
                context_switches: procfs::status(&status).context_switches,
            };
            now.insert(id, thread);
        }
        for (id, before) in self.threads.drain() {
            // A count that fell is another thread with the same id.
            let goes_on = now.get(&id).is_some_and(|after| after.context_switches >= before.context_switches);
            if !goes_on {
                self.ended.sched_ns = self.ended.sched_ns.zip(before.sched_ns).map(|(sum, one)| sum + one);
                self.ended.context_switches += before.context_switches;
            }
        }
        self.threads = now;
        Ok(())
    }

    fn stat(&self) -> Result<procfs::Stat, UsageError> {
        let stat = procfs::stat(&self.read("stat")?)
            .ok_or_else(|| UsageError::NoProc { path: self.folder.join("stat"), source: None })?;
        if self.began_ticks != 0 && stat.began_ticks != self.began_ticks {
            return Err(UsageError::Replaced { pid: self.pid });
        }
        if stat.is_zombie {
            return Err(UsageError::Ended { pid: self.pid });
        }
        Ok(stat)
    }

    fn read(&self, name: &str) -> Result<String, UsageError> {
        let path = self.folder.join(name);
        std::fs::read_to_string(&path).map_err(|source| {
            let there_is_a_proc = std::path::Path::new("/proc/self/stat").exists();
            if there_is_a_proc {
                UsageError::Ended { pid: self.pid }
            } else {
                UsageError::NoProc { path, source: Some(source) }
            }
        })
    }
}

impl ProcessUsage {
    /// What a process used between two samples of one sampler, in which `operations` were done. `connections` are the sessions
    /// that were opened between the samples and are still open at the second; none where sessions do not stay open.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "microseconds and bytes of a run are far below 2^53")]
    pub fn between(before: &Sample, after: &Sample, operations: u64, connections: Option<u64>) -> Self {
        let cpu_us = after.cpu_us_since(before);
        let wall_us = after.at.saturating_duration_since(before.at).as_micros() as f64;
        let per = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        // The kernel's own mark counts for this run only if it rose in it.
        let risen = Some(after.rss_high_bytes).filter(|high| *high > before.rss_high_bytes).unwrap_or(0);
        let growth = after.rss_bytes as f64 - before.rss_bytes as f64;
        Self {
            cpu_us,
            cores: per(cpu_us as f64, wall_us),
            cpu_us_per_operation: per(cpu_us as f64, operations as f64),
            rss_before_bytes: before.rss_bytes,
            rss_after_bytes: after.rss_bytes,
            rss_peak_bytes: after.rss_seen_bytes.max(risen),
            bytes_per_connection: connections.filter(|open| *open > 0).map(|open| growth / open as f64),
            context_switches: after.context_switches.saturating_sub(before.context_switches),
            cores_allowed: Some(after.cores.len()).filter(|cores| *cores > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    fn sample(at: Instant, ticks_ms: u64, sched_ms: Option<u64>, rss: u64, high: u64) -> Sample {
        Sample {
            at,
            ticks_ns: ticks_ms * 1_000_000,
            sched_ns: sched_ms.map(|ms| ms * 1_000_000),
            context_switches: ticks_ms,
            rss_bytes: rss,
            rss_high_bytes: high,
            rss_seen_bytes: rss,
            cores: BTreeSet::from([1]),
        }
    }

    #[test]
    fn usage_is_the_difference_of_two_samples() {
        let begin = Instant::now();
        let before = sample(begin, 1000, Some(995), 10_000, 90_000);
        let after = sample(begin + Duration::from_secs(2), 2500, Some(2504), 50_000, 90_000);
        let usage = ProcessUsage::between(&before, &after, 1000, Some(200));
        assert_eq!(usage.cpu_us, 1_509_000);
        assert!((usage.cores - 0.7545).abs() < 1e-9);
        assert!((usage.cpu_us_per_operation - 1509.0).abs() < 1e-9);
        assert_eq!(usage.bytes_per_connection, Some(200.0));
        assert_eq!((usage.rss_before_bytes, usage.rss_after_bytes, usage.rss_peak_bytes), (10_000, 50_000, 50_000));
        assert_eq!((usage.context_switches, usage.cores_allowed), (1500, Some(1)));
    }

    #[test]
    fn what_has_no_denominator_has_no_quotient() {
        let begin = Instant::now();
        let before = sample(begin, 0, Some(0), 10_000, 10_000);
        let usage = ProcessUsage::between(&before, &before, 0, Some(0));
        assert_eq!((usage.cores, usage.cpu_us_per_operation, usage.bytes_per_connection), (0.0, 0.0, None));
        let grown = sample(begin, 0, Some(0), 9_000, 70_000);
        let usage = ProcessUsage::between(&before, &grown, 1, Some(10));
        assert_eq!((usage.rss_peak_bytes, usage.bytes_per_connection), (70_000, Some(-100.0)));
    }

    #[test]
    fn threads_that_came_and_went_are_counted_in_ticks() {
        let begin = Instant::now();
        for (sched, expected_ms) in [(Some(1010), 1010), (Some(400), 1000), (None, 1000)] {
            let before = sample(begin, 0, Some(0), 0, 0);
            assert_eq!(sample(begin, 1000, sched, 0, 0).cpu_us_since(&before), expected_ms * 1000);
        }
    }

    #[test]
    fn this_process_has_memory_and_cores() {
        let mut sampler = ProcessSampler::of_this_process().unwrap();
        let sample = sampler.sample().unwrap();
        assert!(sample.rss_bytes() > 0 && !sample.cores().is_empty());
        assert!(sampler.sample().unwrap().rss_seen_bytes >= sample.rss_bytes());
    }

    #[test]
    fn a_process_that_ends_is_an_error_before_and_after_it_is_waited_for() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut sampler = ProcessSampler::of(child.id()).unwrap();
        sampler.sample().unwrap();
        child.kill().unwrap();
        // Its output closes with it.
        std::io::copy(child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        child.wait().unwrap();
        let error = sampler.sample().unwrap_err();
        assert!(matches!(error, UsageError::Ended { .. } | UsageError::Replaced { .. }), "{error}");
        assert!(error.to_string().contains(&child.id().to_string()));
    }

    #[test]
    fn there_is_no_process_with_the_greatest_id() {
        assert!(matches!(ProcessSampler::of(u32::MAX), Err(UsageError::Ended { pid: u32::MAX })));
    }
}
