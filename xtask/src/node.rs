//! The packages of the end-to-end tests in Node, in the target directory: the unmodified Azure service SDKs at the versions of the lock
//! file. Made anew when that or Node changes, and otherwise kept.

use std::fs;
use std::path::PathBuf;

use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

/// Files of `tests-e2e/node` that say what is needed.
const WANTED: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs the packages if they are not there as wanted. Gives the directory that `NODE_PATH` has to name.
///
/// # Errors
/// If Node or npm are missing or fail.
pub(crate) fn prepare(workspace: &Workspace) -> Result<PathBuf, Fail> {
    let root = &workspace.root;
    let found = |path: &std::path::Path, error| Fail::Found(format!("{}: {error}", path.display()));
    let mut wanted = Step::new("node", root).arg("--version").output()?;
    let dir = workspace.target.join("node");
    fs::create_dir_all(&dir).map_err(|error| found(&dir, error))?;
    let mut files = Vec::new();
    for name in WANTED {
        let path = root.join("tests-e2e").join("node").join(name);
        let text = fs::read_to_string(&path).map_err(|error| found(&path, error))?;
        wanted.push_str(&text);
        files.push((dir.join(name), text));
    }
    let modules = dir.join("node_modules");
    // Written last, so that an interrupted set-up starts over.
    let stamp = dir.join("made-from");
    if modules.is_dir() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
        return Ok(modules);
    }
    for (path, text) in files {
        fs::write(&path, text).map_err(|error| found(&path, error))?;
    }
    // Exactly what the lock file says, and no package's own scripts.
    Step::new("npm", &dir)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .run()
        .map_err(|fail| {
            Fail::setup(format!("the Node packages could not be installed: {fail}"), "make the npm registry reachable")
        })?;
    fs::write(&stamp, wanted).map_err(|error| found(&stamp, error))?;
    Ok(modules)
}
