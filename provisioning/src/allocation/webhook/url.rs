//! Where a function is. Only `https`, without user or fragment; which hosts may be called is for the configuration to say.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

const HTTPS: u16 = 443;
const URL_BYTES_MAX: usize = 2_048;
/// What stands in the place of a query that is not shown.
const MASK: &str = "?****";
/// The oldest version of the request's form (`service-rest.md` 3.1).
const API_VERSION_MIN: &str = "2018-09-01";

/// A text that is no URL, host or version of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidWebhook(String);

/// A host and port as the configuration names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookHost {
    /// A DNS name in lower case, or an address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl WebhookHost {
    /// Whether the host is an address, not a name.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }
}

impl FromStr for WebhookHost {
    type Err = InvalidWebhook;

    /// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`; 443 where there is no port.
    fn from_str(text: &str) -> Result<Self, InvalidWebhook> {
        let shown = || text.chars().take(80).collect::<String>();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                let number = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse::<u16>().ok()).flatten();
                let Some(number) = number.filter(|number| *number != 0) else {
                    return Err(InvalidWebhook(format!("{:?} has no port after its last colon", shown())));
                };
                (host, number)
            }
            _ => (text, HTTPS),
        };
        match host_of(host) {
            Some(host) => Ok(Self { host, port }),
            None => Err(InvalidWebhook(format!("{:?} is no host; write it like functions.example:443", shown()))),
        }
    }
}

impl fmt::Display for WebhookHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A host in its one spelling: lower case, addresses as they are printed, IPv6 ones only in brackets.
fn host_of(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}

/// The URL of a function. `Debug` and `Display` mask its query, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    /// Host and port.
    pub host: WebhookHost,
    /// From the first slash on, with the query.
    pub path_and_query: String,
}

impl FromStr for WebhookUrl {
    type Err = InvalidWebhook;

    fn from_str(text: &str) -> Result<Self, InvalidWebhook> {
        let refused =
            |why: &str| Err(InvalidWebhook(format!("{:?} {why}", masked(text).chars().take(120).collect::<String>())));
        if text.len() > URL_BYTES_MAX {
            return refused("is longer than 2048 bytes");
        }
        let Some(rest) = text.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://")).map(|_| &text[8..])
        else {
            return refused("does not begin with https://");
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
            return refused("holds a character that must be percent-encoded");
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return refused("holds a user name; put a key in its query instead");
        }
        if path.contains('#') {
            return refused("holds a fragment, which no server would see");
        }
        let host = authority.parse()?;
        let path_and_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host, path_and_query })
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.host, masked(&self.path_and_query))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

/// A URL as it is shown: its query, which may hold a key, masked.
#[must_use]
pub fn masked(url: &str) -> String {
    match url.split_once('?') {
        None => url.to_owned(),
        Some((shown, _)) => format!("{shown}{MASK}"),
    }
}

/// Checks `apiVersion`: a date, from 2018-09-01 on, perhaps with a suffix such as `-preview`.
///
/// # Errors
/// [`InvalidWebhook`] says what would be right.
pub fn check_api_version(text: &str) -> Result<(), InvalidWebhook> {
    let date = text.get(..10).unwrap_or_default();
    let is_date = date.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let suffix = text.get(10..).unwrap_or_default();
    let is_suffix = suffix.is_empty() || suffix.eq_ignore_ascii_case("-preview");
    if date.len() == 10 && is_date && is_suffix && date >= API_VERSION_MIN {
        return Ok(());
    }
    let shown: String = text.chars().take(40).collect();
    Err(InvalidWebhook(format!(
        "{shown:?} is no version; use 2021-10-01, or an older one down to {API_VERSION_MIN}-preview"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, expected) in [
            ("https://f.example/api/x?code=k", Some(("f.example", 443, "/api/x?code=k"))),
            ("HTTPS://F.Example:8443", Some(("f.example", 8443, "/"))),
            ("https://f.example?code=k", Some(("f.example", 443, "/?code=k"))),
            ("https://[::1]:8443/x", Some(("::1", 8443, "/x"))),
            ("https://10.0.0.7/x", Some(("10.0.0.7", 443, "/x"))),
            // Not addresses to us: no configuration names them, and the client checks what they resolve to.
            ("https://2130706433/", Some(("2130706433", 443, "/"))),
            ("https://0x7f.1/", Some(("0x7f.1", 443, "/"))),
            ("http://f.example/", None),
            ("https:/f.example/", None),
            ("ftp://f.example/", None),
            ("https://", None),
            ("https:///x", None),
            ("https://f.example:/", None),
            ("https://f.example:0/", None),
            ("https://f.example:70000/", None),
            ("https://f.example:+1/", None),
            ("https://u:p@f.example/", None),
            ("https://f.example\\@g.example/", None),
            ("https://f.example/#x", None),
            ("https://f.example/a b", None),
            ("https://f.example/\r\nx", None),
            ("https://f..example/", None),
            ("https://f.example./", None),
            ("https://ü.example/", None),
            ("https://::1/", None),
        ] {
            let parsed = text.parse::<WebhookUrl>().ok();
            let expected = expected.map(|(host, port, path)| WebhookUrl {
                host: WebhookHost { host: host.into(), port },
                path_and_query: path.into(),
            });
            assert_eq!(parsed, expected, "{text}");
        }
        let long = format!("https://f.example/{}", "x".repeat(URL_BYTES_MAX));
        assert!(long.parse::<WebhookUrl>().is_err());
    }

    #[test]
    fn nothing_shows_the_query() {
        let url: WebhookUrl = "https://f.example/x?code=geheim".parse().expect("a url");
        let error = "http://f.example/x?code=geheim".parse::<WebhookUrl>().expect_err("no https");
        for shown in [url.to_string(), format!("{url:?}"), error.to_string(), masked("https://f.example/x?code=geheim")]
        {
            assert!(shown.contains("/x?****") && !shown.contains("geheim"), "{shown}");
        }
    }

    #[test]
    fn versions() {
        for text in ["2018-09-01-preview", "2019-03-31", "2021-10-01", "2025-07-01-Preview"] {
            assert!(check_api_version(text).is_ok(), "{text}");
        }
        for text in ["", "2018-04-01", "latest", "2021-10", "2021-10-01-beta", "2021/10/01", "２０２１-10-01"] {
            assert!(check_api_version(text).is_err(), "{text}");
        }
    }
}
