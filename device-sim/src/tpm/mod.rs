//! A device's TPM: swtpm, driven over its socket by commands of our own. Keys never leave it: what signs a token here is
//! a key that the server sealed for this TPM, and that only this TPM could open.

mod command;
mod swtpm;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use unicity_identity::Environment;

use crate::SimError;
use command::{Answer, Blob, Hierarchy, Pair};
use swtpm::Swtpm;

/// The kind of a TPM's endorsement key, as the TCG's templates have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndorsementKind {
    /// RSA 2048, with an RSA storage root key as the SDKs make it.
    Rsa2048,
    /// ECC P-256, with a storage root key on the same curve.
    EccP256,
}

impl FromStr for EndorsementKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rsa" => Ok(Self::Rsa2048),
            "ecc" => Ok(Self::EccP256),
            _ => Err(format!("{text:?} is neither `rsa` nor `ecc`")),
        }
    }
}

/// A software TPM with an endorsement key and a storage root key. A clone is the same TPM; it ends with the last one.
#[derive(Clone)]
pub struct SoftTpm(Arc<Inner>);

struct Inner {
    chip: Mutex<Chip>,
    endorsement_key: Vec<u8>,
    storage_root_key: Vec<u8>,
}

/// The process, and the handles of what is loaded.
struct Chip {
    process: Swtpm,
    endorsement: u32,
    storage_root: u32,
    /// The HMAC key that the server gave last.
    signing: Option<u32>,
}

impl SoftTpm {
    /// Whether swtpm is installed.
    #[must_use]
    pub fn is_available() -> bool {
        swtpm::find().is_some()
    }

    /// Starts a TPM and makes its keys. With a `folder` its seeds stay there, and the next start makes the same keys;
    /// else it is a new TPM. Blocks: an RSA key takes from half a second to some seconds.
    ///
    /// # Errors
    /// [`SimError::NoSwtpm`]; [`SimError::Tpm`].
    pub fn start(kind: EndorsementKind, folder: Option<&Path>) -> Result<Self, SimError> {
        let mut process = Swtpm::start(folder)?;
        let pair = match kind {
            EndorsementKind::Rsa2048 => Pair::Rsa2048,
            EndorsementKind::EccP256 => Pair::EccP256,
        };
        let mut create = |hierarchy| -> Result<(u32, Vec<u8>), SimError> {
            let answer = process.transact(&command::create_primary(hierarchy, pair))?;
            let mut answer = Answer::read(&answer, "TPM2_CreatePrimary")?;
            let (handle, _size) = (answer.u32()?, answer.u32()?);
            Ok((handle, answer.whole()?.to_vec()))
        };
        let (endorsement, endorsement_key) = create(Hierarchy::Endorsement)?;
        let (storage_root, storage_root_key) = create(Hierarchy::Owner)?;
        let chip = Mutex::new(Chip { process, endorsement, storage_root, signing: None });
        Ok(Self(Arc::new(Inner { chip, endorsement_key, storage_root_key })))
    }

    /// Another TPM that shows the public keys of this one: all of a TPM that a thief can copy. Blocks.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) fn impostor(&self) -> Result<Self, SimError> {
        let Inner { chip, .. } = Arc::into_inner(Self::start(EndorsementKind::EccP256, None)?.0)
            .ok_or_else(|| SimError::Tpm("a new TPM is shared already".to_owned()))?;
        let (endorsement_key, storage_root_key) = (self.0.endorsement_key.clone(), self.0.storage_root_key.clone());
        Ok(Self(Arc::new(Inner { chip, endorsement_key, storage_root_key })))
    }

    /// The endorsement key's TPM2B_PUBLIC, by which an enrollment knows this TPM.
    #[must_use]
    pub fn endorsement_key(&self) -> &[u8] {
        &self.0.endorsement_key
    }

    /// The storage root key's TPM2B_PUBLIC.
    #[must_use]
    pub fn storage_root_key(&self) -> &[u8] {
        &self.0.storage_root_key
    }

    /// Opens an activation blob and loads its key, which signs from now on instead of the one before.
    ///
    /// # Errors
    /// [`SimError::Tpm`] if it was made for another TPM, or changed.
    pub async fn take(&self, blob: Vec<u8>, env: &Environment) -> Result<(), SimError> {
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&env.entropy().draw()[..16]);
        self.work(move |chip| chip.take(&blob, nonce)).await
    }

    /// HMAC-SHA-256 under the key that was taken last.
    ///
    /// # Errors
    /// [`SimError::Tpm`] if there is none.
    pub async fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, SimError> {
        self.work(move |chip| chip.sign(&message)).await
    }

    /// A TPM does one thing at a time and takes its time for it: not on the runtime's threads.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Chip) -> Result<T, SimError> + Send + 'static,
    ) -> Result<T, SimError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&mut inner.chip.lock())).await;
        done.unwrap_or_else(|error| Err(SimError::Tpm(error.to_string())))
    }
}

