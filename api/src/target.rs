//! The target of a request: path segments and query parameters, each percent-decoded exactly once.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;

use crate::failure::{Dialect, Failure};

/// Which of the APIs behind the port a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Plane {
    /// The provisioning service's.
    Dps,
    /// The hubs'.
    Hub,
    /// Ours.
    #[default]
    Own,
    /// A registering device's.
    Device,
}

impl Plane {
    /// In the order of their discriminants.
    pub(crate) const ALL: [Self; 4] = [Self::Dps, Self::Hub, Self::Own, Self::Device];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Dps => "dps",
            Self::Hub => "hub",
            Self::Own => "own",
            Self::Device => "device",
        }
    }

    /// How its clients want to hear of errors.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Hub => Dialect::Hub,
            Self::Dps | Self::Own | Self::Device => Dialect::Dps,
        }
    }
}

/// A parsed target.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// The path as sent: what a token's resource is compared with.
    pub(crate) path_raw: String,
    /// Decoded segments; empty ones at the end are dropped, since clients end a path in `/` at will.
    pub(crate) segments: Vec<String>,
    query: Vec<(String, String)>,
}

fn decode(text: &str, what: &str) -> Result<String, Failure> {
    // Percent rules, not those of forms: a `+` is a plus, which device ids may hold.
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Failure::invalid(what, "it is not UTF-8 after percent-decoding".into())),
    }
}

impl Target {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, Failure> {
        let path_raw = uri.path();
        let mut segments = path_raw
            .strip_prefix('/')
            .unwrap_or(path_raw)
            .split('/')
            .map(|segment| decode(segment, "path"))
            .collect::<Result<Vec<_>, _>>()?;
        while segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        let query = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name, "query")?, decode(value, "query")?))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        Ok(Self { path_raw: path_raw.to_owned(), segments, query })
    }

    /// A query parameter; its name is compared without case, the first of several counts.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A whole number among the query parameters.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        match self.query(name).map(|text| (text, text.parse())) {
            None => Ok(None),
            Some((_, Ok(number))) => Ok(Some(number)),
            Some((text, Err(_))) => {
                let shown: String = text.chars().take(40).collect();
                Err(Failure::invalid(name, format!("{shown:?} is not a whole number in range")))
            }
        }
    }

    /// `true` or `false` among the query parameters; absent is `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.query(name) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(Failure::invalid(name, "it is true or false".into())),
        }
    }

    /// The first segment in lower case.
    pub(crate) fn head(&self) -> Cow<'_, str> {
        self.segments.first().map_or(Cow::Borrowed(""), |head| head.to_ascii_lowercase().into())
    }

    /// The plane that the path belongs to.
    pub(crate) fn plane(&self) -> Plane {
        match self.head().as_ref() {
            "enrollments" | "enrollmentgroups" | "registrations" => Plane::Dps,
            "devices" | "twins" | "statistics" | "jobs" | "configurations" | "digitaltwins" | "messages" => Plane::Hub,
            "unicity" => Plane::Own,
            _ if self.segments.get(1).is_some_and(|word| word.eq_ignore_ascii_case("registrations")) => Plane::Device,
            _ => Plane::Own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn ids_are_decoded_once_and_a_plus_stays() {
        let target = target("/devices/a+b%252F%23/?Top=3&api-version=2021-04-12&x");
        assert_eq!(target.segments, ["devices", "a+b%2F#"]);
        assert_eq!(target.number::<i64>("top").unwrap(), Some(3));
        assert_eq!(target.query("api-version"), Some("2021-04-12"));
        assert_eq!(target.query("x"), Some(""));
        assert!(target.number::<i64>("x").is_err());
    }

    #[test]
    fn an_encoded_slash_is_part_of_an_id() {
        assert_eq!(target("/devices/a%2Fb").segments, ["devices", "a/b"]);
        assert_eq!(target("//").segments, [""; 0]);
        assert!(Target::parse(&"/devices/%FF".parse().unwrap()).is_err());
    }

    #[test]
    fn planes() {
        for (path, plane) in [
            ("/enrollmentGroups/g", Plane::Dps),
            ("/ENROLLMENTS/", Plane::Dps),
            ("/registrations/r", Plane::Dps),
            ("/twins/d", Plane::Hub),
            ("/0ne1/registrations/r/register", Plane::Device),
            ("/unicity/registrations", Plane::Own),
            ("/", Plane::Own),
        ] {
            assert_eq!(target(path).plane(), plane, "{path}");
        }
        assert!(Plane::ALL.into_iter().enumerate().all(|(index, plane)| plane as usize == index));
    }
}
