//! The extensions of a certificate that decide something (RFC 5280 4.2).

use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};

use super::certificate::CertificateError;
use super::der;

/// Basic constraints (RFC 5280 4.2.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicConstraints {
    /// May it issue certificates?
    pub ca: bool,
    /// How many intermediates may stand between it and a leaf.
    pub path_length: Option<u32>,
}

/// Key usage (RFC 5280 4.2.1.3), as far as it decides something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// For signatures other than those on certificates and revocation lists: a TLS handshake.
    pub digital_signature: bool,
    /// For signatures on certificates.
    pub key_cert_sign: bool,
    /// For signatures on revocation lists.
    pub crl_sign: bool,
}

/// Extended key usage (RFC 5280 4.2.1.12).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtendedKeyUsage {
    /// For TLS clients.
    pub client_auth: bool,
    /// For TLS servers.
    pub server_auth: bool,
    /// For anything.
    pub any: bool,
    /// Others, as OBJECT IDENTIFIERs.
    pub others: Vec<String>,
}

impl ExtendedKeyUsage {
    /// Whether a TLS client may use it.
    #[must_use]
    pub fn allows_client(&self) -> bool {
        self.client_auth || self.any
    }

    /// The purposes, as text.
    #[must_use]
    pub fn purposes(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (set, name) in
            [(self.client_auth, "clientAuth"), (self.server_auth, "serverAuth"), (self.any, "anyExtendedKeyUsage")]
        {
            if set {
                out.push(name.to_owned());
            }
        }
        out.extend(self.others.iter().cloned());
        out
    }
}

/// Name constraints (RFC 5280 4.2.1.10). The path validation of rustls-webpki applies those on DNS names and addresses;
/// here is what explains a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameConstraints {
    /// What names must lie in, as text.
    pub permitted: Vec<String>,
    /// What names must not lie in, as text.
    pub excluded: Vec<String>,
    /// Some are on directory names, which is not implemented: such a certificate can issue nothing here.
    pub on_directory_names: bool,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// Basic constraints, if present.
    pub basic_constraints: Option<BasicConstraints>,
    /// Key usage, if present.
    pub key_usage: Option<KeyUsage>,
    /// Extended key usage, if present.
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// Name constraints, if present.
    pub name_constraints: Option<NameConstraints>,
    /// Critical extensions that are not processed, as OBJECT IDENTIFIERs (RFC 5280 4.2: such a certificate is refused).
    pub unknown_critical: Vec<String>,
    /// Subject key identifier (RFC 5280 4.2.1.2).
    pub subject_key_id: Option<Vec<u8>>,
    /// Authority key identifier (RFC 5280 4.2.1.1).
    pub authority_key_id: Option<Vec<u8>>,
}

/// The critical ones that path validation processes, by their last arc under id-ce: key usage, subject alternative
/// name, basic constraints, name constraints, CRL distribution points, extended key usage.
const PROCESSED: [u8; 6] = [15, 17, 19, 30, 31, 37];

fn subtree(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::URI(name) => format!("URI:{name}"),
        GeneralName::DirectoryName(name) => format!("dirName:{}", super::name::to_text(name)),
        GeneralName::IPAddress(bytes) => {
            format!("IP:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        _ => "another kind of name".into(),
    }
}

pub(super) fn read(list: &[X509Extension<'_>]) -> Result<Extensions, CertificateError> {
    let mut out = Extensions::default();
    let mut seen: Vec<&[u8]> = Vec::with_capacity(list.len());
    for extension in list {
        let oid = extension.oid.as_bytes();
        if seen.contains(&oid) {
            return Err(CertificateError::DuplicateExtension(der::oid_text(oid)));
        }
        seen.push(oid);
        if let [0x55, 0x1d, arc] = oid
            && PROCESSED.contains(arc)
        {
            der::check(extension.value).map_err(|why| CertificateError::MalformedExtension {
                oid: der::oid_text(oid),
                why: why.to_string(),
            })?;
        } else if extension.critical {
            out.unknown_critical.push(der::oid_text(oid));
        }
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(found) => {
                out.basic_constraints = Some(BasicConstraints { ca: found.ca, path_length: found.path_len_constraint });
            }
            ParsedExtension::KeyUsage(found) => {
                out.key_usage = Some(KeyUsage {
                    digital_signature: found.digital_signature(),
                    key_cert_sign: found.key_cert_sign(),
                    crl_sign: found.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(found) => {
                let mut others: Vec<String> = found.other.iter().map(|oid| der::oid_text(oid.as_bytes())).collect();
                for (set, name) in [
                    (found.code_signing, "codeSigning"),
                    (found.email_protection, "emailProtection"),
                    (found.time_stamping, "timeStamping"),
                    (found.ocsp_signing, "OCSPSigning"),
                ] {
                    if set {
                        others.push(name.into());
                    }
                }
                out.extended_key_usage = Some(ExtendedKeyUsage {
                    client_auth: found.client_auth,
                    server_auth: found.server_auth,
                    any: found.any,
                    others,
                });
            }
            ParsedExtension::NameConstraints(found) => {
                let all = |list: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| -> Vec<String> {
                    list.iter().flatten().map(|tree| subtree(&tree.base)).collect()
                };
                let (permitted, excluded) = (all(&found.permitted_subtrees), all(&found.excluded_subtrees));
                let on_directory_names = permitted.iter().chain(&excluded).any(|tree| tree.starts_with("dirName:"));
                out.name_constraints = Some(NameConstraints { permitted, excluded, on_directory_names });
            }
            ParsedExtension::SubjectKeyIdentifier(found) => out.subject_key_id = Some(found.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(found) => {
                out.authority_key_id = found.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::ParseError { error } if matches!(oid, [0x55, 0x1d, arc] if PROCESSED.contains(arc)) => {
                return Err(CertificateError::MalformedExtension {
                    oid: der::oid_text(oid),
                    why: error.to_string().chars().take(128).collect(),
                });
            }
            _ => {}
        }
    }
    Ok(out)
}
