//! What makes two sides hard to compare.

use std::collections::{BTreeMap, BTreeSet};

use crate::Report;

/// Settings that say where a run's output goes or which process it was: they change no figure.
const OF_NO_MATTER: [&str; 5] = ["html", "json", "report-json", "server-pid", "thresholds"];

pub(super) fn warnings(a: &[Report], b: &[Report]) -> Vec<String> {
    let mut warnings = Vec::new();
    let names: BTreeSet<&str> =
        a.iter().chain(b).flat_map(|report| report.settings.keys()).map(String::as_str).collect();
    for name in names.into_iter().filter(|name| !OF_NO_MATTER.contains(name)) {
        let setting = |report: &Report| report.settings.get(name).cloned().unwrap_or_else(|| "not set".to_owned());
        warnings.extend(differs(&format!("setting {name}"), a, b, setting));
    }
    warnings.extend(differs("the offered rate", a, b, |report| {
        report.offered_per_second.map_or_else(|| "none".to_owned(), |rate| rate.to_string())
    }));
    warnings.extend(differs("the processor", a, b, |report| report.environment.processor.clone()));
    warnings.extend(differs("the generator's number of cores", a, b, |report| report.environment.cores.to_string()));
    warnings.extend(differs("the server's number of cores", a, b, |report| {
        let cores = report.server.and_then(|server| server.cores_allowed);
        cores.map_or_else(|| "unknown".to_owned(), |cores| cores.to_string())
    }));
    warnings.extend(differs("the kernel", a, b, |report| report.environment.kernel.clone()));
    warnings.extend(differs("loadtest's version", a, b, |report| report.environment.version.clone()));
    warnings.extend(own_warnings('A', a));
    warnings.extend(own_warnings('B', b));
    warnings
}

/// A warning unless all reports of both sides have one and the same value.
fn differs(what: &str, a: &[Report], b: &[Report], value: impl Fn(&Report) -> String) -> Option<String> {
    let values = |side: &[Report]| side.iter().map(&value).collect::<BTreeSet<_>>();
    let (a, b) = (values(a), values(b));
    let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
    (a != b || a.len() > 1).then(|| format!("{what} differs: A {}, B {}", list(&a), list(&b)))
}

/// Each warning once, with how many reports of the side have it.
fn own_warnings(name: char, side: &[Report]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    side.iter().flat_map(|report| &report.warnings).for_each(|warning| *counts.entry(warning).or_default() += 1);
    let of_all = |count: usize| if side.len() == 1 { String::new() } else { format!(" ({count} of {})", side.len()) };
    counts.into_iter().map(|(warning, count)| format!("{name}{} warned: {warning}", of_all(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn what_differs_is_said() {
        let mut a = sample::report();
        a.warnings.clear();
        assert_eq!(warnings(&[a.clone()], &[a.clone(), a.clone()]), [""; 0]);
        let mut b = a.clone();
        b.settings.insert("devices".to_owned(), "10".to_owned());
        b.settings.insert("resume".to_owned(), "true".to_owned());
        b.settings.insert("json".to_owned(), "other.json".to_owned());
        b.environment.kernel = "7.0".to_owned();
        b.warnings = vec!["the clock jumped".to_owned()];
        assert_eq!(
            warnings(&[a], &[b.clone(), b]),
            [
                "setting devices differs: A 20000, B 10",
                "setting resume differs: A not set, B true",
                "the kernel differs: A 6.1.0, B 7.0",
                "B (2 of 2) warned: the clock jumped",
            ]
        );
    }

    #[test]
    fn reports_of_one_side_must_agree_too() {
        let (one, mut other) = (sample::report(), sample::report());
        other.environment.processor = "Another".to_owned();
        let found = warnings(&[one.clone(), other.clone()], &[one, other]);
        assert!(
            found.contains(&"the processor differs: A A Processor and Another, B A Processor and Another".to_owned()),
            "{found:?}"
        );
    }
}
