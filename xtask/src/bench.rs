//! `cargo xtask bench NAME`: benchmarks are examples named `bench_NAME` of the crate they measure, built in release mode.
//! They print what they measured and decide nothing: timing never decides a test.

use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

const PREFIX: &str = "bench_";

/// Runs the benchmark that `args` name, with the arguments after the name.
///
/// # Errors
/// [`Fail::Usage`] if there is none of that name, else as the benchmark ends.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let known: Vec<(&str, &str)> = workspace
        .packages
        .iter()
        .flat_map(|package| package.examples.iter().map(|example| (package.name.as_str(), example.as_str())))
        .filter_map(|(package, example)| Some((package, example.strip_prefix(PREFIX)?)))
        .collect();
    let chosen = args.split_first().and_then(|(name, rest)| {
        let (package, name) = known.iter().find(|(_, known)| known == name)?;
        Some((package, name, rest))
    });
    let Some((package, name, rest)) = chosen else {
        let names: Vec<_> = known.iter().map(|(_, name)| *name).collect();
        return Err(Fail::Usage(format!("Which benchmark? There are: {}", names.join(", "))));
    };
    if *package == "unicity" {
        // What it measures is the program, which an example does not bring with it.
        Step::cargo(&workspace.root).args(["build", "--release", "-p", package]).run()?;
    }
    Step::cargo(&workspace.root)
        .args(["run", "--release", "-p", package, "--example", &format!("{PREFIX}{name}"), "--"])
        .args(rest)
        .run()
}