impl fmt::Debug for SoftTpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoftTpm")
    }
}

impl Chip {
    fn take(&mut self, blob: &[u8], nonce: [u8; 16]) -> Result<(), SimError> {
        let blob = Blob::cut(blob)?;
        let inner_key = self.activate(&blob, nonce)?;
        let import = command::import(self.storage_root, &inner_key, blob.public, blob.duplicate, blob.duplicate_secret);
        let imported = self.process.transact(&import)?;
        let mut imported = Answer::read(&imported, "TPM2_Import")?;
        let _size = imported.u32()?;
        let private = imported.whole()?;
        // There is room for three keys, and two are the TPM's own.
        if let Some(old) = self.signing.take() {
            self.flush(old)?;
        }
        let loaded = self.process.transact(&command::load(self.storage_root, private, blob.public))?;
        self.signing = Some(Answer::read(&loaded, "TPM2_Load")?.u32()?);
        Ok(())
    }

    /// The inner wrapper's key.
    fn activate(&mut self, blob: &Blob<'_>, nonce: [u8; 16]) -> Result<Vec<u8>, SimError> {
        let started = self.process.transact(&command::start_policy_session(nonce))?;
        let session = Answer::read(&started, "TPM2_StartAuthSession")?.u32()?;
        let activated = self.activate_in(session, blob);
        if activated.is_err() {
            // A command that succeeds ends its session; one that fails leaves it.
            let _ = self.flush(session);
        }
        activated
    }

    fn activate_in(&mut self, session: u32, blob: &Blob<'_>) -> Result<Vec<u8>, SimError> {
        let secret = self.process.transact(&command::policy_secret(session))?;
        Answer::read(&secret, "TPM2_PolicySecret")?;
        let (root, endorsement) = (self.storage_root, self.endorsement);
        let activate =
            command::activate_credential(root, endorsement, session, blob.credential, blob.credential_secret);
        let activated = self.process.transact(&activate)?;
        let mut activated = Answer::read(&activated, "TPM2_ActivateCredential")?;
        let _size = activated.u32()?;
        Ok(activated.content()?.to_vec())
    }

    fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>, SimError> {
        let key = self.signing.ok_or_else(|| SimError::Tpm("it has no key to sign with yet".to_owned()))?;
        let signed = self.process.transact(&command::hmac(key, message))?;
        let mut signed = Answer::read(&signed, "TPM2_HMAC")?;
        let _size = signed.u32()?;
        Ok(signed.content()?.to_vec())
    }

    fn flush(&mut self, handle: u32) -> Result<(), SimError> {
        let flushed = self.process.transact(&command::flush(handle))?;
        Answer::read(&flushed, "TPM2_FlushContext").map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tpm_has_keys_of_its_own_and_keeps_them_in_its_folder() {
        if !SoftTpm::is_available() {
            eprintln!("skipped: {}", SimError::NoSwtpm);
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let start = |folder| SoftTpm::start(EndorsementKind::EccP256, folder).unwrap();
        let first = start(Some(folder.path()));
        let (endorsement, root) = (first.endorsement_key().to_vec(), first.storage_root_key().to_vec());
        // TPM2B size, then type ECC and name algorithm SHA-256.
        assert_eq!((&endorsement[2..6], &root[2..6]), (&[0, 0x23, 0, 0x0b][..], &[0, 0x23, 0, 0x0b][..]));
        drop(first);
        let again = start(Some(folder.path()));
        assert_eq!(again.endorsement_key(), endorsement);
        assert_ne!(start(None).endorsement_key(), endorsement);
    }

    #[tokio::test]
    async fn what_the_server_did_not_make_for_it_is_refused() {
        if !SoftTpm::is_available() {
            eprintln!("skipped: {}", SimError::NoSwtpm);
            return;
        }
        let env = Environment::new(|| unicity_identity::Timestamp(1_790_000_000_000), || [7; 32]);
        let tpm = SoftTpm::start(EndorsementKind::EccP256, None).unwrap();
        assert!(tpm.sign(b"text".to_vec()).await.unwrap_err().to_string().contains("no key to sign with"));
        let blob = [0, 4, 0, 2, 1, 1, 0, 2, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
        // More often than a TPM has sessions: a failure gives its session back.
        for _ in 0..8 {
            let error = tpm.take(blob.clone(), &env).await.unwrap_err();
            assert!(error.to_string().contains("TPM2_ActivateCredential"), "{error}");
        }
        assert!(tpm.take(vec![0, 9], &env).await.unwrap_err().to_string().contains("cut short"));
    }
}
