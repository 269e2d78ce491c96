//! The hashes of the tree: RFC 6962, section 2.1, with SHA-256.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

/// A hash of the tree: of an entry, or of the two subtrees below.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// The root of a tree without entries.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(&[])
    }

    /// The hash of an entry. The first byte keeps it apart from [`Hash::node`].
    #[must_use]
    pub fn leaf(entry: &[u8]) -> Self {
        Self::of(&[&[0], entry])
    }

    /// The hash over two subtrees.
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        Self::of(&[&[1], &left.0, &right.0])
    }

    /// The hash over hashes of one level, as if they were all that there is.
    #[must_use]
    pub(crate) fn over(hashes: &[Self]) -> Self {
        match hashes {
            [] => Self::empty(),
            [one] => *one,
            more => {
                let (left, right) = more.split_at(1 << (more.len() - 1).ilog2());
                Self::node(&Self::over(left), &Self::over(right))
            }
        }
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut bytes = [0; Self::LEN];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// In base64, as checkpoints and proofs have it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// From base64; `None` unless it is exactly 32 bytes.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}
