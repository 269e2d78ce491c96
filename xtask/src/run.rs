//! Child processes. Each is named before it runs and has no standard input, so nothing can stop and ask a question.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use crate::fail::Fail;

/// A command to build up and run.
pub(crate) struct Step {
    command: Command,
    line: String,
}

impl Step {
    /// A command that runs in `dir`.
    pub(crate) fn new(program: impl AsRef<OsStr>, dir: &Path) -> Self {
        let mut command = Command::new(program.as_ref());
        command.current_dir(dir).stdin(Stdio::null());
        Self { line: shown(program.as_ref(), dir), command }
    }

    /// The cargo that runs us, in `dir`.
    pub(crate) fn cargo(dir: &Path) -> Self {
        let mut step = Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), dir);
        step.line = "cargo".into();
        // `cargo run` tells its child about the package it runs: a nested cargo would rebuild what looks at these.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                step.command.env_remove(&name);
            }
        }
        step
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.line.push(' ');
        let dir = self.command.get_current_dir().unwrap_or(Path::new("")).to_owned();
        self.line.push_str(&shown(arg.as_ref(), &dir));
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it with its output where ours goes.
    ///
    /// # Errors
    /// [`Fail::Setup`] if it does not start, [`Fail::Command`] if it ends with an error.
    pub(crate) fn run(mut self) -> Result<(), Fail> {
        announce(&self.line);
        let status = self.command.status().map_err(|error| self.not_started(&error))?;
        self.checked(status)
    }

    /// Runs it quietly and gives its standard output.
    ///
    /// # Errors
    /// As [`Step::run`]; what it wrote to standard error is shown when it fails.
    pub(crate) fn output(mut self) -> Result<String, Fail> {
        let output = self.command.output().map_err(|error| self.not_started(&error))?;
        if !output.status.success() {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
        }
        self.checked(output.status)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts it and does not wait; what it prints to standard output goes nowhere.
    ///
    /// # Errors
    /// [`Fail::Setup`] if it does not start.
    pub(crate) fn start(mut self) -> Result<Child, Fail> {
        announce(&self.line);
        self.command.stdout(Stdio::null()).spawn().map_err(|error| self.not_started(&error))
    }

    /// Whether it starts and succeeds; what it prints goes nowhere.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Runs it with its output passed on, and also gives every line to `look`, standard output and error in one stream.
    ///
    /// # Errors
    /// As [`Step::run`], after all lines have been seen.
    pub(crate) fn watch(mut self, mut look: impl FnMut(&str) + Send) -> Result<(), Fail> {
        announce(&self.line);
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|error| self.not_started(&error))?;
        let (out, err) = pipes(&mut child);
        let look = std::sync::Mutex::new(&mut look);
        let seen = |line: &str| match look.lock() {
            Ok(mut look) => look(line),
            Err(poisoned) => poisoned.into_inner()(line),
        };
        let status = thread::scope(|scope| {
            scope.spawn(|| pass_on(out, std::io::stdout(), &seen));
            scope.spawn(|| pass_on(err, std::io::stderr(), &seen));
            child.wait()
        });
        match status {
            Ok(status) => self.checked(status),
            Err(error) => Err(self.not_started(&error)),
        }
    }

    fn checked(&self, status: ExitStatus) -> Result<(), Fail> {
        if status.success() {
            return Ok(());
        }
        Err(Fail::Command { command: self.line.clone(), status: status.to_string() })
    }

    fn not_started(&self, error: &std::io::Error) -> Fail {
        let program = self.command.get_program().to_string_lossy().into_owned();
        Fail::setup(format!("`{}` did not start: {error}", self.line), format!("install `{program}`"))
    }
}

fn announce(line: &str) {
    // Our own lines and the child's go to one place in the order they happened.
    println!("$ {line}");
    let _ = std::io::stdout().flush();
}

/// An argument as a reader wants it: paths below `dir` relative to it, quoted where a shell would need it.
fn shown(arg: &OsStr, dir: &Path) -> String {
    let path = Path::new(arg).strip_prefix(dir).unwrap_or(Path::new(arg)).to_string_lossy().into_owned();
    if path.is_empty() || path.contains(char::is_whitespace) { format!("'{path}'") } else { path }
}

type Pipe = Box<dyn Read + Send>;

fn pipes(child: &mut Child) -> (Pipe, Pipe) {
    let out = child.stdout.take().map_or_else(|| Box::new(std::io::empty()) as Pipe, |pipe| Box::new(pipe) as Pipe);
    let err = child.stderr.take().map_or_else(|| Box::new(std::io::empty()) as Pipe, |pipe| Box::new(pipe) as Pipe);
    (out, err)
}

/// Copies until the end of input; bytes that are no UTF-8 pass unchanged and are looked at with replacement characters.
fn pass_on(from: impl Read, mut to: impl Write, seen: &(impl Fn(&str) + Sync)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A reader of ours that went away is no reason to stop the tests; their verdict is the exit code.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        seen(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_command_shows_every_line_of_both_streams_and_its_failure() {
        let mut lines = Vec::new();
        let step = Step::new("sh", Path::new("/")).args(["-c", "echo one; echo two >&2; exit 3"]);
        let result = step.watch(|line| lines.push(line.to_owned()));
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        assert!(matches!(result, Err(Fail::Command { .. })), "{result:?}");
    }

    #[test]
    fn a_command_has_no_standard_input_to_wait_for() {
        let text = Step::new("cat", Path::new("/")).output().unwrap();
        assert_eq!(text, "");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_set_up_failure_with_a_remedy() {
        let fail = Step::new("no-such-program-here", Path::new("/")).run().unwrap_err();
        assert!(fail.to_string().contains("remedy: install `no-such-program-here`"), "{fail}");
    }
}
