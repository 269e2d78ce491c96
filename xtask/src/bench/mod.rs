//! `cargo xtask bench NAME`: what the figures of PERFORMANCE.md come from. Benchmarks print what they measured and decide
//! nothing: timing never decides a test.
//!
//! Some are here and drive the load test (`peers`, `overload`, `soak`, `curves`, `flame`, and `all` of them); the others are examples
//! named `bench_NAME` of the crate they measure. All is built in release mode.

mod all;
mod curves;
mod flame;
mod loadtest;
mod machine;
mod options;
mod peers;
mod pressure;
mod stats;
mod table;

use crate::fail::Fail;
use crate::run::Step;
use crate::workspace::Workspace;

const PREFIX: &str = "bench_";
/// Those that are not examples, with their arguments.
const OWN: &[(&str, &str)] = &[
    (
        "peers",
        "[--rounds N] [--seconds S] [--quick] [--json OUT]: each target of the speed work, beside bare TLS and mosquitto",
    ),
    ("overload", "[--seconds S]: goodput at three times the rate that can be done"),
    ("soak", "[--minutes M] [--devices N]: devices that each send every 20 s"),
    ("curves", "[--seconds S]: telemetry by senders, registrations by the rate offered"),
    ("flame", "[register|telemetry]: flame graphs into docs/"),
    ("all", "[--quick]: peers, then every other, each into target/bench/NAME.txt"),
];

/// Runs the benchmark that `args` name, with the arguments after the name.
///
/// # Errors
/// [`Fail::Usage`] if there is none of that name, else as the benchmark ends.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Fail> {
    let (name, rest) = args.split_first().map_or(("", args), |(name, rest)| (name.as_str(), rest));
    match name {
        "peers" => peers::run(workspace, rest),
        "overload" => pressure::overload(workspace, rest),
        "soak" => pressure::soak(workspace, rest),
        "curves" => curves::run(workspace, rest),
        "flame" => flame::run(workspace, rest),
        "all" => all::run(workspace, rest),
        _ => example(workspace, name, rest)?.run(),
    }
}

/// The examples that are benchmarks: package and name.
fn examples(workspace: &Workspace) -> Vec<(&str, &str)> {
    workspace
        .packages
        .iter()
        .flat_map(|package| package.examples.iter().map(|example| (package.name.as_str(), example.as_str())))
        .filter_map(|(package, example)| Some((package, example.strip_prefix(PREFIX)?)))
        .collect()
}

/// The command of one that is an example; what it measures is built.
fn example(workspace: &Workspace, name: &str, args: &[String]) -> Result<Step, Fail> {
    let known = examples(workspace);
    let Some((package, name)) = known.iter().find(|(_, known)| *known == name) else {
        let own: Vec<_> = OWN.iter().map(|(name, what)| format!("\n  {name} {what}")).collect();
        let names: Vec<_> = known.iter().map(|(_, name)| *name).collect();
        return Err(Fail::Usage(format!("Which benchmark? There are:{}\n  {}", own.concat(), names.join(", "))));
    };
    if *package == "unicity" {
        // What it measures is the program, which an example does not bring with it.
        Step::cargo(&workspace.root).args(["build", "--release", "-p", package]).run()?;
    }
    Ok(Step::cargo(&workspace.root)
        .args(["run", "--release", "-p", package, "--example", &format!("{PREFIX}{name}"), "--"])
        .args(args))
}
