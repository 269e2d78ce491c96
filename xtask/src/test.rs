//! `cargo xtask test`: set-up, then every test of the project by its own runner.

use crate::counts::Runner;
use crate::fail::Fail;
use crate::report::Report;
use crate::run::Step;
use crate::workspace::Workspace;
use crate::{node, python, system};

/// What to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The end-to-end tests drive a release build.
    release: bool,
    /// Only this kind.
    only: Option<Kind>,
    /// Further arguments for pytest.
    pytest: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rust,
    Doc,
    EndToEnd,
}

impl Options {
    /// Reads the command line after `test`.
    ///
    /// # Errors
    /// [`Fail::Usage`].
    pub(crate) fn parse(args: &[String]) -> Result<Self, Fail> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--release" => options.release = true,
                "--only" => {
                    options.only = Some(match args.next().map(String::as_str) {
                        Some("rust") => Kind::Rust,
                        Some("doc") => Kind::Doc,
                        Some("e2e") => Kind::EndToEnd,
                        _ => return Err(Fail::Usage("--only takes rust, doc or e2e.".into())),
                    });
                }
                "--" => options.pytest.extend(args.by_ref().cloned()),
                other => return Err(Fail::Usage(format!("`{other}` is not an argument of test."))),
            }
        }
        Ok(options)
    }

    fn wants(&self, kind: Kind) -> bool {
        self.only.is_none_or(|only| only == kind)
    }
}

/// Runs the tests. A failed set-up or build skips what needs it, and is itself a failure.
pub(crate) fn run(workspace: &Workspace, options: &Options, report: &mut Report) {
    let end_to_end = options.wants(Kind::EndToEnd);
    // First what needs the network: it fails soon or not at all.
    let clients = end_to_end
        .then(|| {
            report.stage("set-up", || {
                system::prepare(&workspace.root)?;
                Ok((python::prepare(workspace)?, node::prepare(workspace)?))
            })
        })
        .flatten();

    if options.wants(Kind::Rust) && report.stage("build", || build_all(workspace)).is_some() {
        report.tests("tests", |counts| {
            let (runner, step) = rust_tests(workspace);
            step.watch(|line| runner.read(line).into_iter().for_each(|found| *counts += found))
        });
    }
    if options.wants(Kind::Doc) {
        report.tests("doc tests", |counts| {
            let step = Step::cargo(&workspace.root).args(["test", "--doc", "--workspace", "--no-fail-fast"]);
            step.watch(|line| Runner::Libtest.read(line).into_iter().for_each(|found| *counts += found))
        });
    }
    let Some((python, node_modules)) = clients else { return };
    if report.stage("build the binaries", || build_binaries(workspace, options.release)).is_none() {
        return;
    }
    report.tests("end to end", |counts| {
        let step = Step::new(python, &workspace.root)
            .args(["-m", "pytest", "tests-e2e"])
            .args(["-o", &format!("cache_dir={}", workspace.target.join("pytest").display())])
            .args(&options.pytest)
            .env("UNICITY_BIN", workspace.binary("unicity", options.release))
            .env("LOADTEST_BIN", workspace.binary("loadtest", options.release))
            .env("DEVICE_SIM_BIN", workspace.binary("device-sim", options.release))
            .env("NODE_PATH", &node_modules)
            .env("PYTHONPYCACHEPREFIX", workspace.target.join("pycache"))
            .env("PYTHONUNBUFFERED", "1");
        step.watch(|line| Runner::Pytest.read(line).into_iter().for_each(|found| *counts += found))
    });
}

fn build_all(workspace: &Workspace) -> Result<(), Fail> {
    Step::cargo(&workspace.root).args(["build", "--workspace", "--all-targets"]).run()
}

fn build_binaries(workspace: &Workspace, release: bool) -> Result<(), Fail> {
    let mode: &[&str] = if release { &["--release"] } else { &[] };
    Step::cargo(&workspace.root).args(["build", "-p", "unicity", "--bin", "unicity"]).args(mode).run()?;
    Step::cargo(&workspace.root).args(["build", "-p", "unicity-loadtest", "--bin", "loadtest"]).args(mode).run()?;
    Step::cargo(&workspace.root).args(["build", "-p", "unicity-device-sim", "--bin", "device-sim"]).args(mode).run()
}

/// nextest where it is installed (a process a test, and a hung one is killed), else what cargo brings. Both run all tests,
/// not only up to the first failure.
fn rust_tests(workspace: &Workspace) -> (Runner, Step) {
    let cargo = || Step::cargo(&workspace.root);
    if cargo().args(["nextest", "--version"]).succeeds() {
        (Runner::Nextest, cargo().args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"]))
    } else {
        (Runner::Libtest, cargo().args(["test", "--workspace", "--all-targets", "--no-fail-fast"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Fail> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_follows_the_dashes_goes_to_pytest() {
        let options = parse("--only e2e --release -- -k takeover --release").unwrap();
        assert!(options.release && options.wants(Kind::EndToEnd) && !options.wants(Kind::Rust));
        assert_eq!(options.pytest, ["-k", "takeover", "--release"]);
    }

    #[test]
    fn everything_runs_unless_told() {
        let options = parse("").unwrap();
        assert!([Kind::Rust, Kind::Doc, Kind::EndToEnd].iter().all(|kind| options.wants(*kind)));
        assert!(parse("--only fast").is_err() && parse("takeover").is_err());
    }
}
