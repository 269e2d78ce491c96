//! What a user name says: the role of the connection, and who the client claims to be (`device-mqtt.md` 1, design rule 11).
//!
//! Nothing here is proven. Ids are kept as sent, since a group member's key may derive from the spelling of its id.

use percent_encoding::percent_decode_str;

/// What a user name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserName {
    /// Who the client claims to be, and in which role.
    pub role: Role,
    /// The API version that the client speaks, as sent; kept for diagnosis, any well-formed one is welcome.
    pub api_version: String,
    /// The client's name for itself (`ClientVersion`, `DeviceClientType`), decoded and cut to 256 characters.
    pub client_type: Option<String>,
}

/// The two things that one port serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// `{idScope}/registrations/{registrationId}/api-version=...`
    Provisioning {
        /// The id scope as sent.
        id_scope: String,
        /// The registration id as sent.
        registration_id: String,
    },
    /// `{host}/{deviceId}[/{moduleId}]/?api-version=...`
    Hub {
        /// The hub's host as sent.
        host: String,
        /// The device id as sent.
        device_id: String,
        /// The module id as sent.
        module_id: Option<String>,
    },
}

/// Why a text is no user name of either role. To a client all of them are CONNACK 4.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserName {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// Longer than any real one.
    #[error("it has {0} bytes, at most {max} are allowed", max = LENGTH_MAX)]
    TooLong(usize),
    /// Neither form.
    #[error(
        "it is neither {{idScope}}/registrations/{{registrationId}}/api-version=.. nor {{host}}/{{deviceId}}[/{{moduleId}}]/?api-version=.."
    )]
    Form,
    /// `api-version` is not a short word.
    #[error("its api-version is not 1 to 64 letters, digits, dashes and dots")]
    ApiVersion,
}

/// Two ids, a host, and room for what SDKs say of themselves.
const LENGTH_MAX: usize = 4096;

impl UserName {
    /// Reads a user name. `is_hub_host` tells the names of this server's hubs, so that a hub's device may be called
    /// `registrations`.
    ///
    /// # Errors
    /// [`InvalidUserName`].
    pub fn parse(text: &str, is_hub_host: impl Fn(&str) -> bool) -> Result<Self, InvalidUserName> {
        if text.is_empty() {
            return Err(InvalidUserName::Missing);
        }
        if text.len() > LENGTH_MAX {
            return Err(InvalidUserName::TooLong(text.len()));
        }
        let mut parts = text.splitn(3, '/');
        let (Some(first), Some(second), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidUserName::Form);
        };
        if first.is_empty() || second.is_empty() {
            return Err(InvalidUserName::Form);
        }
        if second == "registrations"
            && !is_hub_host(first)
            && let Some((registration_id, query)) = rest.split_once('/')
            && query.starts_with("api-version=")
        {
            let role = Role::Provisioning { id_scope: first.to_owned(), registration_id: registration_id.to_owned() };
            return Self::with_query(role, query);
        }
        let (module_id, query) = match query_of(rest) {
            Some(query) => (None, query),
            None => {
                let (module_id, rest) = rest.split_once('/').ok_or(InvalidUserName::Form)?;
                (Some(module_id), query_of(rest).ok_or(InvalidUserName::Form)?)
            }
        };
        if module_id == Some("") {
            return Err(InvalidUserName::Form);
        }
        let role =
            Role::Hub { host: first.to_owned(), device_id: second.to_owned(), module_id: module_id.map(str::to_owned) };
        Self::with_query(role, query)
    }

    fn with_query(role: Role, query: &str) -> Result<Self, InvalidUserName> {
        let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
        let value = |name: &str| pairs().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let api_version = value("api-version").ok_or(InvalidUserName::Form)?;
        let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if api_version.is_empty() || api_version.len() > 64 || !is_word(api_version) {
            return Err(InvalidUserName::ApiVersion);
        }
        let client_type = value("DeviceClientType").or_else(|| value("ClientVersion"));
        let client_type =
            client_type.map(|text| percent_decode_str(text).decode_utf8_lossy().chars().take(256).collect());
        Ok(Self { role, api_version: api_version.to_owned(), client_type })
    }
}

