//! Shared access policies: listed, made, changed, rotated, removed. A change is durable first, then in force, then answered.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::error::Subject;
use unicity_identity::{AccessPolicy, AccessPolicyName, Audience, Refusal, Right, Rights, policies_in_force};
use unicity_provisioning::{Command, Outcome, Precondition};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::conditional::precondition;
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;
use crate::policy::{LivePolicies, PolicyKeys, ServicePolicies};

#[derive(Deserialize)]
struct PolicyBody {
    rights: Option<Vec<String>>,
}

fn keys_of(shared: &Shared) -> Result<&Arc<dyn PolicyKeys>, Failure> {
    shared.policy_keys.as_ref().ok_or_else(|| Failure::not_offered("the change of policies"))
}

/// `audience=` of a request: `dps` unless told.
fn audience(proven: &Proven) -> Result<Audience, Failure> {
    let asked = proven.target.query("audience").unwrap_or("dps");
    asked.parse().map_err(|error| Failure::invalid("audience", format!("it is dps or a hub's name: {error}")))
}

fn show(policy: &AccessPolicy) -> Value {
    let built_in = policy.audience.built_in().iter().any(|(name, _)| *name == policy.name);
    let mut shown = json!({
        "name": policy.name,
        "audience": policy.audience,
        "rights": policy.rights.names(),
        "generation": policy.generation,
        "builtIn": built_in,
        "etag": policy.etag.to_base64(),
    });
    // A built-in one that was never changed has no times.
    if policy.updated.0 > 0 {
        shown["created"] = json!(policy.created.to_string());
        shown["updated"] = json!(policy.updated.to_string());
    }
    shown
}

fn answer(keys: &dyn PolicyKeys, policy: &AccessPolicy) -> Response<ApiBody> {
    let mut shown = show(policy);
    let (primary, secondary) = keys.keys(policy);
    shown["primaryKey"] = json!(&*primary.expose_base64());
    shown["secondaryKey"] = json!(&*secondary.expose_base64());
    if let Some(host) = keys.host(&policy.audience) {
        shown["hostName"] = json!(host);
    }
    let mut answer = json_answer(StatusCode::OK, &shown);
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", policy.etag.to_base64())) {
        headers.insert(header::ETAG, etag);
    }
    answer
}

/// The policies of one place, or of all where a policy of the provisioning service asks; without their keys.
pub(super) async fn list(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    keys_of(shared)?;
    let hubs = &shared.provisioning.settings().hubs;
    let places = match proven.target.query("audience") {
        Some(_) => vec![known(shared, audience(proven)?)?],
        None => std::iter::once(Audience::Dps).chain(hubs.iter().map(|hub| Audience::Hub(hub.name.clone()))).collect(),
    };
    let registry = shared.provisioning.registry().clone();
    Shared::blocking(move || {
        let stored = registry.access_policies()?;
        let shown: Vec<Value> =
            places.iter().flat_map(|place| policies_in_force(place, &stored)).map(|policy| show(&policy)).collect();
        Ok(json_answer(StatusCode::OK, &json!({"value": shown})))
    })
    .await
}

fn known(shared: &Shared, audience: Audience) -> Result<Audience, Failure> {
    match &audience {
        Audience::Hub(hub) if shared.provisioning.settings().hubs.by_name(hub).is_none() => {
            Err(Refusal::NotFound(Subject::Hub(hub.to_string())).into())
        }
        _ => Ok(audience),
    }
}

pub(super) async fn get(shared: &Shared, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let keys = keys_of(shared)?.clone();
    let name: AccessPolicyName = parse_id(name)?;
    let audience = known(shared, audience(proven)?)?;
    let registry = shared.provisioning.registry().clone();
    Shared::blocking(move || {
        let found = policies_in_force(&audience, &registry.access_policies()?);
        match found.iter().find(|policy| policy.name == name) {
            Some(policy) => Ok(answer(keys.as_ref(), policy)),
            None => Err(Refusal::NotFound(Subject::AccessPolicy(audience, name)).into()),
        }
    })
    .await
}

pub(super) async fn put(shared: &Arc<Shared>, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body = parse_json(&proven.body)?;
    let asked = members::<PolicyBody>(&body)?.rights;
    let asked = asked.ok_or_else(|| Failure::invalid("rights", "it is missing: a list of names of rights".into()))?;
    let rights = asked
        .iter()
        .map(|name| {
            let shown = || name.chars().take(40).collect::<String>();
            Right::from_name(name).ok_or_else(|| Failure::invalid("rights", format!("{:?} is no right", shown())))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let command = Command::PutAccessPolicy {
        audience: audience(proven)?,
        name: parse_id(name)?,
        rights: Rights::of(&rights),
        precondition: precondition(&proven.headers, Precondition::Absent)?,
    };
    let keys = keys_of(shared)?.clone();
    Ok(answer(keys.as_ref(), &change(shared, command, proven).await?))
}

pub(super) async fn rotate(shared: &Arc<Shared>, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let command = Command::RotateAccessPolicy {
        audience: audience(proven)?,
        name: parse_id(name)?,
        both: proven.target.flag("both")?,
        precondition: precondition(&proven.headers, Precondition::None)?,
    };
    let keys = keys_of(shared)?.clone();
    Ok(answer(keys.as_ref(), &change(shared, command, proven).await?))
}

pub(super) async fn delete(shared: &Arc<Shared>, name: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let command = Command::DeleteAccessPolicy {
        audience: audience(proven)?,
        name: parse_id(name)?,
        precondition: precondition(&proven.headers, Precondition::None)?,
    };
    change(shared, command, proven).await?;
    Ok(no_content())
}

/// Makes a change durable and then true for every request that comes after the answer.
async fn change(shared: &Arc<Shared>, command: Command, proven: &Proven) -> Result<AccessPolicy, Failure> {
    let keys = keys_of(shared)?.clone();
    let (shared, actor) = (shared.clone(), proven.principal.actor());
    // In a task of its own: a client that goes away must not leave the old keys in force.
    let work = tokio::spawn(async move {
        // One at a time, so that what was read first is not put in force last.
        let _turn = shared.policy_turn.lock().await;
        let policy = match shared.submit_as(command, actor, &mut shared.environment.entropy()).await? {
            Outcome::AccessPolicy(policy) => *policy,
            other => return Err(Shared::unexpected(&other)),
        };
        let state = shared.clone();
        Shared::blocking(move || {
            let stored = state.provisioning.registry().access_policies()?;
            let hubs = &state.provisioning.settings().hubs;
            let policies = ServicePolicies::of_registry(&stored, hubs, keys.as_ref());
            state.policies.store(Arc::new(LivePolicies::new(policies.clone(), state.settings.requests_per_key)));
            keys.changed(&policies);
            Ok(())
        })
        .await?;
        Ok(policy)
    });
    work.await.unwrap_or_else(|error| Err(Refusal::Unavailable { why: format!("the work broke off: {error}") }.into()))
}
