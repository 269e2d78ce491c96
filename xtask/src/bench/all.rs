//! `cargo xtask bench all`: every benchmark, each one's output kept, so that each figure of PERFORMANCE.md has its source.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::options::Options;
use super::{OWN, example, examples};
use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

/// Arguments with which a benchmark is over within a minute or so; those that are not here are quick by default.
const QUICK: &[(&str, &[&str])] = &[
    ("peers", &["--quick"]),
    ("overload", &["--seconds", "5"]),
    ("curves", &["--seconds", "2"]),
    ("soak", &["--minutes", "1", "--devices", "5000"]),
    ("handshake", &["--rounds", "3"]),
    ("registry", &["--identities", "100000"]),
    ("unicity", &["--identities", "100000", "--rounds", "2"]),
    ("revoke", &["--sessions", "1000", "--members", "5000"]),
    ("idle", &["--connections", "1000"]),
    ("telemetry", &["--seconds", "2", "--rounds", "1"]),
];

/// Runs them one after the other; one that fails does not keep the others from running.
///
/// # Errors
/// [`Fail::Found`] with those that ended with an error. Missed goals are such an error for some of the examples.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let quick = Options::parse(args, &[], &["--quick"])?.has("--quick");
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder).map_err(|error| Fail::Found(format!("{}: {error}", folder.display())))?;
    let own = OWN.iter().map(|(name, _)| *name).filter(|name| !["all", "flame"].contains(name));
    let names: Vec<&str> = own.chain(examples(workspace).into_iter().map(|(_, name)| name)).collect();
    let mut failed = Vec::new();
    for name in names {
        let args = arguments(name, quick);
        println!("\n==== {name} {}", args.join(" "));
        let step = match OWN.iter().any(|(own, _)| *own == name) {
            // In a process of its own, so that its output can be kept.
            true => std::env::current_exe()
                .map_err(|error| Fail::Found(error.to_string()))
                .map(|own| Step::new(own, &workspace.root).args(["bench", name]).args(&args)),
            false => example(workspace, name, &args),
        };
        if let Err(fail) = step.and_then(|step| kept(step, &folder.join(format!("{name}.txt")))) {
            failed.push(format!("{name}: {fail}"));
        }
    }
    println!("\nThe outputs are in {}; flame graphs are made by `cargo xtask bench flame`.", folder.display());
    if failed.is_empty() { Ok(()) } else { Err(Fail::Found(failed.join("\n"))) }
}

fn arguments(name: &str, quick: bool) -> Vec<String> {
    let given = QUICK.iter().find(|(of, _)| *of == name && quick).map_or(&[][..], |(_, args)| args);
    given.iter().map(|arg| (*arg).to_owned()).collect()
}

/// Runs it with its output passed on, and written to `path` in any case.
fn kept(step: Step, path: &Path) -> Result<(), Fail> {
    let mut text = String::new();
    let ended = step.watch(|line| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    });
    fs::write(path, text).map_err(|error| Fail::Found(format!("{}: {error}", path.display())))?;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quick_run_has_arguments() {
        assert_eq!(arguments("peers", true), ["--quick"]);
        assert!(arguments("peers", false).is_empty() && arguments("log", true).is_empty());
    }
}
