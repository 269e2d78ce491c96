//! Fleets that come with the program.

use std::path::Path;

use crate::fleet_file::{FleetFileError, FleetPlan, Outside, parse};

/// A fleet file that is built in. Its groups take the group key, or the issuer, from the command line.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self { name: "weather-station", text: include_str!("../scenarios/weather-station.toml") },
        Self { name: "connected-car", text: include_str!("../scenarios/connected-car.toml") },
        Self { name: "factory-floor", text: include_str!("../scenarios/factory-floor.toml") },
        Self { name: "flaky-network", text: include_str!("../scenarios/flaky-network.toml") },
        Self { name: "clones", text: include_str!("../scenarios/clones.toml") },
    ];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name == name)
    }

    /// What it is about: its first line.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }

    /// The plan.
    ///
    /// # Errors
    /// Never, which a test holds.
    pub fn plan(&self) -> Result<FleetPlan, FleetFileError> {
        let nothing = |_: &Path| Err("a built-in scenario reads no file".to_owned());
        parse(self.text, &Outside { base: Path::new(""), read: &nothing, variable: &|_| None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_fleet_and_says_what_it_is_about() {
        for scenario in Scenario::ALL {
            let plan = scenario.plan().unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
            assert!(!plan.groups.is_empty() && scenario.about().ends_with('.'), "{}", scenario.name);
            assert_eq!(Scenario::named(scenario.name).unwrap().text, scenario.text);
        }
        assert!(Scenario::named("picnic").is_none());
    }
}
