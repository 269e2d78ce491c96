//! Places where a test may kill the process: `UNICITY_FAIL_POINT=name` aborts at the first passage through that
//! place, `name:3` at the third. Read once, at the first passage; unset, a passage costs one atomic load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Plan {
    name: String,
    passages_left: AtomicU64,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

fn plan() -> Option<&'static Plan> {
    PLAN.get_or_init(|| std::env::var("UNICITY_FAIL_POINT").ok().map(|text| parse(&text))).as_ref()
}

fn parse(text: &str) -> Plan {
    let (name, nth) = match text.split_once(':') {
        // A number that cannot be read must not silently mean "never": the test would pass for nothing.
        Some((name, nth)) => (name, nth.parse().unwrap_or(1)),
        None => (text, 1),
    };
    Plan { name: name.to_owned(), passages_left: AtomicU64::new(u64::max(nth, 1)) }
}

/// Aborts the process, as `kill -9` would, if the environment armed `name` and this is the passage it asked for.
pub fn fail_point(name: &str) {
    if let Some(plan) = plan()
        && plan.name == name
        && plan.passages_left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Whether the environment armed `name`, for places that have to do something unusual first (half of a write).
#[must_use]
pub fn is_fail_point_armed(name: &str) -> bool {
    plan().is_some_and(|plan| plan.name == name && plan.passages_left.load(Ordering::Relaxed) == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_name_and_the_passage_that_kills() {
        for (text, name, nth) in [("log.a", "log.a", 1), ("log.a:3", "log.a", 3), ("log.a:0", "log.a", 1)] {
            let plan = parse(text);
            assert_eq!((plan.name.as_str(), plan.passages_left.into_inner()), (name, nth), "{text}");
        }
    }
}
