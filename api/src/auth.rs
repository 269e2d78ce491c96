//! Service authentication: a SAS token under a policy's key (`service-rest.md` 2.2 and 11).

use std::time::Instant;

use http::{HeaderMap, header};
use unicity_identity::error::Subject;
use unicity_identity::{LinkedHub, Refusal, SasToken};
use unicity_provisioning::Actor;

use crate::api::Shared;
use crate::failure::Failure;
use crate::policy::{Audience, Right, Rights, ServicePolicy};
use crate::rate::KeyOfPolicy;
use crate::route::AudienceRule;
use crate::settings::ApiSettings;
use crate::target::Target;

/// Who a request is from, proven.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// The policy whose key signed.
    pub(crate) policy: String,
    rights: Rights,
    /// Where that policy is good.
    pub(crate) audience: Audience,
    /// The hub that the call is for, if it is one of a hub's.
    hub: Option<LinkedHub>,
}

impl Principal {
    /// Goes on only with all of `rights`.
    ///
    /// # Errors
    /// [`Refusal::MissingRight`], which is a 401 as the real service's is.
    pub(crate) fn require(&self, mut rights: impl Iterator<Item = Right>) -> Result<(), Failure> {
        match rights.find(|right| !self.rights.contains(*right)) {
            Some(right) => Err(Refusal::MissingRight { policy: self.policy.clone(), right: right.as_str() }.into()),
            None => Ok(()),
        }
    }

    /// Goes on only if this policy may make, change and delete device identities of its hub.
    ///
    /// # Errors
    /// [`Refusal::NotAssigner`], a 403, where that is another policy's alone.
    pub(crate) fn require_assigner(&self, settings: &ApiSettings) -> Result<(), Failure> {
        let hub = &self.hub()?.name;
        match settings.assigned_by.get(hub) {
            Some(assigner) if assigner.as_str() != self.policy => {
                let (hub, assigner, policy) = (hub.clone(), assigner.clone(), self.policy.clone());
                Err(Refusal::NotAssigner { hub, assigner, policy }.into())
            }
            _ => Ok(()),
        }
    }

    /// The hub of a hub call.
    pub(crate) fn hub(&self) -> Result<&LinkedHub, Failure> {
        self.hub.as_ref().ok_or_else(|| Refusal::NotFound(Subject::Hub(String::new())).into())
    }

    /// As the journal names it.
    pub(crate) fn actor(&self) -> Actor {
        Actor::Policy(self.policy.clone())
    }
}

/// The `Host` of a request, with the port if it has one, and without. HTTP/1.1 with an absolute target is not looked at: no SDK
/// sends it.
fn host(headers: &HeaderMap) -> (&str, &str) {
    let full = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bare = match full.rsplit_once(':') {
        Some((head, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !head.contains(':') => {
            head
        }
        // An IPv6 address is in brackets, which names and tokens do not have.
        _ => match full.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => full,
        },
    };
    (full, bare)
}

/// The hub that a request is for: `hub=` where we offer it, else the one of this host, else the only one there is.
fn find_hub<'a>(shared: &'a Shared, target: &Target, host: &str) -> Result<&'a LinkedHub, Failure> {
    let hubs = &shared.provisioning.settings().hubs;
    let unknown = |name: &str| Failure::from(Refusal::NotFound(Subject::Hub(name.chars().take(253).collect())));
    if let Some(name) = target.query("hub").filter(|_| target.head() == "unicity") {
        return name
            .parse()
            .ok()
            .and_then(|name| hubs.by_name(&name))
            .or_else(|| hubs.by_host(name))
            .ok_or_else(|| unknown(name));
    }
    if let Some(hub) = hubs.by_host(host) {
        return Ok(hub);
    }
    let mut all = hubs.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(unknown(host)),
    }
}

