//! What a client's message says of itself: the property bag of its topic, and flags that become properties (`device-mqtt.md` 4).

use unicity_identity::bag::{Bag, TooManyProperties};
use unicity_identity::{DeviceId, ModuleId};

/// Where a client publishes telemetry to, up to its property bag. Ids are not encoded in topics.
pub(super) fn prefix(device_id: &str, module_id: Option<&str>) -> String {
    match module_id {
        None => format!("devices/{device_id}/messages/events/"),
        Some(module_id) => format!("devices/{device_id}/modules/{module_id}/messages/events/"),
    }
}

/// As [`prefix`], of ids that are proven.
pub(super) fn prefix_of(device_id: &DeviceId, module_id: Option<&ModuleId>) -> String {
    prefix(device_id.as_str(), module_id.map(ModuleId::as_str))
}

/// The bag of a topic under `prefix`: everything after it, be it nothing. Without the slash at the end it is nothing, too.
pub(super) fn bag_of<'a>(topic: &'a str, prefix: &str) -> Option<&'a str> {
    topic.strip_prefix(prefix).or_else(|| (prefix.strip_suffix('/') == Some(topic)).then_some(""))
}

/// Reads the bag; a message that asks to be retained is not, and says so in a property.
pub(super) fn properties(bag: &str, retain: bool) -> Result<Bag, TooManyProperties> {
    let mut bag = Bag::parse(bag)?;
    if retain {
        bag.properties.push(("mqtt-retain".into(), Some("true".into())));
    }
    Ok(bag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bag_is_all_that_follows_the_clients_own_prefix() {
        let own = prefix("d#+$%", None);
        for (topic, bag) in [
            ("devices/d#+$%/messages/events/", Some("")),
            ("devices/d#+$%/messages/events", Some("")),
            ("devices/d#+$%/messages/events/a=b/", Some("a=b/")),
            ("devices/d#+$%/messages/events/p=x/y", Some("p=x/y")),
            ("devices/d#+$%/messages/eventsx", None),
            ("devices/other/messages/events/", None),
            ("devices/d#+$%/modules/m/messages/events/", None),
        ] {
            assert_eq!(bag_of(topic, &own), bag, "{topic}");
        }
        assert_eq!(bag_of("devices/d/modules/m/messages/events/x", &prefix("d", Some("m"))), Some("x"));
    }
}
