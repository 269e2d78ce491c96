//! The Python environment of the end-to-end tests, in the target directory: the unmodified Azure SDK and pytest at pinned
//! versions. Made anew when the requirements or the interpreter change, and otherwise kept.

use std::fs;
use std::path::PathBuf;

use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

/// Makes the environment if it is not there as wanted. Gives its interpreter.
///
/// # Errors
/// If `python3 -m venv` or pip fail.
pub(crate) fn prepare(workspace: &Workspace) -> Result<PathBuf, Fail> {
    let root = &workspace.root;
    let requirements = root.join("tests-e2e").join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .map_err(|error| Fail::Found(format!("{}: {error}", requirements.display())))?;
    let version =
        Step::new("python3", root).args(["-c", "import sys; print(sys.version, sys.base_prefix)"]).output()?;
    let wanted = format!("{}\n{wanted}", version.trim());

    let venv = workspace.target.join("python");
    let python = venv.join("bin").join("python");
    // Written last, so that an interrupted set-up starts over.
    let stamp = venv.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted)
        && Step::new(&python, root).arg("--version").succeeds()
    {
        return Ok(python);
    }
    Step::new("python3", root).args(["-m", "venv", "--clear"]).arg(&venv).run()?;
    Step::new(&python, root)
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements)
        .run()
        .map_err(|fail| {
            Fail::setup(
                format!("the Python packages could not be installed: {fail}"),
                "make the Python package index reachable",
            )
        })?;
    fs::write(&stamp, wanted).map_err(|error| Fail::Found(format!("{}: {error}", stamp.display())))?;
    Ok(python)
}
