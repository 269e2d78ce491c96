//! TPM 2.0 commands as bytes, as few as a device needs (TPM 2.0 library, part 3), and their answers.
//!
//! Every command here is authorized by an empty password, but for the endorsement key, whose policy wants the endorsement
//! hierarchy's (empty) secret.

use crate::SimError;

const WITHOUT_SESSIONS: u16 = 0x8001;
const WITH_SESSIONS: u16 = 0x8002;
const PASSWORD: u32 = 0x4000_0009;
const NULL: u32 = 0x4000_0007;
const SHA256: u16 = 0x000b;
const NO_ALGORITHM: u16 = 0x0010;
const AES_128_CFB: [u16; 3] = [0x0006, 128, 0x0043];
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const P256: u16 = 0x0003;
/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const ENDORSEMENT: u32 = 0x0003_00b2;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const STORAGE_ROOT: u32 = 0x0003_0472;
/// PolicySecret of the endorsement hierarchy (TCG EK credential profile, policy A).
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// The hierarchy of a primary key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hierarchy {
    Owner = 0x4000_0001,
    Endorsement = 0x4000_000b,
}

/// What kind of key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    Rsa2048,
    EccP256,
}

/// Bytes in the making, big-endian.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A TPM2B: 16 bits of size, then the content. What is put here is far below 64 KiB.
    fn sized(self, bytes: &[u8]) -> Self {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).raw(bytes)
    }
}

/// An authorization that is an empty password.
fn password(bytes: Bytes) -> Bytes {
    session(bytes, PASSWORD)
}

/// An authorization by a session that ends with the command.
fn session(bytes: Bytes, handle: u32) -> Bytes {
    bytes.u32(handle).sized(&[]).raw(&[0]).sized(&[])
}

fn command(code: u32, handles: &[u32], authorizations: Option<Bytes>, parameters: Bytes) -> Vec<u8> {
    let tag = if authorizations.is_some() { WITH_SESSIONS } else { WITHOUT_SESSIONS };
    let mut body = handles.iter().fold(Bytes::default(), |bytes, handle| bytes.u32(*handle));
    if let Some(Bytes(authorizations)) = authorizations {
        body = body.u32(size(authorizations.len())).raw(&authorizations);
    }
    body = body.raw(&parameters.0);
    Bytes::default().u16(tag).u32(size(body.0.len() + 10)).u32(code).raw(&body.0).0
}

fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// TPM2_CreatePrimary with the template of an endorsement key or of a storage root key.
pub(super) fn create_primary(hierarchy: Hierarchy, pair: Pair) -> Vec<u8> {
    let (attributes, policy, coordinate): (u32, &[u8], usize) = match hierarchy {
        Hierarchy::Endorsement => (ENDORSEMENT, &ENDORSEMENT_POLICY, 32),
        Hierarchy::Owner => (STORAGE_ROOT, &[], 0),
    };
    let kind = match pair {
        Pair::Rsa2048 => RSA,
        Pair::EccP256 => ECC,
    };
    let mut public = Bytes::default().u16(kind).u16(SHA256).u32(attributes).sized(policy);
    public = AES_128_CFB.into_iter().fold(public, Bytes::u16).u16(NO_ALGORITHM);
    public = match pair {
        // Exponent 0 is 65537.
        Pair::Rsa2048 => public.u16(2048).u32(0).sized(&vec![0; coordinate * 8]),
        Pair::EccP256 => {
            let zeros = vec![0; coordinate];
            public.u16(P256).u16(NO_ALGORITHM).sized(&zeros).sized(&zeros)
        }
    };
    // No secret, no outside information, no PCRs.
    let parameters = Bytes::default().sized(&[0; 4]).sized(&public.0).sized(&[]).u32(0);
    command(0x131, &[hierarchy as u32], Some(password(Bytes::default())), parameters)
}

/// TPM2_StartAuthSession of a policy session.
pub(super) fn start_policy_session(nonce: [u8; 16]) -> Vec<u8> {
    let parameters = Bytes::default().sized(&nonce).sized(&[]).raw(&[1]).u16(NO_ALGORITHM).u16(SHA256);
    command(0x176, &[NULL, NULL], None, parameters)
}

/// TPM2_PolicySecret of the endorsement hierarchy.
pub(super) fn policy_secret(policy_session: u32) -> Vec<u8> {
    let parameters = Bytes::default().sized(&[]).sized(&[]).sized(&[]).u32(0);
    let handles = [Hierarchy::Endorsement as u32, policy_session];
    command(0x151, &handles, Some(password(Bytes::default())), parameters)
}

/// TPM2_ActivateCredential; `credential` and `secret` with their sizes.
pub(super) fn activate_credential(
    storage_root: u32,
    endorsement: u32,
    policy_session: u32,
    credential: &[u8],
    secret: &[u8],
) -> Vec<u8> {
    let authorizations = session(password(Bytes::default()), policy_session);
    let parameters = Bytes::default().raw(credential).raw(secret);
    command(0x147, &[storage_root, endorsement], Some(authorizations), parameters)
}

/// TPM2_Import; the three structures with their sizes, `inner_key` without.
pub(super) fn import(storage_root: u32, inner_key: &[u8], public: &[u8], duplicate: &[u8], seed: &[u8]) -> Vec<u8> {
    let parameters = Bytes::default().sized(inner_key).raw(public).raw(duplicate).raw(seed);
    let parameters = AES_128_CFB.into_iter().fold(parameters, Bytes::u16);
    command(0x156, &[storage_root], Some(password(Bytes::default())), parameters)
}

