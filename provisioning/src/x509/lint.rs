//! What a device's certificate needs to be accepted, finding by finding: `unicity cert lint`.

use unicity_identity::{RegistrationId, Timestamp};

use super::anchor::Anchor;
use super::certificate::Certificate;
use super::chain::{DeviceChain, verify};
use super::encoding::{TextError, parse_certificates};
use super::signature::Standing;
use super::validity::check_validity;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works today, and should be changed.
    Warning,
    /// The device would be refused.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How grave.
    pub level: Level,
    /// What was looked at; stable, for scripts.
    pub check: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` if nothing.
    pub remedy: Option<String>,
}

/// What a certificate is held against.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// The registration that the device will ask for; `None`: its CN.
    pub registration_id: Option<&'a RegistrationId>,
    /// The authorities of enrollment groups; `None`: an individual enrollment, which pins the certificate itself.
    pub anchors: Option<&'a [Anchor]>,
    /// The time.
    pub now: Timestamp,
    /// Patience for clocks that differ, in seconds.
    pub skew_seconds: u64,
}

/// Before the end of a certificate a warning is given, in seconds: 30 days.
const ENDS_SOON_SECONDS: u64 = 30 * 86_400;

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, check: &'static str, found: impl Into<String>, remedy: &str) {
        let remedy = (level != Level::Ok).then(|| remedy.to_owned());
        self.0.push(Finding { level, check, found: found.into(), remedy });
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(Level::Ok, check, found, "");
    }
}

/// Judges a file: the device's certificate first, then its intermediates.
#[must_use]
pub fn lint(text: impl AsRef<[u8]>, against: Against<'_>) -> Vec<Finding> {
    let mut out = Findings(Vec::new());
    match parse_certificates(text) {
        Ok(certificates) => {
            out.ok("encoding", format!("{} certificate(s) in canonical DER", certificates.len()));
            lint_certificates(&certificates, against, &mut out);
        }
        Err(error) => {
            let check = if matches!(error, TextError::Certificate { .. }) { "certificate" } else { "encoding" };
            out.add(Level::Error, check, error.to_string(), error.remedy());
        }
    }
    out.0
}

fn lint_certificates(certificates: &[Certificate], against: Against<'_>, out: &mut Findings) {
    let Some(leaf) = certificates.first() else { return };
    let grouped = against.anchors.is_some();
    subject(leaf, against, out);
    match leaf.weakness() {
        Some(weakness) => out.add(Level::Error, "key", weakness.to_string(), weakness.remedy()),
        None => out.ok("key", format!("{}, fingerprint {}", leaf.key(), leaf.key_fingerprint())),
    }
    let algorithm = leaf.signature_algorithm();
    let resign = "sign it with SHA-256 (`-sha256`) by an EC P-256, P-384, RSA or Ed25519 key";
    match algorithm.standing {
        Standing::Accepted => out.ok("signature", algorithm.name.clone()),
        Standing::Broken => out.add(Level::Error, "signature", format!("{algorithm}, which is broken"), resign),
        // A pinned certificate's signature is not looked at.
        Standing::Unsupported => {
            let level = if grouped { Level::Error } else { Level::Warning };
            out.add(level, "signature", format!("{algorithm}, which is not implemented here"), resign);
        }
    }
    dates(leaf, against, out);
    usage(leaf, grouped, out);
    if let Err(error) = webpki::EndEntityCert::try_from(&rustls_pki_types::CertificateDer::from(leaf.der())) {
        let found = format!("TLS libraries built on rustls cannot read it: {error}");
        out.add(Level::Error, "handshake", found, "issue it as X.509 v3, without critical extensions of your own");
    }
    path(certificates, against, out);
}

fn subject(leaf: &Certificate, against: Against<'_>, out: &mut Findings) {
    let remedy = "issue it with the registration id as its one common name (CN): 1 to 64 of a-z 0-9 - . _ :";
    match (leaf.common_name(), against.registration_id) {
        (_, Some(expected)) => match leaf.check_registration(expected) {
            Ok(()) => out.ok("common name", format!("CN={expected}")),
            Err(error) => out.add(Level::Error, "common name", error.to_string(), &error.remedy()),
        },
        (Ok(found), None) => match found.parse::<RegistrationId>() {
            Ok(id) => out.ok("common name", format!("CN={found}: the device registers as {id}")),
            Err(error) => {
                out.add(Level::Error, "common name", format!("CN={found:?} is no registration id: {error}"), remedy)
            }
        },
        (Err(error), None) => out.add(Level::Error, "common name", error.to_string(), remedy),
    }
}

fn dates(leaf: &Certificate, against: Against<'_>, out: &mut Findings) {
    let summary = leaf.summary();
    let found = format!("{} to {}", summary.not_before, summary.not_after);
    match check_validity(summary, against.now, against.skew_seconds) {
        Err(error) => out.add(Level::Error, "dates", error.to_string(), error.remedy()),
        Ok(()) if summary.not_after < against.now.plus_ms(ENDS_SOON_SECONDS * 1000) => {
            out.add(Level::Warning, "dates", format!("{found}: it ends soon"), "renew it over the same key");
        }
        Ok(()) => out.ok("dates", found),
    }
}

fn usage(leaf: &Certificate, grouped: bool, out: &mut Findings) {
    let extensions = leaf.extensions();
    // An individual enrollment pins the certificate: what it says about its use is good manners there.
    let graver = if grouped { Level::Error } else { Level::Warning };
    if leaf.is_ca() {
        out.add(
            graver,
            "basic constraints",
            "CA:TRUE on a device's certificate",
            "issue it with `basicConstraints=CA:FALSE`",
        );
    } else {
        out.ok("basic constraints", "not an authority");
    }
    match extensions.key_usage {
        None => out.ok("key usage", "not limited"),
        Some(usage) if usage.digital_signature => out.ok("key usage", "digitalSignature"),
        Some(_) => {
            let remedy = "issue it with `keyUsage=critical,digitalSignature`";
            out.add(graver, "key usage", "lacks digitalSignature", remedy);
        }
    }
    match &extensions.extended_key_usage {
        None => {
            let remedy = "issue it with `extendedKeyUsage=clientAuth`, so that it can be nothing but a device";
            out.add(Level::Warning, "extended key usage", "not limited", remedy);
        }
        Some(usage) if usage.allows_client() => out.ok("extended key usage", usage.purposes().join(", ")),
        Some(usage) => {
            let remedy = "issue it with `extendedKeyUsage=clientAuth`";
            out.add(graver, "extended key usage", format!("{} lacks clientAuth", usage.purposes().join(", ")), remedy);
        }
    }
    for oid in &extensions.unknown_critical {
        let remedy = "issue it without that extension, or with the extension not critical";
        out.add(Level::Error, "critical extensions", format!("{oid} is not processed"), remedy);
    }
    if leaf.summary().version != 3 {
        let found = format!("X.509 v{}", leaf.summary().version);
        out.add(
            Level::Error,
            "version",
            found,
            "issue it with extensions, which makes it v3: `openssl x509 -req -extfile FILE`",
        );
    }
    if leaf.serial_der().len() > 20 || leaf.serial_der().first().is_some_and(|byte| byte & 0x80 != 0) {
        let remedy = "number certificates with positive numbers of at most 20 bytes (RFC 5280 4.1.2.2)";
        out.add(Level::Warning, "serial number", leaf.summary().short().serial, remedy);
    }
}

fn path(certificates: &[Certificate], against: Against<'_>, out: &mut Findings) {
    let Some(anchors) = against.anchors else {
        if certificates.len() > 1 {
            out.ok("chain", "an individual enrollment needs no chain; the others are not looked at");
        }
        return;
    };
    let presented: Vec<&[u8]> = certificates.iter().map(Certificate::der).collect();
    let verified = DeviceChain::parse(&presented).and_then(|chain| {
        verify(&chain, anchors, against.now, against.skew_seconds)
            .map(|verified| format!("{} step(s) to {:?}", verified.depth, verified.anchor.name()))
    });
    match verified {
        Ok(found) => out.ok("chain", found),
        Err(refusal) => {
            let near = refusal.nearest.as_ref().map(|near| format!("; nearest is {:?}: {}", near.anchor, near.why));
            let found = format!("{refusal}{}", near.unwrap_or_default());
            out.add(Level::Error, "chain", found, &refusal.remedy());
        }
    }
}
