//! `cargo xtask lint`: what can be known about the code without running it.

use crate::fail::Fail;
use crate::report::Report;
use crate::run::Step;
use crate::workspace::Workspace;
use crate::{deny, tidy};

/// Runs every check, also after one has failed: a person wants to see all of it at once.
pub(crate) fn run(workspace: &Workspace, report: &mut Report) {
    let cargo = || Step::cargo(&workspace.root);
    report.stage("tidy", || tidy::run(workspace));
    report.stage("format", || {
        component(cargo().args(["fmt", "--version"]), "rustfmt")?;
        cargo().args(["fmt", "--all", "--", "--check"]).run()
    });
    report.stage("clippy", || {
        component(cargo().args(["clippy", "--version"]), "clippy")?;
        cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()
    });
    report.stage("dependencies", || deny::run(workspace));
}

fn component(version: Step, name: &str) -> Result<(), Fail> {
    if version.succeeds() {
        return Ok(());
    }
    Err(Fail::setup(format!("{name} is not installed"), format!("rustup component add {name}")))
}
