//! The dependency policy of `deny.toml`, checked by cargo-deny: licences, bans, sources.
//!
//! Not the advisories: they need a database from the network, and a new entry there would fail a commit that changed
//! nothing. `cargo deny check advisories` looks at them by hand or on a schedule.

use crate::fail::Fail;
use crate::run::Step;
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

const CARGO_DENY: Tool =
    Tool { krate: "cargo-deny", version: "0.18.3", binary: "cargo-deny", options: &[], says_its_version: true };

/// Installs cargo-deny into the target directory if it is not there, and runs it.
///
/// # Errors
/// If it cannot be installed, or if a dependency breaks the policy.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Fail> {
    let tool = tools::install(workspace, &CARGO_DENY)?;
    // It looks at what every platform would build; a build has fetched only what this one does.
    Step::cargo(&workspace.root).args(["fetch", "--locked"]).run()?;
    Step::new(tool, &workspace.root).args(["--offline", "check", "bans", "licenses", "sources"]).run()
}
