//! Development steps: `cargo xtask lint | test | bench | ci`. The only place for them, so that a person and the
//! continuous integration run the same commands, and a clean clone needs nothing but Rust, Python 3 and a package manager.
//!
//! Each step says what it runs, a step that cannot be set up fails with the remedy, and `test` and `ci` end with one line
//! `N passed, N failed` over all runners.

mod bench;
mod counts;
mod deny;
mod fail;
mod lint;
mod node;
mod python;
mod report;
mod run;
mod system;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use fail::Fail;
use report::Report;
use workspace::Workspace;

const USAGE: &str = "\
cargo xtask lint                                   format, clippy, tidy, dependency policy
cargo xtask test [--release] [--only WHAT] [-- PYTEST_ARGS]
                                                   set-up, then all tests; WHAT is rust, doc or e2e
cargo xtask bench NAME [ARGS]                      a benchmark in release mode (peers, all, ...); without NAME: which there are
cargo xtask ci                                     lint, then test: what a change must pass

One end-to-end test: cargo xtask test --only e2e -- -k takeover";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fail::Usage(message)) => {
            eprintln!("{message}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Fail::Said) => ExitCode::FAILURE,
        Err(fail) => {
            eprintln!("xtask: {fail}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), Fail> {
    let Some((command, rest)) = args.split_first() else {
        return Err(Fail::Usage("Which step?".into()));
    };
    match command.as_str() {
        "lint" => {
            none_left(rest)?;
            let mut report = Report::default();
            lint::run(&Workspace::find()?, &mut report);
            report.finish_lint()
        }
        "test" => {
            let options = test::Options::parse(rest)?;
            let mut report = Report::default();
            test::run(&Workspace::find()?, &options, &mut report);
            report.finish()
        }
        "ci" => {
            none_left(rest)?;
            let workspace = Workspace::find()?;
            let mut report = Report::default();
            lint::run(&workspace, &mut report);
            test::run(&workspace, &test::Options::default(), &mut report);
            report.finish()
        }
        "bench" => bench::run(&Workspace::find()?, rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Fail::Usage(format!("There is no step `{other}`."))),
    }
}

fn none_left(args: &[String]) -> Result<(), Fail> {
    match args.first() {
        None => Ok(()),
        Some(arg) => Err(Fail::Usage(format!("`{arg}` is not an argument of this step."))),
    }
}
