//! Signed notes under Ed25519: <https://c2sp.org/signed-note>.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use ring::{digest, rand};

const ED25519: u8 = 1;
const KEY_LEN: usize = 32;
/// An honest note has some hundred bytes, and some thousand with the signatures of witnesses.
const NOTE_BYTES_MAX: usize = 1_000_000;
const SIGNATURES_MAX: usize = 100;
const SIGNATURE_START: &str = "\u{2014} ";

/// Why a note, or a key, is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// It has not the form of a signed note.
    #[error("it is no signed note: {0}")]
    Malformed(&'static str),
    /// No signature is by the key.
    #[error("it is not signed by {0}")]
    NotSigned(String),
    /// A signature claims the key, and is none of it.
    #[error("its signature by {0} does not verify")]
    BadSignature(String),
    /// A public key has not the form of one.
    #[error("the public key is no verifier key of a signed note under Ed25519: {0}")]
    Key(&'static str),
    /// A private key has not the form of one.
    #[error("the private key is no Ed25519 key in PKCS#8")]
    PrivateKey,
    /// The system gives no random bytes.
    #[error("the system has no random bytes for a key")]
    Random,
}

/// A name that a key may have.
fn check_name(name: &str) -> Result<(), NoteError> {
    let is_good = !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control());
    if is_good { Ok(()) } else { Err(NoteError::Key("its name is empty, or has spaces or a plus sign")) }
}

fn key_id(name: &str, key: &[u8]) -> [u8; 4] {
    let mut context = digest::Context::new(&digest::SHA256);
    [name.as_bytes(), b"\n", &[ED25519], key].iter().for_each(|part| context.update(part));
    let mut id = [0; 4];
    id.copy_from_slice(&context.finish().as_ref()[..4]);
    id
}

/// A public key with its name. As text it is a *vkey*: the name, the key's id in hexadecimal, and the key in base64, with plus
/// signs between.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: [u8; KEY_LEN],
}

impl VerifierKey {
    fn new(name: &str, key: [u8; KEY_LEN]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), id: key_id(name, &key), key })
    }

    /// The key's name: for a log's key its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note, if this key signed it. Signatures of keys that are not this one are ignored.
    ///
    /// # Errors
    /// [`NoteError`]: the text must not be believed then.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = split(note)?;
        let mut signed = false;
        for line in signatures.lines() {
            let (name, signature) = parse_signature(line)?;
            let Some((id, signature)) = signature.split_first_chunk() else {
                return Err(NoteError::Malformed("a signature is too short"));
            };
            if name != self.name || *id != self.id {
                continue;
            }
            UnparsedPublicKey::new(&signature::ED25519, self.key)
                .verify(text.as_bytes(), signature)
                .map_err(|_| NoteError::BadSignature(self.name.clone()))?;
            signed = true;
        }
        if signed { Ok(text) } else { Err(NoteError::NotSigned(self.to_string())) }
    }
}

/// The text of a note, whoever signed it: nothing in it is proven.
///
/// # Errors
/// [`NoteError::Malformed`].
pub fn note_text(note: &str) -> Result<&str, NoteError> {
    Ok(split(note)?.0)
}

/// Text, with its last newline, and signature lines.
fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Malformed("it is too long"));
    }
    if note.contains(|c: char| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed("it has no empty line before its signatures"))?;
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    if !signatures.ends_with('\n') {
        return Err(NoteError::Malformed("it does not end with a line of a signature"));
    }
    if signatures.lines().count() > SIGNATURES_MAX {
        return Err(NoteError::Malformed("it has too many signatures"));
    }
    Ok((text, signatures))
}

fn parse_signature(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let malformed = NoteError::Malformed("a line is no signature");
    let parts = line.strip_prefix(SIGNATURE_START).and_then(|rest| rest.split_once(' '));
    let Some((name, signature)) = parts else { return Err(malformed) };
    check_name(name).map_err(|_| malformed.clone())?;
    Ok((name, STANDARD.decode(signature).map_err(|_| malformed)?))
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim_end().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it is not a name, an id and a key with plus signs between"));
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key("its key is no base64"))?;
        let Some((&[ED25519], key)) = key.split_first_chunk() else {
            return Err(NoteError::Key("its algorithm is not Ed25519"));
        };
        let key = Self::new(name, key.try_into().map_err(|_| NoteError::Key("its key has not 32 bytes"))?)?;
        if hex(&key.id) == id { Ok(key) } else { Err(NoteError::Key("its id is not that of its name and key")) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ED25519][..], &self.key].concat());
        write!(f, "{}+{}+{key}", self.name, hex(&self.id))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A private key with its name.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifierKey,
}

impl SigningKey {
    /// A new private key, as PKCS#8 in DER.
    ///
    /// # Errors
    /// [`NoteError::Random`].
    pub fn generate() -> Result<Vec<u8>, NoteError> {
        let document = Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new()).map_err(|_| NoteError::Random)?;
        Ok(document.as_ref().to_vec())
    }

    /// A private key in PKCS#8, version 1 or 2, under a name.
    ///
    /// # Errors
    /// [`NoteError::PrivateKey`], or [`NoteError::Key`] for the name.
    pub fn from_pkcs8(name: &str, der: &[u8]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NoteError::PrivateKey)?;
        Self::of_pair(name, pair)
    }

    /// The private key of a seed, as RFC 8032 has it, under a name.
    ///
    /// # Errors
    /// [`NoteError::Key`] for the name.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::PrivateKey)?;
        Self::of_pair(name, pair)
    }

    fn of_pair(name: &str, pair: Ed25519KeyPair) -> Result<Self, NoteError> {
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoteError::PrivateKey)?;
        Ok(Self { public: VerifierKey::new(name, key)?, pair })
    }

    /// The public key.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.public
    }

    /// A note of `text`, which has to end with a newline.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = [&self.public.id, self.pair.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n{SIGNATURE_START}{} {}\n", self.public.name, STANDARD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}
