//! Revocation lists of authorities, one each: the newest.

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::enrollment::StoredCertificate;
use unicity_identity::{Attestation, Refusal, RevocationList, Timestamp};
use unicity_provisioning::x509::revocation::Added;
use unicity_provisioning::x509::{Certificate, Crl, CrlError, CrlSet, UnverifiedCrl};
use unicity_provisioning::{Command, Fault, RegistryView};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::dps::{members, parse_json};
use crate::failure::Failure;
use crate::revocations::cut_untrusted;

#[derive(Deserialize)]
struct CrlBody {
    crl: Option<String>,
}

/// A stored list, read again.
fn parse(stored: &RevocationList) -> Result<Crl, String> {
    let issuer = Certificate::parse(&stored.issuer_der).map_err(|error| error.to_string())?;
    let list = UnverifiedCrl::parse(&stored.der).map_err(|error| error.to_string())?;
    list.verify(&issuer).map_err(|error| error.to_string())
}

fn show(stored: &RevocationList) -> Value {
    let mut shown = json!({"issuerKey": stored.issuer_key.to_string(), "added": stored.added.to_string()});
    match parse(stored) {
        Ok(list) => {
            shown["issuer"] = json!(list.issuer());
            shown["thisUpdate"] = json!(list.this_update().to_string());
            shown["nextUpdate"] = json!(list.next_update().to_string());
            shown["revoked"] = json!(list.len());
            shown["number"] = json!(list.number());
        }
        Err(why) => shown["error"] = json!(why),
    }
    shown
}

pub(super) async fn list(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let registry = shared.provisioning.registry().clone();
    Shared::blocking(move || {
        let shown: Vec<Value> = registry.revocation_lists()?.iter().map(show).collect();
        Ok(json_answer(StatusCode::OK, &json!({"value": shown})))
    })
    .await
}

/// Stores a list that an authority of this service signed, unless it is older than the one that is there: that would make revoked
/// certificates good again.
pub(super) async fn put(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body = parse_json(&proven.body)?;
    let text = members::<CrlBody>(&body)?.crl.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| Failure::invalid("crl", "it is missing".into()))?;
    let turn = shared.revocation.acquire().await;
    let _turn = turn.map_err(|_| Refusal::Unavailable { why: "the server is stopping".into() })?;
    let now = shared.environment.now();
    let skew_seconds = shared.provisioning.settings().token_skew_seconds;
    let registry = shared.provisioning.registry().clone();
    let (list, shown, is_new) = Shared::blocking(move || judge(registry.as_ref(), &text, now, skew_seconds)).await?;
    if is_new {
        let command = Command::PutRevocationList(Box::new(list));
        shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
        cut_untrusted(shared).await?;
    }
    Ok(json_answer(StatusCode::OK, &shown))
}

/// The list to store, as it is shown, and whether it is another than the one that is there.
fn judge(
    view: &dyn RegistryView,
    text: &str,
    now: Timestamp,
    skew_seconds: u64,
) -> Result<(RevocationList, Value, bool), Failure> {
    let invalid = |error: &CrlError| Failure::invalid("crl", format!("{error}; {}", error.remedy()));
    let unverified = UnverifiedCrl::parse(text.as_bytes()).map_err(|error| invalid(&error))?;
    let issuer: String = unverified.issuer().chars().take(256).collect();
    let mut nearest = None;
    let mut found = None;
    for authority in issuers(view)? {
        // Of another name: nothing to try.
        if authority.summary().subject != unverified.issuer() {
            continue;
        }
        match unverified.clone().verify(&authority) {
            Ok(list) => {
                found = Some((authority, list));
                break;
            }
            Err(error) => nearest = Some(error),
        }
    }
    let Some((authority, list)) = found else {
        return Err(match nearest {
            Some(error) => invalid(&error),
            None => Failure::invalid(
                "crl",
                format!(
                    "its issuer {issuer} is neither an uploaded authority nor one of an enrollment group; upload it first with \
                     PUT /unicity/certificates/NAME (`unicity ca add`), verified or not"
                ),
            ),
        });
    };
    if list.this_update() > now.plus_ms(skew_seconds.saturating_mul(1000)) {
        // Nothing newer could replace it until then.
        let why = format!("it was made at {}, and it is {now}; set the clock of who makes it", list.this_update());
        return Err(Failure::invalid("crl", why));
    }
    let stored = RevocationList {
        issuer_key: authority.key_fingerprint(),
        issuer_der: authority.der().to_vec(),
        der: unverified.der().to_vec(),
        added: now,
    };
    if let Some(known) = view.revocation_lists()?.into_iter().find(|known| known.issuer_key == stored.issuer_key) {
        if known.der == stored.der {
            let shown = show(&known);
            return Ok((known, shown, false));
        }
        // One that cannot be read protects nobody, and may be replaced.
        if let Ok(known) = parse(&known) {
            check_newer(known, list)?;
        }
    }
    let shown = show(&stored);
    Ok((stored, shown, true))
}

fn check_newer(known: Crl, list: Crl) -> Result<(), Failure> {
    let describe = |list: &Crl| match list.number() {
        number if number.is_empty() => format!("of {}", list.this_update()),
        number => format!("number {number} of {}", list.this_update()),
    };
    let (there, sent) = (describe(&known), describe(&list));
    let mut set = CrlSet::default();
    set.add(known);
    match set.add(list) {
        Added::NotNewer => Err(Failure::new(
            409_211,
            "RevocationListNotNewer",
            format!(
                "the list sent is {sent}, the one that is there {there}: only a newer one may replace it, or revoked \
                 certificates would be good again; make a new one with a later thisUpdate"
            ),
        )),
        Added::First | Added::Replaced => Ok(()),
    }
}

/// All who may have signed a list: uploaded authorities, verified or not, and those of groups.
fn issuers(view: &dyn RegistryView) -> Result<Vec<Certificate>, Fault> {
    let mut ders: Vec<Vec<u8>> = view.authorities()?.into_iter().map(|authority| authority.der).collect();
    for group in view.groups()? {
        if let Attestation::SigningCertificates { primary, secondary } = group.terms.attestation {
            ders.extend([primary, secondary].into_iter().flatten().map(|StoredCertificate { der, .. }| der));
        }
    }
    Ok(ders.iter().filter_map(|der| Certificate::parse(der).ok()).collect())
}
