//! Device identities as a hub's service API has them (`service-rest.md` 12.1).

use serde_json::{Map, Value, json};
use unicity_identity::device::{CertificateBinding, DeviceAuthentication};
use unicity_identity::sas::percent_encode;
use unicity_identity::seal::SealError;
use unicity_identity::{DeviceId, DeviceStatus, GenerationId, Vault};

use super::message::{Condition, HubReply, HubRequest, Method};

/// Members of an identity that a write sends back as it read them.
const KEPT: [&str; 4] = ["authentication", "capabilities", "deviceScope", "parentScopes"];

/// An identity as a hub shows it. `Debug` shows no keys.
#[derive(Clone, PartialEq)]
pub struct RemoteIdentity {
    /// Its version.
    pub etag: String,
    /// Its life; `None`: not a number, so another kind of hub than any we know.
    pub generation: Option<GenerationId>,
    /// Whether its device may connect.
    pub status: DeviceStatus,
    /// The status reason, which holds our marker.
    pub reason: Option<String>,
    members: Map<String, Value>,
}

impl std::fmt::Debug for RemoteIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteIdentity")
            .field("etag", &self.etag)
            .field("generation", &self.generation)
            .field("status", &self.status)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl RemoteIdentity {
    /// Of an answer's body; `None` if it is none.
    #[must_use]
    pub fn read(reply: &HubReply) -> Option<Self> {
        let body = reply.body.as_object()?;
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        Some(Self {
            etag: text("etag")?.trim_matches('"').to_owned(),
            generation: text("generationId").and_then(|text| text.parse().ok()).map(GenerationId),
            status: match text("status")? {
                "enabled" => DeviceStatus::Enabled,
                "disabled" => DeviceStatus::Disabled,
                _ => return None,
            },
            reason: text("statusReason").map(ToOwned::to_owned),
            members: body.clone(),
        })
    }

    /// Whether its device may connect.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.status == DeviceStatus::Enabled
    }

    /// Whether it proves itself as this says. Keys that the hub does not show count as other ones.
    #[must_use]
    pub fn proves_itself_by(&self, wanted: &Value) -> bool {
        let found = self.members.get("authentication").unwrap_or(&Value::Null);
        let leaves = [
            "/type",
            "/symmetricKey/primaryKey",
            "/symmetricKey/secondaryKey",
            "/x509Thumbprint/primaryThumbprint",
            "/x509Thumbprint/secondaryThumbprint",
        ];
        leaves.into_iter().all(|pointer| {
            let leaf = |value: &Value| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            match pointer.contains("humbprint") {
                true => leaf(found).eq_ignore_ascii_case(&leaf(wanted)),
                false => leaf(found) == leaf(wanted),
            }
        })
    }

    /// Whether it is an edge device.
    #[must_use]
    pub fn is_edge(&self) -> bool {
        self.members.get("capabilities").and_then(|it| it.get("iotEdge")).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The write that changes its status and nothing else, over exactly this version.
    pub(super) fn with_status(&self, id: &DeviceId, status: DeviceStatus, reason: Option<&str>) -> HubRequest {
        let mut body: Map<String, Value> =
            KEPT.iter().filter_map(|name| Some(((*name).to_owned(), self.members.get(*name)?.clone()))).collect();
        body.insert("deviceId".into(), json!(id));
        body.insert("status".into(), json!(word(status)));
        body.insert("statusReason".into(), json!(reason));
        put(id, Condition::Matches(self.etag.clone()), Value::Object(body))
    }
}

fn word(status: DeviceStatus) -> &'static str {
    match status {
        DeviceStatus::Enabled => "enabled",
        DeviceStatus::Disabled => "disabled",
    }
}

/// The write of a whole identity.
pub(super) fn write(
    id: &DeviceId,
    condition: Condition,
    status: DeviceStatus,
    reason: Option<&str>,
    authentication: &Value,
    iot_edge: bool,
) -> HubRequest {
    let body = json!({
        "deviceId": id,
        "status": word(status),
        "statusReason": reason,
        "authentication": authentication,
        "capabilities": {"iotEdge": iot_edge},
    });
    put(id, condition, body)
}

fn put(id: &DeviceId, condition: Condition, body: Value) -> HubRequest {
    HubRequest { method: Method::Put, path: path(id), condition, body: Some(body) }
}

/// The path of an identity.
pub(super) fn path(id: &DeviceId) -> String {
    format!("/devices/{}", percent_encode(id.as_str()))
}

/// How an identity proves itself, as a write says it: with its keys, which the hub must know.
///
/// # Errors
/// [`SealError`] if a key does not open.
pub(crate) fn authentication(of: &DeviceAuthentication, vault: &Vault) -> Result<Value, SealError> {
    let hex = |it: &CertificateBinding| it.thumbprint.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    Ok(match of {
        DeviceAuthentication::Sas { primary, secondary } => json!({
            "type": "sas",
            "symmetricKey": {
                "primaryKey": vault.open(primary)?.expose_base64().as_str(),
                "secondaryKey": vault.open(secondary)?.expose_base64().as_str(),
            },
        }),
        DeviceAuthentication::Certificates { primary, secondary } => json!({
            "type": "selfSigned",
            "x509Thumbprint": {
                "primaryThumbprint": hex(primary),
                "secondaryThumbprint": secondary.as_ref().map(hex),
            },
        }),
        DeviceAuthentication::Authority => json!({"type": "certificateAuthority"}),
    })
}
