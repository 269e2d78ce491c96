//! `unicity ca ...`: certificate authorities, and the proof that whoever uploads one holds its key.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use unicity_identity::AuthorityName;
use unicity_identity::sas::percent_encode;
use unicity_provisioning::x509::anchor::check_authority;

use super::confirm::Yes;
use super::{Global, files, output};
use crate::client::{Audience, Client};
use crate::curl::quoted;
use crate::error::{CommandError, Outcome};

const BASE: &str = "/unicity/certificates";
const API: &str = "api-version=2021-10-01";

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Upload the certificate of an authority, root or intermediate. It counts once its key was shown to be at hand.
    Add(AddArgs),
    /// List uploaded authorities.
    List,
    /// Show one, with its certificate.
    Show(NameArgs),
    /// Ask for a new verification code; the one before is worth nothing from then on.
    Code(NameArgs),
    /// Show that the authority's key is at hand: a certificate that it signed for the verification code.
    Verify(VerifyArgs),
    /// Remove one that no enrollment group names any more.
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name.
    name: AuthorityName,
    #[command(flatten)]
    yes: Yes,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// A name for it: letters, digits and - . _
    name: AuthorityName,
    /// Its certificate, PEM or DER.
    file: PathBuf,
    /// Let it count without a proof: you vouch for it.
    #[arg(long)]
    verified: bool,
    /// Replace it if it is there.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name.
    name: AuthorityName,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Its name.
    name: AuthorityName,
    /// The certificate that the authority signed for the code.
    file: PathBuf,
}

/// The path of one authority, or of an action on it.
pub(crate) fn path(name: &AuthorityName, action: &str) -> String {
    format!("{BASE}/{}{action}?{API}", percent_encode(name.as_str()))
}

pub(crate) async fn run(global: &Global, command: CaCommand) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    match command {
        CaCommand::Add(args) => add(global, &client, &args).await,
        CaCommand::List => list(global, &client).await,
        CaCommand::Show(args) => show(global, &client.get(&path(&args.name, "")).await?),
        CaCommand::Code(args) => {
            let stored = code(&client, &args.name).await?;
            if global.json {
                return output::json(&stored);
            }
            eprintln!("a new verification code for {}; the one before is worth nothing now", args.name);
            tell(global, &args.name, None, &stored)
        }
        CaCommand::Verify(args) => {
            let proof = files::one_certificate(&args.file)?;
            let body = json!({"certificate": files::pem(proof.der())});
            let stored = client.call(Method::POST, &path(&args.name, "/verify"), &[], Some(&body)).await?.body;
            if global.json {
                return output::json(&stored);
            }
            eprintln!("{} is verified: its key is at hand", args.name);
            eprintln!("\nnext: unicity enroll add-group --group-id ID --ca {}{}", args.name, place(global));
            Ok(())
        }
        CaCommand::Remove(args) => {
            args.yes.ask(&format!("this removes the authority {}", args.name))?;
            client.call(Method::DELETE, &path(&args.name, ""), &[], None).await?;
            if global.json {
                return output::json(&json!({"removed": args.name}));
            }
            eprintln!("removed {}", args.name);
            Ok(())
        }
    }
}

async fn add(global: &Global, client: &Client, args: &AddArgs) -> Outcome {
    let certificate = files::one_certificate(&args.file)?;
    check_authority(&certificate).map_err(|error| {
        let subject = certificate.summary().short().subject;
        CommandError::new(format!("{}: {subject} cannot be an authority: {error}", args.file.display()))
            .hint(error.remedy())
    })?;
    let mut properties = json!({"certificate": files::pem(certificate.der())});
    if args.verified {
        properties["isVerified"] = json!(true);
    }
    let body = json!({"properties": properties});
    let path = path(&args.name, "");
    let headers: &[(&str, &str)] = if args.replace { &[("if-match", "*")] } else { &[] };
    let mut stored = match client.call(Method::PUT, &path, headers, Some(&body)).await {
        // `--replace` means "as it is now", whether or not there is one.
        Err(_) if args.replace => client.call(Method::PUT, &path, &[], Some(&body)).await?.body,
        other => other?.body,
    };
    let verified = stored["properties"]["isVerified"] == json!(true);
    if !verified {
        stored = code(client, &args.name).await?;
    }
    if global.json {
        return output::json(&stored);
    }
    eprintln!("uploaded {}: {}", args.name, output::cell(&stored, "properties.subject"));
    if verified {
        eprintln!("it is verified");
        return Ok(());
    }
    tell(global, &args.name, Some(&args.file), &stored)
}