/// Proves who a request is from.
///
/// # Errors
/// 401, 404 where the hub is unknown, and 429 where its key calls too often. The signature is checked before anything that only its owner may learn.
pub(crate) fn authenticate(
    shared: &Shared,
    rule: AudienceRule,
    target: &Target,
    headers: &HeaderMap,
) -> Result<Principal, Failure> {
    let (host_full, host_bare) = host(headers);
    let hub = match rule {
        AudienceRule::Hub => Some(find_hub(shared, target, host_bare)?),
        AudienceRule::Dps | AudienceRule::Any | AudienceRule::Policies => None,
    };
    let Some(token) = headers.get(header::AUTHORIZATION) else {
        return Err(Failure::new(
            401_002,
            "NoCredential",
            "the header Authorization is missing: send a SAS token in it; `unicity sas` makes one".into(),
        ));
    };
    let token = token.to_str().map_err(|_| Refusal::TokenMalformed(unicity_identity::sas::InvalidToken::Scheme))?;
    let token = SasToken::parse(token).map_err(Refusal::from)?;
    let Some(name) = token.policy() else {
        return Err(Failure::new(
            401_002,
            "NoPolicy",
            "the SAS token names no policy: `skn` is missing, as in a device's token".into(),
        ));
    };
    let fits = |audience: &Audience| match (rule, audience) {
        (AudienceRule::Any, _) | (AudienceRule::Dps | AudienceRule::Policies, Audience::Dps) => true,
        (AudienceRule::Hub, Audience::Hub(found)) => hub.is_some_and(|hub| hub.name == *found),
        (AudienceRule::Policies, Audience::Hub(_)) => {
            target.query("audience").and_then(|asked| asked.parse::<Audience>().ok()).as_ref() == Some(audience)
        }
        _ => false,
    };
    let live = shared.policies.load();
    let signed_by = |policy: &ServicePolicy| {
        if token.verify(&policy.primary) {
            return Some(KeyOfPolicy::Primary);
        }
        token.verify(&policy.secondary).then_some(KeyOfPolicy::Secondary)
    };
    let (place, policy, key) = live
        .policies
        .named(name)
        .filter(|(_, policy)| fits(&policy.audience))
        .find_map(|(place, policy)| Some((place, policy, signed_by(policy)?)))
        .ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            let place = match (rule, hub) {
                (AudienceRule::Hub, Some(hub)) => format!(" of hub {}", hub.name),
                (AudienceRule::Dps, _) => " of the provisioning service".into(),
                _ => String::new(),
            };
            Refusal::WrongKey { subject: format!("policy {shown:?}{place}") }
        })?;
    let settings = shared.provisioning.settings();
    if !covers(shared, &token, host_full, host_bare, &target.path_raw) {
        return Err(Refusal::TokenForOther {
            found: token.resource_raw().chars().take(256).collect(),
            expected: host_bare.chars().take(253).collect(),
        }
        .into());
    }
    let now = shared.environment.now();
    if token.is_expired(now, settings.token_skew_seconds) {
        return Err(Refusal::TokenExpired {
            ended: unicity_identity::Timestamp(token.expiry_seconds().saturating_mul(1000)),
            now,
            skew_seconds: settings.token_skew_seconds,
        }
        .into());
    }
    // Last: only who holds the key may empty its bucket.
    live.rates
        .lock()
        .take(place, key, Instant::now())
        .map_err(|retry_after_seconds| Refusal::Throttled { what: "requests with this key", retry_after_seconds })?;
    Ok(Principal {
        policy: policy.name.clone(),
        rights: policy.rights,
        audience: policy.audience.clone(),
        hub: hub.cloned(),
    })
}

/// Whether the token is for this service: the request's own host or any name of ours, with or without the port that the
/// client connected to.
fn covers(shared: &Shared, token: &SasToken, host_full: &str, host_bare: &str, path: &str) -> bool {
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let port = host_full.strip_prefix(host_bare).filter(|rest| rest.starts_with(':')).unwrap_or_default();
    let settings = shared.provisioning.settings();
    let hubs =
        settings.hubs.iter().flat_map(|hub| std::iter::once(&hub.host).chain(&hub.aliases)).map(|host| host.as_str());
    let own = shared.settings.host_names.iter().map(String::as_str).chain(hubs);
    std::iter::once(host_bare)
        .filter(|host| !host.is_empty())
        .chain(own)
        .any(|host| token.covers(host, &path) || (!port.is_empty() && token.covers(&format!("{host}{port}"), &path)))
        || (!host_full.is_empty() && token.covers(host_full, &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_comes_off_the_host() {
        for (full, bare) in [
            ("Hub.local:8443", "Hub.local"),
            ("hub.local", "hub.local"),
            ("[::1]:8443", "::1"),
            ("[::1]", "::1"),
            ("", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, full.parse().unwrap());
            assert_eq!(host(&headers), (full, bare));
        }
    }
}
