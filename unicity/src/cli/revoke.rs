//! `unicity revoke`: the one act that ends a device, a key, a certificate, an authority, a group or a batch everywhere (U7).

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use hyper::Method;
use serde_json::{Map, Value, json};
use unicity_identity::KeyFingerprint;
use unicity_identity::sas::percent_encode;

use super::{Global, files, output};
use crate::client::{Audience, Client};
use crate::error::{CommandError, Context as _, Outcome};

const PATH: &str = "/unicity/revocations";
const API: &str = "api-version=2021-10-01";
/// How often the rows that follow are asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// End a device, key, certificate, authority, group or batch everywhere at once: its enrollment, its hub identity, its live sessions,
/// its tokens. For ever: its keys are never taken again; `--lift` takes the rest back.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").args(["registration_id", "key_fingerprint", "certificate", "ca", "group", "batch"]))]
pub(crate) struct RevokeArgs {
    /// A device: its enrollment, its hub identity and every key it holds.
    #[arg(long, value_name = "ID")]
    registration_id: Option<String>,
    /// A key that leaked or was copied, and whoever holds it: 64 hexadecimal digits, as `device show` and telemetry stamps show it.
    #[arg(long, value_name = "FP")]
    key_fingerprint: Option<String>,
    /// One certificate; another one over the same key is not meant.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// An uploaded authority, and every device that it vouches for.
    #[arg(long, value_name = "NAME")]
    ca: Option<String>,
    /// An enrollment group and all its devices: its key leaked.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// All devices whose enrollments carry this label.
    #[arg(long, value_name = "LABEL")]
    batch: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say what it would touch.
    #[arg(long, conflicts_with_all = ["list", "lift"])]
    dry_run: bool,
    /// Do not ask, however many devices it means.
    #[arg(long)]
    yes: bool,
    /// Also an id that nothing is known of: it is refused in advance.
    #[arg(long)]
    force: bool,
    /// Do not wait for the rows that follow behind.
    #[arg(long)]
    no_wait: bool,
    /// List what is revoked; with a target, that one.
    #[arg(long, conflicts_with = "lift")]
    list: bool,
    /// Lift a revocation. What it disabled stays disabled, and the keys that it denied stay denied.
    #[arg(long, requires = "target")]
    lift: bool,
}

impl RevokeArgs {
    /// The one member by which the server knows the target; `None`: none is named.
    fn target(&self) -> Outcome<Option<(&'static str, String)>> {
        if let Some(text) = &self.key_fingerprint {
            let digits: String = text.chars().filter(|char| !matches!(char, ':' | ' ')).collect();
            let key: KeyFingerprint = digits.to_ascii_lowercase().parse().context("--key-fingerprint")?;
            return Ok(Some(("keyFingerprint", key.to_string())));
        }
        if let Some(file) = &self.certificate {
            let sha256 = files::one_certificate(file)?.summary().sha256.to_string().to_ascii_lowercase();
            return Ok(Some(("certificateSha256", sha256)));
        }
        let named = [
            ("registrationId", &self.registration_id),
            ("authority", &self.ca),
            ("groupId", &self.group),
            ("batch", &self.batch),
        ];
        Ok(named.into_iter().find_map(|(name, value)| Some((name, value.clone()?))))
    }
}

