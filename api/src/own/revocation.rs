//! Revocation lists of authorities, one each: the newest. They are uploaded, or the server reads them from files that its
//! configuration names.

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::{KeyFingerprint, Refusal, RevocationList};
use unicity_provisioning::revocation_list::{self, Accepted, ListRefusal};
use unicity_provisioning::{Actor, Command};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::crl_files::CrlFileState;
use crate::dps::{members, parse_json};
use crate::failure::Failure;
use crate::revocations::cut_untrusted;

#[derive(Deserialize)]
struct CrlBody {
    crl: Option<String>,
}

fn show(stored: &RevocationList) -> Value {
    let mut shown = json!({"issuerKey": stored.issuer_key.to_string(), "added": stored.added.to_string()});
    match revocation_list::read_stored(stored) {
        Ok(Some(list)) => {
            shown["issuer"] = json!(list.issuer());
            shown["thisUpdate"] = json!(list.this_update().to_string());
            shown["nextUpdate"] = json!(list.next_update().to_string());
            shown["revoked"] = json!(list.len());
            shown["number"] = json!(list.number());
        }
        Ok(None) => shown["error"] = json!("withdrawn"),
        Err(why) => shown["error"] = json!(why),
    }
    shown
}

fn show_file(state: &CrlFileState) -> Value {
    json!({
        "path": state.path,
        "checkedUtc": state.checked.to_string(),
        "readUtc": state.read.map(|at| at.to_string()),
        "issuer": state.issuer,
        "error": state.fault.as_ref().map(|fault| fault.name),
        "cause": state.fault.as_ref().map(|fault| &fault.cause),
        "remedy": state.fault.as_ref().map(|fault| &fault.remedy),
    })
}

/// `{"value": [...], "files": [...]}`: the lists in force, and how the files stand that they are read from.
pub(super) async fn list(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let registry = shared.provisioning.registry().clone();
    let files: Vec<Value> = shared.crl_files.states().iter().map(show_file).collect();
    Shared::blocking(move || {
        let lists = registry.revocation_lists()?;
        let shown: Vec<Value> = lists.iter().filter(|list| !list.der.is_empty()).map(show).collect();
        Ok(json_answer(StatusCode::OK, &json!({"value": shown, "files": files})))
    })
    .await
}

fn failure(refusal: ListRefusal) -> Failure {
    match refusal {
        ListRefusal::Fault(fault) => fault.into(),
        ListRefusal::NotNewer { .. } => {
            Failure::new(409_211, "RevocationListNotNewer", format!("{refusal}; {}", refusal.remedy()))
        }
        refusal => Failure::invalid("crl", format!("{refusal}; {}", refusal.remedy())),
    }
}

/// Stores a list that an authority of this service signed, unless it is older than the one that is there: that would make revoked
/// certificates good again.
pub(super) async fn put(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body = parse_json(&proven.body)?;
    let text = members::<CrlBody>(&body)?.crl.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| Failure::invalid("crl", "it is missing".into()))?;
    let list = store(shared, text.into_bytes(), proven.principal.actor()).await?.map_err(failure)?;
    Ok(json_answer(StatusCode::OK, &show(&list)))
}

/// Judges a list and stores it if it is new; the list that is there then.
pub(crate) async fn store(
    shared: &Shared,
    bytes: Vec<u8>,
    actor: Actor,
) -> Result<Result<RevocationList, ListRefusal>, Failure> {
    // One at a time: it is compared with the one that it replaces.
    let turn = shared.revocation.acquire().await;
    let _turn = turn.map_err(|_| Refusal::Unavailable { why: "the server is stopping".into() })?;
    let now = shared.environment.now();
    let skew_seconds = shared.provisioning.settings().token_skew_seconds;
    let registry = shared.provisioning.registry().clone();
    let judged =
        Shared::blocking(move || Ok(revocation_list::judge(registry.as_ref(), &bytes, now, skew_seconds))).await?;
    let Accepted { list, is_new } = match judged {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if is_new {
        let command = Command::PutRevocationList(Box::new(list.clone()));
        shared.submit_as(command, actor, &mut shared.environment.entropy()).await?;
        cut_untrusted(shared).await?;
    }
    Ok(Ok(list))
}

/// Withdraws an authority's list: what it revoked is good again. A file that holds it brings it back when it changes, or at the next
/// start.
pub(super) async fn delete(shared: &Shared, key: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let key: KeyFingerprint = key.parse().map_err(|error| Failure::invalid("issuerKey", format!("{error}")))?;
    let turn = shared.revocation.acquire().await;
    let _turn = turn.map_err(|_| Refusal::Unavailable { why: "the server is stopping".into() })?;
    let now = shared.environment.now();
    let Some(empty) = revocation_list::withdrawal(shared.provisioning.registry().as_ref(), key, now)? else {
        return Err(Failure::new(404_211, "RevocationListNotFound", format!("no authority of key {key} has a list")));
    };
    let command = Command::PutRevocationList(Box::new(empty));
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    Ok(no_content())
}

/// Reads the configured files now, changed or not, and tells how they stand.
pub(super) async fn reload(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    shared.crl_files.reload().await;
    let files: Vec<Value> = shared.crl_files.states().iter().map(show_file).collect();
    Ok(json_answer(StatusCode::OK, &json!({"files": files})))
}
