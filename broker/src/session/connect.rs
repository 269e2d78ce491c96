//! What CONNECT says, checked as far as that needs no credential.

use unicity_identity::bag::Bag;
use unicity_identity::{HubDirectory, QoS, Refusal};

use super::effect::{HubConnect, ProvisioningConnect, WillMessage};
use super::telemetry;
use crate::codec::{Connect, ConnectCode, QoS as WireQoS, Will};
use crate::username::{Role, UserName};

/// A CONNECT whose credential is to be checked.
pub(super) enum Connected {
    Provisioning(Box<ProvisioningConnect>),
    Hub(Box<HubConnect>),
}

/// A CONNECT that is refused at once.
pub(super) struct Refused {
    pub(super) code: ConnectCode,
    pub(super) refusal: Refusal,
    pub(super) subject: String,
}

/// The CONNACK code of a refusal (`device-mqtt.md` 1 and part A; design rule 25). Code 5 stops Python for good and 4 stops C, so
/// 4 is only for what no change at the server could heal, and what may heal by waiting is 3.
pub(super) fn code_of(refusal: &Refusal) -> ConnectCode {
    match refusal {
        Refusal::Unavailable { .. }
        | Refusal::ProvisioningNotServed
        | Refusal::Throttled { .. }
        | Refusal::Quarantined { .. }
        | Refusal::OlderSessionLives { .. }
        | Refusal::Superseded { .. } => ConnectCode::ServerUnavailable,
        Refusal::TokenMalformed(_) | Refusal::Invalid { .. } => ConnectCode::BadUserNameOrPassword,
        _ => ConnectCode::NotAuthorized,
    }
}

/// The role and claim of a CONNECT, and what the client calls itself.
pub(super) fn examine(connect: Connect, hubs: &HubDirectory) -> Result<(Connected, String), Box<Refused>> {
    let subject = connect.client_id.clone();
    let refused = |code, refusal| Box::new(Refused { code, refusal, subject: subject.clone() });
    let invalid = |what: &str, why: String| Refusal::Invalid { what: what.into(), why };
    let username = connect.username.as_deref().unwrap_or_default();
    let username = UserName::parse(username, |host| hubs.by_host(host).is_some())
        .map_err(|error| refused(ConnectCode::BadUserNameOrPassword, invalid("user name", error.to_string())))?;
    let (api_version, client_type) = (username.api_version, username.client_type);
    match username.role {
        Role::Provisioning { id_scope, registration_id } => {
            // Registration ids are compared without case; a service that starts a device's client may spell it in another way.
            if !connect.client_id.eq_ignore_ascii_case(&registration_id) {
                let why = mismatch(&connect.client_id, &registration_id);
                return Err(refused(ConnectCode::IdentifierRejected, invalid("client id", why)));
            }
            // A will has no meaning here: there is nothing that it could be published to.
            let connect =
                ProvisioningConnect { id_scope, registration_id, token: connect.password, api_version, client_type };
            Ok((Connected::Provisioning(Box::new(connect)), subject))
        }
        Role::Hub { host, device_id, module_id } => {
            let expected = match &module_id {
                Some(module_id) => format!("{device_id}/{module_id}"),
                None => device_id.clone(),
            };
            if connect.client_id != expected {
                let why = mismatch(&connect.client_id, &expected);
                return Err(refused(ConnectCode::IdentifierRejected, invalid("client id", why)));
            }
            let will = match connect.will {
                Some(will) => {
                    let prefix = telemetry::prefix(&device_id, module_id.as_deref());
                    let will = will_message(will, &prefix);
                    Some(will.map_err(|why| refused(ConnectCode::NotAuthorized, invalid("will", why)))?)
                }
                None => None,
            };
            let connect = HubConnect {
                host,
                device_id,
                module_id,
                token: connect.password,
                clean_session: connect.clean_session,
                keep_alive_seconds: connect.keep_alive,
                will,
                api_version,
                client_type,
            };
            Ok((Connected::Hub(Box::new(connect)), subject))
        }
    }
}

fn mismatch(found: &str, expected: &str) -> String {
    let cut = |text: &str| text.chars().take(260).collect::<String>();
    format!("it is {:?}, the user name says {:?}", cut(found), cut(expected))
}

/// A will is telemetry of its client: any other topic is refused as a PUBLISH to it would be, with code 5. QoS 2 is stored as 1.
fn will_message(will: Will, prefix: &str) -> Result<WillMessage, String> {
    let topic = will.topic.as_str();
    let bag = telemetry::bag_of(topic, prefix).ok_or_else(|| {
        format!("its topic is {:?}, not under {prefix:?}", topic.chars().take(256).collect::<String>())
    })?;
    let Bag { mut properties, system } = telemetry::properties(bag, will.retain).map_err(|error| error.to_string())?;
    properties.retain(|(name, _)| !name.eq_ignore_ascii_case("iothub-MessageType"));
    properties.push(("iothub-MessageType".into(), Some("Will".into())));
    Ok(WillMessage { qos: stored_qos(will.qos), properties, system_properties: system, body: will.payload })
}

/// The guarantee as the hub knows it; there are two.
pub(super) fn stored_qos(qos: WireQoS) -> QoS {
    match qos {
        WireQoS::AtMostOnce => QoS::AtMostOnce,
        WireQoS::AtLeastOnce | WireQoS::ExactlyOnce => QoS::AtLeastOnce,
    }
}

/// The guarantee on the wire.
pub(super) fn wire_qos(qos: QoS) -> WireQoS {
    match qos {
        QoS::AtMostOnce => WireQoS::AtMostOnce,
        QoS::AtLeastOnce => WireQoS::AtLeastOnce,
    }
}