async fn code(client: &Client, name: &AuthorityName) -> Outcome<Value> {
    Ok(client.call(Method::POST, &path(name, "/generateVerificationCode"), &[], None).await?.body)
}

/// The code, and the commands that make the proof of it.
fn tell(global: &Global, name: &AuthorityName, file: Option<&Path>, stored: &Value) -> Outcome {
    let code = output::cell(stored, "properties.verificationCode");
    output::line(&code)?;
    eprintln!("\nto show that its key is at hand, sign a certificate for this code, then send it:\n");
    for line in commands(name, file, &code) {
        eprintln!("  {line}");
    }
    eprintln!("  unicity ca verify {name} {name}-proof.pem{}", place(global));
    Ok(())
}

fn commands(name: &AuthorityName, file: Option<&Path>, code: &str) -> [String; 3] {
    let ca = file.map_or_else(|| "CA.pem".to_owned(), |file| quoted(&file.display().to_string()));
    let is_der = file.is_some_and(|file| files::read(file).is_ok_and(|bytes| bytes.first() == Some(&0x30)));
    let form = if is_der { " -CAform DER" } else { "" };
    [
        format!("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}-proof.key"),
        format!("openssl req -new -key {name}-proof.key -subj /CN={code} -out {name}-proof.csr"),
        format!(
            "openssl x509 -req -in {name}-proof.csr -CA {ca}{form} -CAkey CA.key -CAcreateserial -days 1 -sha256 \
             -out {name}-proof.pem"
        ),
    ]
}

/// The options that lead a further command to the same server.
fn place(global: &Global) -> String {
    match global.connection_string {
        Some(_) => String::new(),
        None => format!(" --data {}", quoted(&global.data.display().to_string())),
    }
}

async fn list(global: &Global, client: &Client) -> Outcome {
    let page = client.get(&format!("{BASE}?{API}")).await?;
    let items = page.get("value").and_then(Value::as_array).cloned().unwrap_or_default();
    if global.json {
        return items.iter().try_for_each(output::json);
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            let cell = |name: &str| output::cell(item, &format!("properties.{name}"));
            let verified = if item["properties"]["isVerified"] == json!(true) { "yes" } else { "no" };
            vec![
                output::cell(item, "name"),
                verified.to_owned(),
                cell("subject"),
                cell("expiry"),
                cell("sha256Thumbprint"),
            ]
        })
        .collect();
    output::table(&["name", "verified", "subject", "ends", "sha256 thumbprint"], &rows)
}

fn show(global: &Global, stored: &Value) -> Outcome {
    if global.json {
        return output::json(stored);
    }
    let mut shown = stored.clone();
    let certificate =
        shown.get_mut("properties").and_then(Value::as_object_mut).and_then(|it| it.remove("certificate"));
    output::record(&shown)?;
    match certificate.as_ref().and_then(Value::as_str) {
        Some(pem) => output::line(&format!("\n{}", pem.trim_end())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_ready_to_be_run() {
        let name: AuthorityName = "Factory-1".parse().unwrap();
        let [key, request, sign] = commands(&name, Some(Path::new("/my ca/root.pem")), "AB12");
        assert!(key.ends_with("-out Factory-1-proof.key"));
        assert!(request.contains("-subj /CN=AB12 ") && request.contains("-key Factory-1-proof.key "));
        assert!(sign.contains("-CA '/my ca/root.pem' -CAkey CA.key ") && sign.ends_with("-out Factory-1-proof.pem"));
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        for (word, expected) in [("a/b.pem", "a/b.pem"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")] {
            assert_eq!(quoted(word), expected);
        }
    }
}
