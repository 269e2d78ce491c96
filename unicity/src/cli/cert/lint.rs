//! `unicity cert lint FILE`: findings with their remedies, alone, against authorities in files, or against what a server
//! has enrolled.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::json;
use unicity_identity::{EnrollmentGroupId, RegistrationId};
use unicity_provisioning::x509::{Against, Anchor, Finding, Level, lint, parse_certificates};

use super::enrolled;
use crate::cli::{Global, files, output};
use crate::clock;
use crate::error::{CommandError, Outcome};

/// How far clocks may differ, in seconds: the server's own patience.
const SKEW_SECONDS: u64 = 300;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("against").args(["enrollment", "group_id", "ca"]))]
pub(crate) struct LintArgs {
    /// The device's certificate, then its intermediates; PEM or DER.
    file: PathBuf,
    /// The id under which the device will register; its certificate's common name if not given.
    #[arg(long, value_name = "ID")]
    registration_id: Option<RegistrationId>,
    /// Hold it against this device's enrollment on the server.
    #[arg(long, value_name = "ID")]
    enrollment: Option<RegistrationId>,
    /// Hold it against this enrollment group on the server.
    #[arg(long, value_name = "ID")]
    group_id: Option<EnrollmentGroupId>,
    /// Hold it against a group of this authority; repeatable.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ca: Vec<PathBuf>,
}

/// Judges the file; an error if the device would be refused.
pub(super) async fn run(global: &Global, args: &LintArgs) -> Outcome {
    let text = files::read(&args.file)?;
    let enrolled = match (&args.enrollment, &args.group_id) {
        (Some(id), _) => Some(enrolled::individual(global, id).await?),
        (None, Some(id)) => Some(enrolled::group(global, id).await?),
        (None, None) => None,
    };
    let from_files = if args.ca.is_empty() { None } else { Some(authorities(&args.ca)?) };
    let anchors = enrolled.as_ref().and_then(|enrolled| enrolled.anchors.as_deref()).or(from_files.as_deref());
    let registration_id = args.registration_id.as_ref().or(args.enrollment.as_ref());
    let against = Against { registration_id, anchors, now: clock::now(), skew_seconds: SKEW_SECONDS };
    let judged = lint(&text, against);
    let mut findings = Vec::new();
    if let Some(enrolled) = &enrolled {
        findings.extend(enrolled.findings.iter().cloned());
        let leaf = parse_certificates(&text).ok().and_then(|found| found.into_iter().next());
        findings.extend(leaf.and_then(|leaf| enrolled.pinned(&leaf)));
    }
    findings.extend(judged);
    for finding in &findings {
        show(global, finding)?;
    }
    verdict(&findings)
}

/// Authorities in files count as verified: nobody else is asked.
fn authorities(paths: &[PathBuf]) -> Outcome<Vec<Anchor>> {
    let mut out = Vec::new();
    for path in paths {
        for certificate in files::certificates(path)? {
            let name = path.display().to_string();
            let anchor = Anchor::new(&name, certificate, true).map_err(|error| {
                CommandError::new(format!("{name} cannot be an authority: {error}")).hint(error.remedy())
            })?;
            out.push(anchor);
        }
    }
    Ok(out)
}

fn show(global: &Global, finding: &Finding) -> Outcome {
    let word = match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    if global.json {
        let remedy = &finding.remedy;
        return output::json(&json!({"check": finding.check, "level": word, "found": finding.found, "remedy": remedy}));
    }
    output::line(&format!("{word:8} {:20} {}", finding.check, finding.found))?;
    match &finding.remedy {
        Some(remedy) => output::line(&format!("{:8} {:20} remedy: {remedy}", "", "")),
        None => Ok(()),
    }
}

fn verdict(findings: &[Finding]) -> Outcome {
    match findings.iter().filter(|finding| finding.level == Level::Error).count() {
        0 => Ok(()),
        errors => {
            Err(CommandError::new(format!("the device would be refused: {errors} of {} checks failed", findings.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        lint: LintArgs,
    }

    #[test]
    fn one_thing_to_hold_it_against() {
        for (more, good) in [
            (&["f"][..], true),
            (&["f", "--ca", "a", "b", "--registration-id", "x"], true),
            (&["f", "--enrollment", "x", "--ca", "a"], false),
            (&["f", "--enrollment", "x", "--group-id", "g"], false),
        ] {
            assert_eq!(Line::try_parse_from([&["x"], more].concat()).is_ok(), good, "{more:?}");
        }
    }

    #[test]
    fn an_error_among_the_findings_fails() {
        let finding = |level| Finding { level, check: "x", found: String::new(), remedy: None };
        assert!(verdict(&[finding(Level::Ok), finding(Level::Warning)]).is_ok());
        assert_eq!(verdict(&[finding(Level::Ok), finding(Level::Error)]).unwrap_err().exit, 1);
    }
}
