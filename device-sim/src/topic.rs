//! The topics and user names of `device-mqtt.md` sections 1, 2 and 4, as text.

use unicity_identity::sas::percent_encode;

const PROVISIONING_API: &str = "2019-03-31";
const HUB_API: &str = "2021-04-12";
const CLIENT: &str = concat!("unicity-device-sim%2F", env!("CARGO_PKG_VERSION"));

/// The filter of all answers to a registration.
pub const ANSWERS: &str = "$dps/registrations/res/#";

/// The user name of the provisioning role.
#[must_use]
pub fn provisioning_user_name(id_scope: &str, registration_id: &str) -> String {
    format!("{id_scope}/registrations/{registration_id}/api-version={PROVISIONING_API}&ClientVersion={CLIENT}")
}

/// The user name of the hub role.
#[must_use]
pub fn hub_user_name(hub_host: &str, device_id: &str) -> String {
    format!("{hub_host}/{device_id}/?api-version={HUB_API}&DeviceClientType={CLIENT}")
}

/// The topic of a register request.
#[must_use]
pub fn register(rid: &str) -> String {
    format!("$dps/registrations/PUT/iotdps-register/?$rid={rid}")
}

/// The topic of a question for the state of an operation.
#[must_use]
pub fn poll(rid: &str, operation_id: &str) -> String {
    format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={operation_id}")
}

/// What the topic of an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTopic<'a> {
    /// Three digits.
    pub status: u16,
    /// The request that is answered.
    pub rid: &'a str,
    /// Seconds.
    pub retry_after: Option<u64>,
}

/// Reads `$dps/registrations/res/{status}/?$rid={rid}[&retry-after={seconds}]`, as strictly as the SDKs together do:
/// `$rid` first, whole seconds. `None` if it is something else.
#[must_use]
pub fn answer(topic: &str) -> Option<AnswerTopic<'_>> {
    let (status, query) = topic.strip_prefix("$dps/registrations/res/")?.split_once("/?$rid=")?;
    if status.len() != 3 || !status.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut pairs = query.split('&');
    let rid = pairs.next().filter(|rid| !rid.is_empty())?;
    let mut retry_after = None;
    for pair in pairs {
        let (key, value) = pair.split_once('=')?;
        if key == "retry-after" {
            if retry_after.is_some() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            retry_after = Some(value.parse().ok()?);
        }
    }
    Some(AnswerTopic { status: status.parse().ok()?, rid, retry_after })
}

/// Everything of a telemetry topic before the property bag.
#[must_use]
pub fn events(device_id: &str) -> String {
    format!("devices/{device_id}/messages/events/")
}

/// A property bag; a key that begins with `$.` is a system property and goes as `%24.`, as the SDKs send it.
pub fn bag(properties: &[(String, String)]) -> String {
    let pairs: Vec<_> =
        properties.iter().map(|(key, value)| format!("{}={}", percent_encode(key), percent_encode(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicity_identity::bag::Bag;

    use super::*;

    #[test]
    fn what_is_sent_has_the_documented_form() {
        assert!(
            provisioning_user_name("0ne1", "dev-1")
                .starts_with("0ne1/registrations/dev-1/api-version=2019-03-31&ClientVersion=unicity-device-sim%2F")
        );
        assert!(
            hub_user_name("hub.example", "Dev#1")
                .starts_with("hub.example/Dev#1/?api-version=2021-04-12&DeviceClientType=")
        );
        assert_eq!(register("7"), "$dps/registrations/PUT/iotdps-register/?$rid=7");
        assert_eq!(
            poll("7", "4.ab.0123-4567"),
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=7&operationId=4.ab.0123-4567"
        );
        assert_eq!(events("Dev#1"), "devices/Dev#1/messages/events/");
    }

    #[test]
    fn answers_are_read_as_the_sdks_read_them() {
        let read = |status, rid, retry_after| Some(AnswerTopic { status, rid, retry_after });
        for (topic, expected) in [
            ("$dps/registrations/res/200/?$rid=abc", read(200, "abc", None)),
            ("$dps/registrations/res/202/?$rid=1&retry-after=3", read(202, "1", Some(3))),
            ("$dps/registrations/res/429/?$rid=1&x=y&retry-after=03", read(429, "1", Some(3))),
            ("$dps/registrations/res/200/?retry-after=3&$rid=1", None),
            ("$dps/registrations/res/200/?$rid=", None),
            ("$dps/registrations/res/200/?$rid=1&retry-after=3s", None),
            ("$dps/registrations/res/200/?$rid=1&retry-after=1&retry-after=2", None),
            ("$dps/registrations/res/200/?$rid=1&retry-after", None),
            ("$dps/registrations/res/+20/?$rid=1", None),
            ("$dps/registrations/res/20/?$rid=1", None),
            ("$dps/registrations/res/2000/?$rid=1", None),
            ("$dps/registrations/res/200", None),
            ("devices/a/messages/devicebound/", None),
            ("", None),
        ] {
            assert_eq!(answer(topic), expected, "{topic}");
        }
    }

    proptest! {
        #[test]
        fn a_server_reads_the_properties_that_were_meant(
            pairs in proptest::collection::vec(("[a-z#+/%& =ä]{1,12}", "\\PC{0,20}"), 0..8),
        ) {
            let read = Bag::parse(&bag(&pairs)).unwrap();
            let meant: Vec<_> = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
            prop_assert_eq!(read.properties, meant);
        }

        #[test]
        fn no_topic_makes_the_reader_panic(tail in "\\PC{0,60}") {
            let _ = answer(&tail);
            let _ = answer(&format!("$dps/registrations/res/{tail}"));
        }
    }

    #[test]
    fn a_system_property_is_one() {
        let read = Bag::parse(&bag(&[("$.ct".to_owned(), "application/json".to_owned())])).unwrap();
        assert_eq!(read.system, [("content-type".to_owned(), "application/json".to_owned())]);
    }
}
