//! `loadtest`: the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("loadtest: no workload is built in yet");
    ExitCode::from(2)
}
