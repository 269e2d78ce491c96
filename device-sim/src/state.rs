//! What a fleet remembers between two runs, as devices keep it in their flash: each one's key, and where it was sent.
//!
//! One file of JSON lines, `devices.ndjson`, that is only ever appended to; of a device's lines the last one counts. A line
//! that a crash cut off is dropped.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use unicity_identity::RegistrationId;

const FILE: &str = "devices.ndjson";
/// Folder of the certificates that were made.
const CERTIFICATES: &str = "certificates";

/// One device as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Remembered {
    /// Who.
    pub registration_id: RegistrationId,
    /// The id scope that it registers in: in another one it is another device.
    pub id_scope: String,
    /// Its key, base64; absent with a certificate or a TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The hub that it was assigned; absent once the hub refused it for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Its id there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
}

/// A state folder.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    known: HashMap<RegistrationId, Remembered>,
    file: Mutex<File>,
}

impl State {
    /// Opens or makes a state folder, which only its owner may read. `fresh` forgets assignments, and keeps keys.
    ///
    /// # Errors
    /// With the path, if it cannot be read, written, or understood.
    pub fn open(folder: &Path, id_scope: &str, fresh: bool) -> Result<Self, String> {
        let at = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
        let path = folder.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| at(&path, &error))?;
        let text = fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
        let whole = text.rfind('\n').map_or(0, |last| last + 1);
        let mut known = HashMap::new();
        for (number, line) in (1..).zip(text.get(..whole).unwrap_or_default().lines()) {
            let mut device: Remembered =
                serde_json::from_str(line).map_err(|error| at(&path, &format!("line {number}: {error}")))?;
            if device.id_scope != id_scope {
                continue;
            }
            if fresh {
                (device.hub, device.device_id) = (None, None);
            }
            known.insert(device.registration_id.clone(), device);
        }
        // What follows the last whole line was cut off.
        file.set_len(whole as u64)
            .and_then(|()| file.seek(SeekFrom::End(0)).map(drop))
            .map_err(|error| at(&path, &error))?;
        Ok(Self { folder: folder.to_owned(), known, file: Mutex::new(file) })
    }

    /// What was known of a device when the folder was opened.
    #[must_use]
    pub fn device(&self, id: &RegistrationId) -> Option<&Remembered> {
        self.known.get(id)
    }

    /// Where certificates are kept.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.folder.join(CERTIFICATES)
    }

    /// Writes a device down.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn remember(&self, device: &Remembered) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(device)?;
        line.push(b'\n');
        self.file.lock().write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, hub: Option<&str>) -> Remembered {
        Remembered {
            registration_id: id.parse().unwrap(),
            id_scope: "0ne1".to_owned(),
            key: Some("a2V5".to_owned()),
            hub: hub.map(str::to_owned),
            device_id: hub.map(|_| id.to_owned()),
        }
    }

    #[test]
    fn the_last_whole_line_of_a_device_counts() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), "0ne1", false).unwrap();
        for (id, hub) in [("a", Some("hub.one")), ("b", Some("hub.one")), ("a", Some("hub.two")), ("b", None)] {
            state.remember(&device(id, hub)).unwrap();
        }
        state.file.lock().write_all(b"{\"registrationId\":\"a\",\"idSc").unwrap();
        let again = State::open(folder.path(), "0ne1", false).unwrap();
        let known = |state: &State, id: &str| state.device(&id.parse().unwrap()).cloned();
        assert_eq!(known(&again, "a"), Some(device("a", Some("hub.two"))));
        assert_eq!(known(&again, "b"), Some(device("b", None)));
        assert_eq!(known(&again, "c"), None);
        again.remember(&device("c", Some("hub.one"))).unwrap();

        let elsewhere = State::open(folder.path(), "0ne2", false).unwrap();
        assert_eq!(known(&elsewhere, "a"), None);
        let fresh = State::open(folder.path(), "0ne1", true).unwrap();
        assert_eq!(known(&fresh, "c"), Some(device("c", None)));
    }

    #[test]
    fn only_the_owner_may_read_it_and_nonsense_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        drop(State::open(folder.path(), "0ne1", false).unwrap());
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{}\n").unwrap();
        let error = State::open(folder.path(), "0ne1", false).unwrap_err();
        assert!(error.contains("line 1"), "{error}");
        assert!(State::open(Path::new("/dev/null/x"), "0ne1", false).is_err());
    }
}
