//! `unicity deny`, `allow` and `denied`: keys and certificates that an operator refuses by hand, without the authority.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::KeyFingerprint;

use super::{Global, files, output};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Context as _, Outcome};

const PATH: &str = "/unicity/denied?api-version=2021-10-01";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("rule").required(true).args(["key_fingerprint", "certificate", "issuer"]))]
pub(crate) struct RuleArgs {
    /// The key's fingerprint, 64 hexadecimal digits, as telemetry stamps and `cert inspect` show it.
    #[arg(long, value_name = "FP")]
    key_fingerprint: Option<String>,
    /// A certificate: its key is meant, in whatever certificate it comes.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The issuer of one certificate, as `cert inspect` shows it: CN=Factory,O=Contoso
    #[arg(long, value_name = "NAME", requires = "serial")]
    issuer: Option<String>,
    /// Its serial number, hexadecimal.
    #[arg(long, value_name = "HEX", requires = "issuer", conflicts_with_all = ["key_fingerprint", "certificate"])]
    serial: Option<String>,
}

impl RuleArgs {
    fn rule(&self) -> Outcome<Value> {
        match (&self.key_fingerprint, &self.certificate, &self.issuer, &self.serial) {
            (Some(text), ..) => {
                let digits: String = text.chars().filter(|char| !matches!(char, ':' | ' ')).collect();
                let key: KeyFingerprint = digits.parse().context("--key-fingerprint")?;
                Ok(json!({"keyFingerprint": key.to_string()}))
            }
            (None, Some(file), ..) => Ok(json!({"keyFingerprint": files::leaf(file)?.key_fingerprint().to_string()})),
            (None, None, Some(issuer), Some(serial)) => Ok(json!({"issuer": issuer, "serial": serial})),
            _ => Err(CommandError::usage("name a key or a certificate")
                .hint("give --key-fingerprint FP, --certificate FILE, or --issuer NAME with --serial HEX")),
        }
    }
}

fn words(rule: &Value) -> String {
    match rule.get("keyFingerprint") {
        Some(_) => format!("key {}", output::cell(rule, "keyFingerprint")),
        None => format!("certificate {} of {}", output::cell(rule, "serial"), output::cell(rule, "issuer")),
    }
}

/// Refuses a key or a certificate from now on.
pub(crate) async fn deny(global: &Global, args: &RuleArgs) -> Outcome {
    let rule = args.rule()?;
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let stored = client.call(Method::POST, PATH, &[], Some(&rule)).await?.body;
    if global.json {
        return output::json(&stored);
    }
    eprintln!("{} is denied from its next connection on", words(&stored));
    Ok(())
}

/// Lifts a rule.
pub(crate) async fn allow(global: &Global, args: &RuleArgs) -> Outcome {
    let rule = args.rule()?;
    let client = Client::open(&global.target(), &Audience::Dps)?;
    client.call(Method::DELETE, PATH, &[], Some(&rule)).await?;
    if global.json {
        return output::json(&json!({"allowed": rule}));
    }
    eprintln!("{} is denied no longer", words(&rule));
    Ok(())
}

/// Lists the rules.
pub(crate) async fn list(global: &Global) -> Outcome {
    let page = Client::open(&global.target(), &Audience::Dps)?.get(PATH).await?;
    let items = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
    if global.json {
        return items.iter().try_for_each(output::json);
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| ["keyFingerprint", "serial", "issuer"].iter().map(|name| output::cell(item, name)).collect())
        .collect();
    output::table(&["key fingerprint", "serial", "issuer"], &rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        rule: RuleArgs,
    }

    fn parse(line: &[&str]) -> Result<RuleArgs, clap::Error> {
        Line::try_parse_from([&["x"], line].concat()).map(|line| line.rule)
    }

    #[test]
    fn a_rule_names_one_thing_whole() {
        let fingerprint = "A5".repeat(32);
        let rule = parse(&["--key-fingerprint", &fingerprint]).unwrap().rule().unwrap();
        assert_eq!(rule, json!({"keyFingerprint": "a5".repeat(32)}));
        let rule = parse(&["--issuer", "CN=x", "--serial", "0A"]).unwrap().rule().unwrap();
        assert_eq!(rule, json!({"issuer": "CN=x", "serial": "0A"}));
        assert!(parse(&["--key-fingerprint", "a5"]).unwrap().rule().is_err());
        for line in [
            &[][..],
            &["--issuer", "CN=x"],
            &["--serial", "0A"],
            &["--key-fingerprint", &fingerprint, "--certificate", "f"],
            &["--key-fingerprint", &fingerprint, "--serial", "0A"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