/// The query in the last part of a hub user name: behind a `?`, or bare, as some clients send it.
fn query_of(text: &str) -> Option<&str> {
    let (query, marked) = match text.strip_prefix('?') {
        Some(query) => (query, true),
        None => (text, false),
    };
    // A module id has no `/` behind it only if it is a query; `api-version=` in front tells a bare one.
    (marked || (query.starts_with("api-version=") && !query.contains('/'))).then_some(query)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<UserName, InvalidUserName> {
        UserName::parse(text, |host| host == "127.0.0.1" || host == "hub.local")
    }

    fn provisioning(id_scope: &str, registration_id: &str) -> Role {
        Role::Provisioning { id_scope: id_scope.into(), registration_id: registration_id.into() }
    }

    fn hub(host: &str, device_id: &str, module_id: Option<&str>) -> Role {
        Role::Hub { host: host.into(), device_id: device_id.into(), module_id: module_id.map(Into::into) }
    }

    #[test]
    fn the_role_follows_from_the_form() {
        for (text, role) in [
            ("0ne1/registrations/dev-1/api-version=2019-03-31", provisioning("0ne1", "dev-1")),
            ("0ne1/registrations/Dev-1/api-version=2019-03-31&ClientVersion=a%2Fb", provisioning("0ne1", "Dev-1")),
            ("hub.local/dev#1/?api-version=2019-10-01&DeviceClientType=py", hub("hub.local", "dev#1", None)),
            ("hub.local/d/?DeviceClientType=node&api-version=2021-04-12", hub("hub.local", "d", None)),
            ("hub.local/d/api-version=2020-09-30", hub("hub.local", "d", None)),
            ("hub.local/d/m/?api-version=2020-09-30", hub("hub.local", "d", Some("m"))),
            ("hub.local/d/m/api-version=2020-09-30", hub("hub.local", "d", Some("m"))),
            ("hub.local/d?x/?api-version=1", hub("hub.local", "d?x", None)),
            // A hub's device, or its module, may carry any name.
            ("hub.local/registrations/?api-version=1", hub("hub.local", "registrations", None)),
            ("hub.local/registrations/api-version=1", hub("hub.local", "registrations", None)),
            ("hub.local/registrations/m/api-version=1", hub("hub.local", "registrations", Some("m"))),
            ("elsewhere/registrations/m/api-version=1", provisioning("elsewhere", "m")),
            // An empty registration id has this form too; attestation says what is wrong with it.
            ("0ne1/registrations//api-version=1", provisioning("0ne1", "")),
            ("elsewhere.example/d/?api-version=1", hub("elsewhere.example", "d", None)),
        ] {
            assert_eq!(parse(text).map(|name| name.role), Ok(role), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (text, error) in [
            ("", InvalidUserName::Missing),
            ("x", InvalidUserName::Form),
            ("hub.local/d", InvalidUserName::Form),
            ("hub.local/d/", InvalidUserName::Form),
            ("hub.local/d/m", InvalidUserName::Form),
            ("hub.local/d/m/x/?api-version=1", InvalidUserName::Form),
            ("hub.local/d//?api-version=1", InvalidUserName::Form),
            ("hub.local//?api-version=1", InvalidUserName::Form),
            ("/d/?api-version=1", InvalidUserName::Form),
            ("hub.local/d/?DeviceClientType=x", InvalidUserName::Form),
            ("0ne1/registrations/dev-1", InvalidUserName::Form),
            ("0ne1/registrations/dev-1/x=1&api-version=2", InvalidUserName::Form),
            ("0ne1/registrations/dev-1/api-version=", InvalidUserName::ApiVersion),
            ("hub.local/d/?api-version=a/b", InvalidUserName::ApiVersion),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert!(matches!(parse(&"x".repeat(5000)), Err(InvalidUserName::TooLong(5000))));
    }

    #[test]
    fn version_and_client_are_kept() {
        let name = parse("h.x/d/?api-version=2019-10-01&DeviceClientType=py-iothub%2F2.14&model-id=a").unwrap();
        assert_eq!((name.api_version.as_str(), name.client_type.as_deref()), ("2019-10-01", Some("py-iothub/2.14")));
        let name = parse("0ne1/registrations/d/api-version=2019-03-31&ClientVersion=%FF").unwrap();
        assert_eq!(name.client_type.as_deref(), Some("\u{fffd}"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\PC|[/?&=%]|registrations|api-version=){0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn ids_come_out_as_they_went_in(device in "[A-Za-z0-9:.+%_#*?!(),@$'-]{1,40}", module in proptest::option::of("[A-Za-z0-9#+%$_-]{1,20}")) {
            let middle = module.as_deref().map(|m| format!("/{m}")).unwrap_or_default();
            let text = format!("hub.local/{device}{middle}/?api-version=2020-09-30");
            prop_assert_eq!(parse(&text).unwrap().role, hub("hub.local", &device, module.as_deref()));
        }
    }
}
