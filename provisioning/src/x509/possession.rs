//! Proof of possession: who uploads an authority shows that its key is at hand, by signing a certificate for a code
//! that nobody could know before (`service-rest.md` 8.2).

use unicity_identity::{Entropy, Timestamp};

use super::certificate::Certificate;
use super::name::CommonNameError;
use super::signature::Standing;
use super::validity::{OutOfTime, check_validity};

/// A verification code: 48 upper-case hexadecimal digits. A new one makes the old one worthless; whoever stores it sees
/// to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationCode(String);

/// The text is no verification code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a verification code has 48 hexadecimal digits")]
pub struct InvalidCode;

impl VerificationCode {
    /// Draws a new one, 192 bits.
    pub fn generate(entropy: &mut Entropy) -> Self {
        Self(super::summary::upper_hex(&entropy.draw()[..24]))
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for VerificationCode {
    type Err = InvalidCode;
    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        let well = text.len() == 48 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if well { Ok(Self(text.to_ascii_uppercase())) } else { Err(InvalidCode) }
    }
}

impl std::fmt::Display for VerificationCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a certificate proves nothing about an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PossessionRefusal {
    /// The authority's own certificate was sent back.
    #[error("this is the authority's own certificate, not one that it signed for the code")]
    AuthorityItself,
    /// Issued by another.
    #[error("the verification certificate was issued by {found}, not by {expected}")]
    OtherIssuer {
        /// Its issuer.
        found: String,
        /// The authority.
        expected: String,
    },
    /// Signed with a hash that counts no more.
    #[error("the verification certificate is signed by {algorithm}, which is not accepted")]
    SignatureAlgorithm {
        /// The algorithm.
        algorithm: String,
    },
    /// Signed by another key.
    #[error("the verification certificate names the authority, but the authority's key did not sign it")]
    Signature,
    /// No usable CN.
    #[error("the verification certificate is not for the code: {0}")]
    NoCommonName(CommonNameError),
    /// For another code, such as an older one.
    #[error("the verification certificate is for CN={found:?}, the code is {expected}")]
    OtherCode {
        /// Its CN, cut to 64 characters.
        found: String,
        /// The code that was given last.
        expected: VerificationCode,
    },
    /// It is not its time.
    #[error("the verification certificate is out of time: {0}")]
    OutOfTime(#[from] OutOfTime),
}

impl PossessionRefusal {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::OtherCode { expected, .. } => {
                format!("issue it with the subject CN={expected}; a code that was asked for anew replaces the one before")
            }
            Self::NoCommonName(_) => "issue it with the code as its one common name (CN)".into(),
            Self::OutOfTime(error) => error.remedy().into(),
            Self::SignatureAlgorithm { .. } => "sign it with SHA-256 (`-sha256`)".into(),
            _ => "make a key, a request with the subject CN=CODE, and sign it with the authority's key: `openssl x509 -req -in \
                  REQUEST -CA CA.pem -CAkey CA.key -days 1 -sha256`"
                .into(),
        }
    }
}

/// Checks a verification certificate: issued by the authority, signed by its key, for the code, within its dates.
///
/// # Errors
/// [`PossessionRefusal`] with the first check that failed.
pub fn check_possession(
    authority: &Certificate,
    code: &VerificationCode,
    proof: &Certificate,
    now: Timestamp,
    skew_seconds: u64,
) -> Result<(), PossessionRefusal> {
    if proof.der() == authority.der() || proof.is_same_entity(authority) {
        return Err(PossessionRefusal::AuthorityItself);
    }
    if proof.issuer_der() != authority.subject_der() {
        return Err(PossessionRefusal::OtherIssuer {
            found: proof.summary().short().issuer,
            expected: authority.summary().short().subject,
        });
    }
    let algorithm = proof.signature_algorithm();
    if algorithm.standing != Standing::Accepted {
        return Err(PossessionRefusal::SignatureAlgorithm { algorithm: algorithm.name.clone() });
    }
    if !proof.is_signed_by(authority) {
        return Err(PossessionRefusal::Signature);
    }
    let found = proof.common_name().map_err(|why| PossessionRefusal::NoCommonName(why.clone()))?;
    if !found.eq_ignore_ascii_case(code.as_str()) {
        return Err(PossessionRefusal::OtherCode { found: found.chars().take(64).collect(), expected: code.clone() });
    }
    Ok(check_validity(proof.summary(), now, skew_seconds)?)
}
