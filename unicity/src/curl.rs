//! `--curl`: the call behind a command, as a line for a shell. It holds no secret: a token is what `unicity sas` makes when the
//! line runs, and keys in bodies are replaced by their names.

use std::fmt::Write as _;
use std::path::PathBuf;

use hyper::Method;
use serde_json::Value;

/// What is needed to write a server's calls.
#[derive(Debug, Clone)]
pub(crate) struct Curl {
    /// The root that curl has to trust.
    pub(crate) ca: PathBuf,
    /// The options by which `unicity sas` finds the key, as a shell takes them between double quotes.
    pub(crate) sas: String,
    /// The scheme, host and port.
    pub(crate) origin: String,
    /// Where the host is, if its name does not lead there: curl's `--connect-to`.
    pub(crate) connect_to: Option<String>,
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = word.chars().all(|char| char.is_ascii_alphanumeric() || "/._-+:@%,".contains(char));
    if plain && !word.is_empty() { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Members of bodies that are secrets.
const SECRETS: [&str; 4] = ["primaryKey", "secondaryKey", "connectionString", "sharedAccessKey"];

fn without_secrets(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match value {
                Value::String(_) if SECRETS.contains(&name.as_str()) => (name.clone(), format!("<{name}>").into()),
                other => (name.clone(), without_secrets(other)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        other => other.clone(),
    }
}

/// Whether a call changes nothing, so that it may be made to find out what follows it.
pub(crate) fn is_read(method: &Method, body: Option<&Value>) -> bool {
    method == Method::GET || body.is_some_and(|body| body["dryRun"] == true)
}

impl Curl {
    /// One call.
    pub(crate) fn call(&self, method: &Method, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> String {
        let mut out = format!("curl --cacert {}", quoted(&self.ca.display().to_string()));
        if let Some(to) = &self.connect_to {
            let _ = write!(out, " --connect-to {}", quoted(to));
        }
        if method != Method::GET {
            let _ = write!(out, " -X {method}");
        }
        let _ = write!(out, " -H \"Authorization: $(unicity sas {})\"", self.sas);
        for (name, value) in headers {
            let _ = write!(out, " -H {}", quoted(&format!("{name}: {value}")));
        }
        if let Some(body) = body {
            let body = without_secrets(body).to_string();
            let _ = write!(out, " -H 'Content-Type: application/json' --data {}", quoted(&body));
        }
        let _ = write!(out, " {}", quoted(&format!("{}{path}", self.origin)));
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_hold_no_secret_and_survive_a_shell() {
        let curl = Curl {
            ca: "my data/ca.pem".into(),
            sas: "--data d".into(),
            origin: "https://hub.example:8443".into(),
            connect_to: Some("::127.0.0.1:8443".into()),
        };
        assert_eq!(
            curl.call(&Method::GET, "/a?b=c&d", &[], None),
            "curl --cacert 'my data/ca.pem' --connect-to ::127.0.0.1:8443 -H \"Authorization: $(unicity sas --data d)\" \
             'https://hub.example:8443/a?b=c&d'"
        );
        let body =
            json!({"id": "it's", "keys": [{"primaryKey": "geheim", "secondaryKey": "geheim"}], "primaryKey": {}});
        let put = curl.call(&Method::PUT, "/a", &[("if-match", "\"*\"")], Some(&body));
        assert!(!put.contains("geheim") && put.contains("<secondaryKey>"), "{put}");
        assert!(
            put.contains(r#"-X PUT"#) && put.contains(r#"-H 'if-match: "*"'"#) && put.contains(r"it'\''s"),
            "{put}"
        );
    }

    #[test]
    fn only_reads_are_made() {
        assert!(is_read(&Method::GET, None));
        assert!(is_read(&Method::POST, Some(&json!({"dryRun": true}))));
        for (method, body) in [(Method::POST, json!({"dryRun": false})), (Method::DELETE, json!({}))] {
            assert!(!is_read(&method, Some(&body)));
        }
        assert!(!is_read(&Method::DELETE, None));
    }
}