/// TPM2_Load; `private` and `public` with their sizes.
pub(super) fn load(storage_root: u32, private: &[u8], public: &[u8]) -> Vec<u8> {
    let parameters = Bytes::default().raw(private).raw(public);
    command(0x157, &[storage_root], Some(password(Bytes::default())), parameters)
}

/// TPM2_HMAC by the scheme of the key.
pub(super) fn hmac(key: u32, message: &[u8]) -> Vec<u8> {
    let parameters = Bytes::default().sized(message).u16(NO_ALGORITHM);
    command(0x155, &[key], Some(password(Bytes::default())), parameters)
}

/// TPM2_FlushContext of a loaded key or a session.
pub(super) fn flush(handle: u32) -> Vec<u8> {
    command(0x165, &[], None, Bytes::default().u32(handle))
}

/// An answer of the TPM, or what is left of it to read.
pub(super) struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    /// Checks the header. `what` is the command's name.
    ///
    /// # Errors
    /// [`SimError::Tpm`] with the TPM's response code.
    pub(super) fn read(bytes: &'a [u8], what: &str) -> Result<Self, SimError> {
        let mut answer = Self(bytes);
        let _tag = answer.take::<2>()?;
        let length = u32::from_be_bytes(answer.take()?);
        let code = u32::from_be_bytes(answer.take()?);
        if code != 0 {
            return Err(SimError::Tpm(format!("{what}: the TPM refuses with {code:#05x}")));
        }
        if length != size(bytes.len()) {
            return Err(cut());
        }
        Ok(answer)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SimError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(cut)?;
        self.0 = rest;
        Ok(*head)
    }

    /// A handle, or the size of the parameters.
    pub(super) fn u32(&mut self) -> Result<u32, SimError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    /// A TPM2B, with its size.
    pub(super) fn whole(&mut self) -> Result<&'a [u8], SimError> {
        let size = self.0.first_chunk::<2>().map(|size| usize::from(u16::from_be_bytes(*size)));
        let size = size.ok_or_else(cut)?;
        let (head, rest) = self.0.split_at_checked(2 + size).ok_or_else(cut)?;
        self.0 = rest;
        Ok(head)
    }

    /// A TPM2B's content.
    pub(super) fn content(&mut self) -> Result<&'a [u8], SimError> {
        self.whole().map(|whole| whole.get(2..).unwrap_or_default())
    }
}

fn cut() -> SimError {
    SimError::Tpm("an answer of the TPM is cut short".to_owned())
}

/// The six structures of an activation blob, each with its size (`device-mqtt.md` 3.1).
pub(super) struct Blob<'a> {
    pub(super) credential: &'a [u8],
    pub(super) credential_secret: &'a [u8],
    pub(super) duplicate: &'a [u8],
    pub(super) duplicate_secret: &'a [u8],
    pub(super) public: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Cuts by the sizes alone: what is in the structures is the TPM's to judge. What follows them is not looked at.
    ///
    /// # Errors
    /// [`SimError::Tpm`] if it ends too early.
    pub(super) fn cut(bytes: &'a [u8]) -> Result<Self, SimError> {
        let mut rest = Answer(bytes);
        let mut next = || rest.whole().map_err(|_| SimError::Tpm("the activation blob is cut short".to_owned()));
        Ok(Self {
            credential: next()?,
            credential_secret: next()?,
            duplicate: next()?,
            duplicate_secret: next()?,
            public: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_what_follows() {
        for command in [
            create_primary(Hierarchy::Owner, Pair::EccP256),
            create_primary(Hierarchy::Endorsement, Pair::Rsa2048),
            start_policy_session([7; 16]),
            policy_secret(1),
            activate_credential(1, 2, 3, &[0, 0], &[0, 0]),
            import(1, &[0; 16], &[0, 0], &[0, 0], &[0, 0]),
            load(1, &[0, 0], &[0, 0]),
            hmac(1, b"text"),
            flush(1),
        ] {
            assert_eq!(u32::from_be_bytes(*command[2..].first_chunk().unwrap()), size(command.len()));
        }
        // Tag, size and code, then one handle.
        assert_eq!(flush(0x8000_0001), [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65, 0x80, 0, 0, 1]);
    }

    #[test]
    fn a_refusal_names_command_and_code() {
        let answer = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x1d];
        let error = Answer::read(&answer, "TPM2_Load").err().unwrap();
        assert_eq!((error.kind(), error.to_string()), ("tpm", "TPM: TPM2_Load: the TPM refuses with 0x11d".to_owned()));
        for cut in 0..10 {
            assert!(Answer::read(&answer[..cut], "x").is_err());
        }
    }

    #[test]
    fn a_blob_is_cut_at_its_sizes_or_refused() {
        let blob = [0, 1, 9, 0, 0, 0, 2, 8, 8, 0, 0, 0, 1, 7, 0, 0];
        let parts = Blob::cut(&blob).unwrap();
        assert_eq!((parts.credential, parts.duplicate, parts.public), (&blob[..3], &blob[5..9], &blob[11..14]));
        for cut in 0..14 {
            assert!(Blob::cut(&blob[..cut]).is_err(), "{cut}");
        }
    }
}
