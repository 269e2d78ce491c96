//! The settings of a run as its report has them.

use std::collections::BTreeMap;

use clap::ArgMatches;
use clap::parser::ValueSource;

/// What is not written down.
const SECRETS: [&str; 2] = ["group-key", "password"];

/// Defaults that mean something only beside another option: not written down where none of those is given.
const MEANT_FOR: [(&str, &[&str]); 9] = [
    ("objective", &["find-max"]),
    ("step-seconds", &["find-max"]),
    ("step-warmup", &["find-max"]),
    ("steps", &["find-max"]),
    ("arrivals", &["rate", "rate-per-sender", "find-max"]),
    ("in-flight", &["rate", "rate-per-sender", "find-max"]),
    ("mosquitto-bin", &["spawn-mosquitto"]),
    ("topic", &["plain-broker", "spawn-mosquitto"]),
    ("server-core", &["pin"]),
];

/// Each option that has a value, given or by default, by its name.
pub(crate) fn of(matches: &ArgMatches) -> BTreeMap<String, String> {
    let (mut settings, mut defaults) = (BTreeMap::new(), Vec::new());
    for id in matches.ids() {
        let name = id.as_str().replace('_', "-");
        // A group of options is no option; it has the name of its type.
        if id.as_str().contains(char::is_uppercase) {
            continue;
        }
        let Ok(Some(values)) = matches.try_get_raw(id.as_str()) else { continue };
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        let value = if SECRETS.contains(&name.as_str()) { "(given)".to_owned() } else { values.join(", ") };
        if value != "false" {
            if matches.value_source(id.as_str()) == Some(ValueSource::DefaultValue) {
                defaults.push(name.clone());
            }
            settings.insert(name, value);
        }
    }
    for (name, beside) in MEANT_FOR {
        let is_idle = !beside.iter().any(|option| settings.contains_key(*option));
        if is_idle && defaults.iter().any(|default| default == name) {
            settings.remove(name);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    fn settings(line: &str) -> BTreeMap<String, String> {
        let matches = Cli::command().get_matches_from(std::iter::once("loadtest").chain(line.split(' ')));
        of(matches.subcommand().unwrap().1)
    }

    #[test]
    fn defaults_that_mean_nothing_are_not_written_down() {
        let closed = settings("register --spawn-server --devices 5");
        assert_eq!((closed["devices"].as_str(), closed["concurrency"].as_str()), ("5", "64"));
        for name in ["objective", "steps", "arrivals", "in-flight", "mosquitto-bin", "topic", "server-core"] {
            assert!(!closed.contains_key(name), "{name}");
        }
        let open = settings("register --spawn-server --rate 5 --objective p90<=1s");
        assert_eq!((open["arrivals"].as_str(), open["objective"].as_str()), ("poisson", "p90<=1s"));
        assert!(!open.contains_key("steps") && settings("register --spawn-server --find-max").contains_key("steps"));
        assert!(settings("hold --spawn-mosquitto").contains_key("topic"));
    }

    #[test]
    fn secrets_are_not_written_down() {
        let secret = settings("hold --endpoint h --plain-broker --no-tls --password hidden");
        assert_eq!(secret["password"], "(given)");
    }
}
