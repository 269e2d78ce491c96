//! The dependency policy of `deny.toml`, checked by cargo-deny: licences, bans, sources.
//!
//! Not the advisories: they need a database from the network, and a new entry there would fail a commit that changed
//! nothing. `cargo deny check advisories` looks at them by hand or on a schedule.

use std::path::{Path, PathBuf};

use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

const VERSION: &str = "0.18.3";

/// Installs cargo-deny into the target directory if it is not there, and runs it.
///
/// # Errors
/// If it cannot be installed, or if a dependency breaks the policy.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Fail> {
    let tool = install(workspace)?;
    // It looks at what every platform would build; a build has fetched only what this one does.
    Step::cargo(&workspace.root).args(["fetch", "--locked"]).run()?;
    Step::new(tool, &workspace.root).args(["--offline", "check", "bans", "licenses", "sources"]).run()
}

fn install(workspace: &Workspace) -> Result<PathBuf, Fail> {
    let root = workspace.target.join("tools");
    let tool = root.join("bin").join("cargo-deny");
    if is_pinned(&tool, &workspace.root) {
        return Ok(tool);
    }
    println!("cargo-deny {VERSION} is compiled once into {}: some minutes", root.display());
    let installed = Step::cargo(&workspace.root)
        .args(["install", "--locked", "--force", "--version", VERSION, "--root"])
        .arg(&root)
        .arg("cargo-deny")
        .run();
    match installed {
        Ok(()) if is_pinned(&tool, &workspace.root) => Ok(tool),
        Ok(()) => {
            Err(Fail::Found(format!("{} is not cargo-deny {VERSION} although it was just installed", tool.display())))
        }
        Err(fail) => Err(Fail::setup(
            format!("cargo-deny {VERSION} is absent and could not be installed: {fail}"),
            "make the crate registry reachable, or put that version's binary into target/tools/bin",
        )),
    }
}

fn is_pinned(tool: &Path, dir: &Path) -> bool {
    tool.is_file()
        && Step::new(tool, dir)
            .arg("--version")
            .output()
            .is_ok_and(|text| text.trim() == format!("cargo-deny {VERSION}"))
}
