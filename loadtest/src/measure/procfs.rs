//! The texts of Linux's /proc (proc(5)), read into numbers; no file is opened here.

use std::collections::BTreeSet;

/// Ticks a second of the times in /proc/PID/stat: `USER_HZ`, 100 on every architecture that Linux has today.
const TICKS_PER_SECOND: u64 = 100;

/// A tick in nanoseconds: how coarse [`Stat::cpu_ns`] is.
pub(super) const TICK_NS: u64 = 1_000_000_000 / TICKS_PER_SECOND;

/// Of /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// User and system time of all threads, also of those that have ended; in whole ticks.
    pub(super) cpu_ns: u64,
    /// When the process began, in ticks since boot: tells it from a later one with the same id.
    pub(super) began_ticks: u64,
    /// It has exited and only its exit code is left to be fetched.
    pub(super) is_zombie: bool,
}

/// Of /proc/PID/status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Status {
    pub(super) rss_bytes: u64,
    pub(super) rss_high_bytes: u64,
    pub(super) context_switches: u64,
    /// The cores that it may run on.
    pub(super) cores: BTreeSet<u32>,
}

/// The name in parentheses may hold anything, also spaces and parentheses: fields are counted from the last one.
pub(super) fn stat(text: &str) -> Option<Stat> {
    let (_, after) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // proc(5) counts from 1 with the id and the name before: its field N is N - 3 here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ns: (number(14)? + number(15)?) * TICK_NS,
        began_ticks: number(22)?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// A zombie has no memory lines: they count as 0.
pub(super) fn status(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let number = || value.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        match name {
            "VmRSS" => status.rss_bytes = number() * 1024,
            "VmHWM" => status.rss_high_bytes = number() * 1024,
            "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" => status.context_switches += number(),
            "Cpus_allowed_list" => status.cores = cores(value.trim()),
            _ => {}
        }
    }
    status
}

/// `0-2,5` and the like.
fn cores(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse::<u32>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Time on a core of one thread: the first number of schedstat, in nanoseconds.
pub(super) fn schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Of /proc/stat: time that the machine's cores were not idle since boot, in nanoseconds; also what the host of a virtual
/// machine took.
pub(super) fn machine_busy_ns(text: &str) -> Option<u64> {
    let ticks: Vec<u64> = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal; time of guests, which follows, is in the first two already.
    let busy = [0, 1, 2, 5, 6, 7].into_iter().map(|field| ticks.get(field)).sum::<Option<u64>>()?;
    Some(busy * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "4467 (a) b (c) S 1 4455 32182 0 -1 4194304 98 0 0 0 150 25 0 0 20 0 1 0 2519009 3133440 362 1";
        let plain = text.replace("(a) b (c)", "(cat)");
        let read = Stat { cpu_ns: 1_750_000_000, began_ticks: 2_519_009, is_zombie: false };
        assert_eq!((stat(text), stat(&plain)), (Some(read), Some(read)));
        assert_eq!(stat(&plain.replace(" S ", " Z ")), Some(Stat { is_zombie: true, ..read }));
        assert_eq!(stat("4467 (cat) S 1"), None);
        assert_eq!(stat(""), None);
    }

    #[test]
    fn status_sums_switches_and_reads_kibibytes() {
        let text = "Name:\tx: y\nVmHWM:\t    2048 kB\nVmRSS:\t    1616 kB\nCpus_allowed_list:\t0-2,5\n\
                    voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(
            status(text),
            Status {
                rss_bytes: 1616 * 1024,
                rss_high_bytes: 2048 * 1024,
                context_switches: 10,
                cores: BTreeSet::from([0, 1, 2, 5]),
            }
        );
        assert_eq!(status("Name:\tgone\n"), Status::default());
    }

    #[test]
    fn a_core_that_waits_for_a_disk_is_idle() {
        let text = "cpu  100 20 30 99999 88888 4 5 6 50 0\ncpu0 1 2 3\n";
        assert_eq!(machine_busy_ns(text), Some(1_650_000_000));
        assert_eq!(machine_busy_ns("cpu  1 2"), None);
        assert_eq!(machine_busy_ns(""), None);
    }

    #[test]
    fn schedstat_begins_with_the_time_on_a_core() {
        assert_eq!(schedstat("123456789 62568 1\n"), Some(123_456_789));
        assert_eq!(schedstat(""), None);
    }
}
