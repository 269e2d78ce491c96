//! Programs from the crate registry, compiled once into the target directory at pinned versions.

use std::fs;
use std::path::PathBuf;

use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

/// One of them.
pub(crate) struct Tool {
    pub(crate) krate: &'static str,
    pub(crate) version: &'static str,
    /// The binary that is looked for; others of the crate lie beside it.
    pub(crate) binary: &'static str,
    /// More of `cargo install`.
    pub(crate) options: &'static [&'static str],
    /// Whether it knows `--version`; if not, cargo's list of what it installed is asked.
    pub(crate) says_its_version: bool,
}

/// Installs it if it is not there at its version; gives its path.
///
/// # Errors
/// [`Fail::Setup`] if it cannot be had.
pub(crate) fn install(workspace: &Workspace, tool: &Tool) -> Result<PathBuf, Fail> {
    let Tool { krate, version, .. } = tool;
    let root = workspace.target.join("tools");
    let path = root.join("bin").join(tool.binary);
    if is_pinned(workspace, tool, &path) {
        return Ok(path);
    }
    println!("{krate} {version} is compiled once into {}: some minutes", root.display());
    let installed = Step::cargo(&workspace.root)
        .args(["install", "--locked", "--force", "--version", version, "--root"])
        .arg(&root)
        .args(tool.options)
        .arg(krate)
        .run();
    match installed {
        Ok(()) if is_pinned(workspace, tool, &path) => Ok(path),
        Ok(()) => {
            Err(Fail::Found(format!("{} is not {krate} {version} although it was just installed", path.display())))
        }
        Err(fail) => Err(Fail::setup(
            format!("{krate} {version} is absent and could not be installed: {fail}"),
            "make the crate registry reachable, or put that version's binaries into target/tools/bin",
        )),
    }
}

fn is_pinned(workspace: &Workspace, tool: &Tool, path: &PathBuf) -> bool {
    let Tool { krate, version, .. } = tool;
    if !path.is_file() {
        return false;
    }
    if tool.says_its_version {
        let said = Step::new(path, &workspace.root).arg("--version").output();
        return said.is_ok_and(|text| text.trim() == format!("{krate} {version}"));
    }
    let list = fs::read_to_string(workspace.target.join("tools").join(".crates.toml")).unwrap_or_default();
    list.contains(&format!("\"{krate} {version} "))
}
