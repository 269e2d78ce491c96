//! Certificate authorities that an operator uploads, and the proof that their keys are at hand (`service-rest.md` 8.2, in the shape of
//! Azure's control plane).

use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::error::Subject;
use unicity_identity::{Authority, AuthorityName, Refusal, Timestamp};
use unicity_provisioning::x509::{Certificate, VerificationCode, check_possession};
use unicity_provisioning::{Command, Outcome, Precondition};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::certificate;
use crate::conditional::precondition;
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;
use crate::revocations::cut_untrusted;

#[derive(Deserialize)]
struct AuthorityBody {
    properties: Option<PropertiesBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PropertiesBody {
    certificate: Option<String>,
    is_verified: Option<bool>,
}

#[derive(Deserialize)]
struct ProofBody {
    certificate: Option<String>,
}

/// `Thu, 12 Oct 2017 19:23:50 GMT` (RFC 1123), as the control plane writes dates.
fn rfc1123(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // The epoch was a Thursday.
    let weekday = usize::try_from(at.unix_seconds() / 86_400 % 7).unwrap_or(0);
    let iso = at.to_string();
    let month = iso.get(5..7).and_then(|text| text.parse::<usize>().ok()).and_then(|month| MONTHS.get(month - 1));
    match (iso.get(8..10), month, iso.get(0..4), iso.get(11..19)) {
        (Some(day), Some(month), Some(year), Some(time)) => {
            format!("{}, {day} {month} {year} {time} GMT", DAYS[weekday])
        }
        _ => iso,
    }
}

fn show(authority: &Authority) -> Value {
    let mut properties = json!({
        "isVerified": authority.verified,
        "certificate": certificate::pem(&authority.der),
        "keyFingerprint": authority.key.to_string(),
        "created": rfc1123(authority.created),
        "updated": rfc1123(authority.updated),
    });
    if let Ok(certificate) = Certificate::parse(&authority.der) {
        let summary = certificate.summary();
        properties["subject"] = json!(summary.subject);
        properties["expiry"] = json!(rfc1123(summary.not_after));
        properties["thumbprint"] = json!(summary.sha1.to_string());
        properties["sha256Thumbprint"] = json!(summary.sha256.to_string());
    }
    if let Some(code) = &authority.verification_code {
        properties["verificationCode"] = json!(code);
    }
    json!({"name": authority.name, "etag": authority.etag.to_base64(), "properties": properties})
}

fn answer(authority: &Authority) -> Response<ApiBody> {
    let mut answer = json_answer(StatusCode::OK, &show(authority));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", authority.etag.to_base64())) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    answer
}

fn stored(shared: &Shared, name: &AuthorityName) -> Result<Authority, Failure> {
    let found = shared.provisioning.registry().authority(name)?;
    found.ok_or_else(|| Refusal::NotFound(Subject::Authority(name.clone())).into())
}

pub(super) async fn list(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let registry = shared.provisioning.registry().clone();
    Shared::blocking(move || {
        let shown: Vec<Value> = registry.authorities()?.iter().map(show).collect();
        Ok(json_answer(StatusCode::OK, &json!({"value": shown})))
    })
    .await
}

pub(super) fn get(shared: &Shared, name: &str) -> Result<Response<ApiBody>, Failure> {
    Ok(answer(&stored(shared, &parse_id(name)?)?))
}

async fn submit(
    shared: &Shared,
    authority: Authority,
    precondition: Precondition,
    proven: &Proven,
) -> Result<Response<ApiBody>, Failure> {
    let command = Command::PutAuthority { authority: Box::new(authority), precondition };
    match shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await? {
        Outcome::Authority(authority) => {
            // Another certificate, or one that is not verified any more, may leave sessions with nobody who vouches for them.
            cut_untrusted(shared).await?;
            Ok(answer(&authority))
        }
        other => Err(Shared::unexpected(&other)),
    }
}

/// Uploads an authority, or replaces one. Another certificate than before is not verified unless the operator says so; the same one
/// stays what it is.
pub(super) async fn put(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let name: AuthorityName = parse_id(name)?;
    let asked = precondition(&proven.headers, Precondition::Absent)?;
    let body = parse_json(&proven.body)?;
    let body = members::<AuthorityBody>(&body)?.properties;
    let body = body.ok_or_else(|| Failure::invalid("properties", "it is missing; certificate belongs in it".into()))?;
    let before = match asked {
        Precondition::Absent => None,
        _ => shared.provisioning.registry().authority(&name)?,
    };
    let what = "properties.certificate";
    let certificate = match (body.certificate.filter(|text| !text.trim().is_empty()), &before) {
        (Some(text), _) => {
            let certificate = certificate::one(what, &text)?;
            certificate::check_authority(what, &certificate)?;
            certificate
        }
        (None, Some(before)) => Certificate::parse(&before.der)
            .map_err(|error| Failure::invalid(what, format!("the stored one cannot be read: {error}")))?,
        (None, None) => return Err(Failure::invalid(what, "it is missing".into())),
    };
    let same = before.filter(|before| before.der == certificate.der());
    // What is taken over from the stored record holds for that version of it only.
    let precondition = match (&same, asked) {
        (Some(same), Precondition::Any) => Precondition::Matches(same.etag.to_string()),
        (_, asked) => asked,
    };
    let verified = body.is_verified.unwrap_or_else(|| same.as_ref().is_some_and(|same| same.verified));
    let now = shared.environment.now();
    let authority = Authority {
        key: certificate.key_fingerprint(),
        der: certificate.der().to_vec(),
        verified,
        verification_code: same.and_then(|same| same.verification_code).filter(|_| !verified),
        // These are the registry's to set.
        etag: unicity_identity::ETag([0; 16]),
        created: now,
        updated: now,
        name,
    };
    submit(shared, authority, precondition, proven).await
}

pub(super) async fn delete(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let command = Command::DeleteAuthority {
        name: parse_id(name)?,
        precondition: precondition(&proven.headers, Precondition::None)?,
    };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    cut_untrusted(shared).await?;
    Ok(no_content())
}

/// The stored authority, if the client's condition holds; and the condition under which what is made of it may be stored.
fn read_for_change(shared: &Shared, name: &str, proven: &Proven) -> Result<(Authority, Precondition), Failure> {
    let name: AuthorityName = parse_id(name)?;
    let authority = stored(shared, &name)?;
    match precondition(&proven.headers, Precondition::Any)? {
        Precondition::Matches(text) if !authority.etag.matches(&text) => {
            Err(Refusal::PreconditionFailed(Subject::Authority(name)).into())
        }
        _ => {
            let version = Precondition::Matches(authority.etag.to_string());
            Ok((authority, version))
        }
    }
}

/// Draws a code for a proof of possession. The one before is worth nothing from then on.
pub(super) async fn generate_code(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let (authority, version) = read_for_change(shared, name, proven)?;
    let code = VerificationCode::generate(&mut shared.environment.entropy());
    let authority = Authority { verification_code: Some(code.to_string()), ..authority };
    submit(shared, authority, version, proven).await
}

/// Takes a certificate that the authority signed for the code: then its key is at hand.
pub(super) async fn verify(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let (authority, version) = read_for_change(shared, name, proven)?;
    let body = parse_json(&proven.body)?;
    let text = members::<ProofBody>(&body)?.certificate.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| Failure::invalid("certificate", "it is missing".into()))?;
    let proof = certificate::one("certificate", &text)?;
    let code = authority.verification_code.as_deref().and_then(|code| code.parse::<VerificationCode>().ok());
    let code = code.ok_or_else(|| {
        let name = &authority.name;
        let why =
            format!("no code is awaited; ask for one with POST /unicity/certificates/{name}/generateVerificationCode");
        Failure::invalid("certificate", why)
    })?;
    let certificate = Certificate::parse(&authority.der)
        .map_err(|error| Failure::invalid("certificate", format!("the authority's own cannot be read: {error}")))?;
    let skew = shared.provisioning.settings().token_skew_seconds;
    check_possession(&certificate, &code, &proof, shared.environment.now(), skew)
        .map_err(|refusal| Failure::invalid("certificate", format!("{refusal}; {}", refusal.remedy())))?;
    let authority = Authority { verified: true, verification_code: None, ..authority };
    submit(shared, authority, version, proven).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_the_control_plane_writes_them() {
        assert_eq!(rfc1123(Timestamp(1_507_836_230_000)), "Thu, 12 Oct 2017 19:23:50 GMT");
        assert_eq!(rfc1123(Timestamp(1_767_323_045_678)), "Fri, 02 Jan 2026 03:04:05 GMT");
        assert_eq!(rfc1123(Timestamp(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
