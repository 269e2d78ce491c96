//! swtpm as a child process that holds one end of a socket pair: nothing to wait for at the start, no path that another
//! process could open, and it ends by itself when we are gone, however we go.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::SimError;

const PROGRAM: &str = "swtpm";
/// An RSA key takes a software TPM a few seconds at worst, on a busy machine some more.
const PATIENCE: Duration = Duration::from_secs(120);
const ANSWER_MAX: usize = 4096;
/// TPM_RC_YIELDED, TPM_RC_TESTING and TPM_RC_RETRY: send it again. The first use of a key that is subject to the
/// dictionary attack logic is answered so, for the TPM has to write that down first.
const AGAIN: [u32; 3] = [0x908, 0x90a, 0x922];
const SENT_MAX: u32 = 16;

/// A running swtpm, killed when dropped.
pub(super) struct Swtpm {
    child: Child,
    socket: UnixStream,
    log: PathBuf,
    /// Removed after the process; `None` for a folder of the caller's.
    _own_folder: Option<tempfile::TempDir>,
}

/// Finds swtpm where the system's programs are.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    find_in(&path)
}

fn find_in(path: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).map(|folder| folder.join(PROGRAM)).find(is_program)
}

impl Swtpm {
    /// Starts one with its state in `folder`, or in a temporary folder of its own.
    ///
    /// # Errors
    /// [`SimError::NoSwtpm`]; [`SimError::Tpm`] if it does not start.
    pub(super) fn start(folder: Option<&Path>) -> Result<Self, SimError> {
        let program = find().ok_or(SimError::NoSwtpm)?;
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| SimError::Tpm(format!("{what}: {error}"))
        };
        let (own_folder, folder) = match folder {
            Some(folder) => (None, folder.to_owned()),
            None => {
                let own = tempfile::Builder::new().prefix("unicity-tpm-").tempdir();
                let own = own.map_err(failed("a folder for the TPM"))?;
                let path = own.path().to_owned();
                (Some(own), path)
            }
        };
        let state = folder.join("state");
        std::fs::create_dir_all(&state).map_err(failed("a folder for the TPM's state"))?;
        let log = folder.join("swtpm.log");
        let log_file = std::fs::File::create(&log).map_err(failed("the TPM's log"))?;
        let (socket, theirs) = UnixStream::pair().map_err(failed("a socket pair"))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed("a time limit"))?;
        let mut tpm_state = std::ffi::OsString::from("dir=");
        tpm_state.push(&state);
        // It takes no descriptor below 3, and the standard library passes none above 2: a shell moves it.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"exec "$@" 3<&0 </dev/null"#, "sh"])
            .arg(program)
            .args(["socket", "--tpm2", "--fd", "3", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(tpm_state)
            // An interrupt at the terminal is for us: it ends when we have closed its socket.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(log_file);
        let child = command.spawn().map_err(failed("swtpm"))?;
        Ok(Self { child, socket, log, _own_folder: own_folder })
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// [`SimError::Tpm`] if the process is gone, with the end of its log.
    pub(super) fn transact(&mut self, command: &[u8]) -> Result<Vec<u8>, SimError> {
        let mut answer = self.exchange(command);
        for _ in 1..SENT_MAX {
            let code =
                answer.as_deref().ok().and_then(|bytes| bytes.get(6..10)?.try_into().ok()).map(u32::from_be_bytes);
            if !code.is_some_and(|code| AGAIN.contains(&code)) {
                break;
            }
            answer = self.exchange(command);
        }
        answer.map_err(|error| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last = log.lines().next_back().unwrap_or("it logged nothing");
            SimError::Tpm(format!("swtpm does not answer: {error}; {last}"))
        })
    }

    fn exchange(&mut self, command: &[u8]) -> std::io::Result<Vec<u8>> {
        self.socket.write_all(command)?;
        let mut answer = vec![0; 10];
        self.socket.read_exact(&mut answer)?;
        let length = answer.get(2..6).and_then(|size| size.try_into().ok()).map_or(0, u32::from_be_bytes);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(10..=ANSWER_MAX).contains(&length) {
            return Err(std::io::Error::other(format!("an answer of {length} bytes")));
        }
        answer.resize(length, 0);
        self.socket.read_exact(answer.get_mut(10..).unwrap_or_default())?;
        Ok(answer)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and still something to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_it_leaves_no_process_and_no_folder() {
        if find().is_none() {
            eprintln!("skipped: {}", SimError::NoSwtpm);
            return;
        }
        let mut process = Swtpm::start(None).unwrap();
        // TPM2_GetRandom of 8 bytes: it runs.
        let answer = process.transact(&[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8]).unwrap();
        assert_eq!(answer.len(), 20);
        let here = PathBuf::from(format!("/proc/{}", process.child.id()));
        let folder = process.log.parent().unwrap().to_owned();
        assert!(here.exists() && folder.exists());
        drop(process);
        assert!(!here.exists() && !folder.exists());
    }

    #[test]
    fn only_an_executable_file_is_a_program() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_in(folder.path().as_os_str()), None);
        let file = folder.path().join(PROGRAM);
        std::fs::write(&file, "").unwrap();
        assert_eq!(find_in(folder.path().as_os_str()), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in(folder.path().as_os_str()), Some(file));
    }
}