fn query(target: &(&'static str, String)) -> String {
    format!("{PATH}?{API}&{}={}", target.0, percent_encode(&target.1))
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Revokes, lists, or lifts.
pub(crate) async fn run(global: &Global, args: &RevokeArgs) -> Outcome {
    let target = args.target()?;
    let client = Client::open(&global.target(), &Audience::Dps)?;
    if args.list {
        return list(global, &client, target.as_ref()).await;
    }
    let target = target.ok_or_else(|| {
        CommandError::usage("name what to revoke").hint(
            "give --registration-id ID, --key-fingerprint FP, --certificate FILE, --ca NAME, --group ID or --batch LABEL; \
             or --list",
        )
    })?;
    if args.lift {
        client.call(Method::DELETE, &query(&target), &[], None).await?;
        if global.json {
            return output::json(&json!({"lifted": {target.0: target.1}}));
        }
        eprintln!("lifted. What it disabled stays disabled, and its keys stay denied: enrol anew, or enable it and");
        eprintln!("take a key back with `unicity allow --key-fingerprint FP`");
        return Ok(());
    }
    revoke(global, args, &client, &target).await
}

async fn revoke(global: &Global, args: &RevokeArgs, client: &Client, target: &(&'static str, String)) -> Outcome {
    let mut body = Map::new();
    body.insert(target.0.into(), json!(target.1));
    body.insert("dryRun".into(), json!(true));
    let post = async |body: Map<String, Value>| {
        client.call(Method::POST, &format!("{PATH}?{API}"), &[], Some(&Value::Object(body))).await
    };
    let preview = post(body.clone()).await?.body;
    if args.dry_run && global.json {
        return output::json(&preview);
    }
    if args.dry_run || !(global.json || global.curl) {
        show_preview(&preview);
    }
    if args.dry_run {
        return Ok(());
    }
    confirm(&preview, &target.1, args.yes || global.curl)?;
    body.insert("dryRun".into(), json!(false));
    body.insert("force".into(), json!(args.force));
    if let Some(reason) = &args.reason {
        body.insert("reason".into(), json!(reason));
    }
    let done = post(body).await.map_err(|error| match error.http_status {
        Some(404) if !args.force => error.hint("if it is to be refused before it is known, add --force"),
        _ => error,
    })?;
    let mut done = done.body;
    if !global.json {
        show_done(&done);
    }
    if done["rowsFollow"] == json!(true) && !args.no_wait {
        // A key that is a group's: its group's rows follow.
        let group = done.get("group").and_then(|group| group["target"]["groupId"].as_str());
        let followed = group.map_or_else(|| target.clone(), |id| ("groupId", id.to_owned()));
        let last = wait(global, client, &followed).await?;
        done["rowsFollowed"] = last["rows"].clone();
    }
    if global.json { output::json(&done) } else { Ok(()) }
}

fn show_preview(preview: &Value) {
    let what = output::cell(preview, "revoked");
    let also =
        preview.get("also").and_then(Value::as_str).map(|also| format!(", and with it {also}")).unwrap_or_default();
    eprintln!(
        "{what}{also}: {}, {}, {} held",
        reach(preview),
        counted(number(preview, "sessions"), "live session"),
        counted(number(preview, "keys"), "key"),
    );
    if preview["inForce"] == json!(true) {
        eprintln!("it is revoked already");
    } else if preview["known"] == json!(false) {
        eprintln!("nothing is known of it yet");
    }
}

/// Whether more devices may be meant than the server can count.
fn is_open_ended(preview: &Value) -> bool {
    preview["atLeast"] == json!(true)
}

/// Whom it ends, for people.
fn reach(preview: &Value) -> String {
    let devices = number(preview, "devices");
    if is_open_ended(preview) {
        return format!("every device whose certificate chain leads to it, at least {devices} known");
    }
    counted(devices, "device")
}

/// For more than one device the count must be typed, for an authority, whose devices nobody can count, its name; or `--yes` given.
fn confirm(preview: &Value, name: &str, yes: bool) -> Outcome {
    let count = number(preview, "devices");
    let is_open_ended = is_open_ended(preview);
    if yes || (count <= 1 && !is_open_ended) {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::usage(format!("this ends {}, and nobody is there to be asked", reach(preview)))
            .hint("look at it with --dry-run, then add --yes"));
    }
    let wanted = if is_open_ended { name.to_owned() } else { count.to_string() };
    eprint!("type {wanted} to end them: ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
    if line.trim() == wanted {
        return Ok(());
    }
    Err(CommandError::new(format!("{wanted} was not typed; nothing was revoked")))
}

fn show_done(done: &Value) {
    let milliseconds = |name: &str| format!("{:.1} ms", done.get(name).and_then(Value::as_f64).unwrap_or(0.0));
    let disk = match done.get("syncMs").and_then(Value::as_f64) {
        Some(ms) => format!(" (the disk: {ms:.1} ms)"),
        None => String::new(),
    };
    let ended = match number(done, "rowsEnded") {
        0 => String::new(),
        rows => format!("{} ended, ", counted(rows, "identity").replace("identitys", "identities")),
    };
    eprintln!(
        "revoked, durably      {:>10}{disk}: {ended}{} denied",
        milliseconds("durableMs"),
        counted(number(done, "keysDenied"), "key")
    );
    eprintln!(
        "live sessions cut     {:>10}: {}",
        milliseconds("cutMs"),
        counted(number(done, "sessionsCut"), "session")
    );
    if done["rowsFollow"] == json!(true) {
        eprintln!("refused from now on; its rows follow behind");
    }
}

/// Waits until all rows have followed, and shows how far they are.
async fn wait(global: &Global, client: &Client, target: &(&'static str, String)) -> Outcome<Value> {
    let began = std::time::Instant::now();
    let is_watched = !global.json && std::io::stderr().is_terminal();
    loop {
        let state = client.get(&query(target)).await?;
        let rows = number(&state, "rows");
        if is_watched {
            eprint!(
                "\rrows                  {:>8.1} s: {}  ",
                began.elapsed().as_secs_f64(),
                counted(rows, "registration")
            );
        }
        if state["complete"] == json!(true) {
            if is_watched {
                eprintln!();
            } else if !global.json {
                let took = began.elapsed().as_secs_f64();
                eprintln!("rows                  {took:>8.1} s: {}", counted(rows, "registration"));
            }
            return Ok(state);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn list(global: &Global, client: &Client, target: Option<&(&'static str, String)>) -> Outcome {
    let items = match target {
        Some(target) => vec![client.get(&query(target)).await?],
        None => {
            let page = client.get(&format!("{PATH}?{API}")).await?;
            page.get("value").and_then(Value::as_array).cloned().unwrap_or_default()
        }
    };
    if global.json {
        return items.iter().try_for_each(output::json);
    }
    let row = |item: &Value| {
        let rows = number(item, "rows");
        let rows = if item["complete"] == json!(true) { rows.to_string() } else { format!("{rows}, following") };
        ["revoked", "at", "by", "reason"].iter().map(|name| output::cell(item, name)).chain([rows]).collect()
    };
    output::table(&["revoked", "at", "by", "reason", "rows"], &items.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: RevokeArgs,
    }

    fn parse(line: &[&str]) -> Result<RevokeArgs, clap::Error> {
        Line::try_parse_from([&["x"], line].concat()).map(|line| line.args)
    }

    #[test]
    fn one_target_is_named_and_in_the_servers_words() {
        let digits = "A5".repeat(32);
        let target = |line: &[&str]| parse(line).unwrap().target().unwrap();
        assert_eq!(target(&["--key-fingerprint", &digits]), Some(("keyFingerprint", "a5".repeat(32))));
        assert_eq!(target(&["--registration-id", "dev"]), Some(("registrationId", "dev".into())));
        assert_eq!(target(&["--group", "g", "--dry-run"]), Some(("groupId", "g".into())));
        assert_eq!(target(&["--ca", "root"]), Some(("authority", "root".into())));
        assert_eq!(target(&["--list"]), None);
        assert!(parse(&["--key-fingerprint", "a5"]).unwrap().target().is_err());
        for line in [
            &["--registration-id", "a", "--group", "b"][..],
            &["--lift"],
            &["--list", "--lift", "--group", "b"],
            &["--dry-run", "--list"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn more_than_one_device_is_not_ended_unasked() {
        assert!(confirm(&json!({"devices": 1, "sessions": 2}), "dev", false).is_ok());
        assert!(confirm(&json!({"devices": 9, "sessions": 1}), "g", true).is_ok());
        assert!(confirm(&json!({"devices": 0, "atLeast": true}), "root", true).is_ok());
        if !std::io::stdin().is_terminal() {
            assert_eq!(confirm(&json!({"devices": 9}), "g", false).unwrap_err().exit, 2);
            assert_eq!(confirm(&json!({"devices": 0, "atLeast": true}), "root", false).unwrap_err().exit, 2);
        }
    }

    #[test]
    fn the_reach_of_an_authority_is_no_count() {
        assert_eq!(reach(&json!({"devices": 1, "atLeast": false})), "1 device");
        assert_eq!(
            reach(&json!({"devices": 0, "atLeast": true})),
            "every device whose certificate chain leads to it, at least 0 known"
        );
    }
}
