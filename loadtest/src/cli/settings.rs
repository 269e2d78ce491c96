//! The settings of a run as its report has them.

use std::collections::BTreeMap;

use clap::ArgMatches;

/// What is not written down.
const SECRETS: [&str; 2] = ["group-key", "password"];

/// Each option that has a value, given or by default, by its name.
pub(crate) fn of(matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
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
            settings.insert(name, value);
        }
    }
    settings
}
