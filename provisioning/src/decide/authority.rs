//! Authorities are uploaded, verified and removed; revocation lists and deny rules take effect. What they contain was judged before
//! they came here (`x509`): the writer only looks at versions and references.

use ring::digest;
use unicity_identity::error::Subject;
use unicity_identity::{
    Attestation, Authority, AuthorityName, DenyRule, Entropy, Facets, Refusal, RevocationList, Timestamp,
};

use super::{Parts, check};
use crate::leaf::LeafEvent;
use crate::registry::{Change, Fault, Outcome, Precondition, RegistryError, RegistryView};
use crate::revoked;

/// A group that refers to an authority.
fn referring(view: &dyn RegistryView, name: &AuthorityName) -> Result<Option<String>, Fault> {
    let found = view.groups()?.into_iter().find(|group| match &group.terms.attestation {
        Attestation::CaReferences { primary, secondary } => {
            [primary, secondary].into_iter().flatten().any(|reference| reference.name == *name)
        }
        _ => false,
    });
    Ok(found.map(|group| group.group_id.to_string()))
}

fn in_use(name: &AuthorityName, group: &str) -> Refusal {
    Refusal::Invalid {
        what: format!("certificate authority {name}"),
        why: format!("enrollment group {group} refers to it; change that group first"),
    }
}

pub(super) fn put(
    view: &dyn RegistryView,
    draft: Authority,
    precondition: &Precondition,
    now: Timestamp,
    entropy: &mut Entropy,
) -> Result<Parts, RegistryError> {
    let name = draft.name.clone();
    let stored = view.authority(&name)?;
    check(precondition, stored.as_ref().map(|stored| stored.etag), || Subject::Authority(name.clone()))?;
    if stored.as_ref().is_some_and(|stored| stored.key != draft.key)
        && let Some(group) = referring(view, &name)?
    {
        return Err(in_use(&name, &group).into());
    }
    if draft.verified {
        let facets = Facets { keys: vec![draft.key], authorities: vec![draft.key], ..Facets::default() };
        revoked::check_enrolling(view, &facets, [&draft.key], || Subject::Authority(name.clone()).to_string())?;
    }
    let authority = Authority {
        etag: entropy.etag(),
        created: stored.as_ref().map_or(now, |stored| stored.created),
        updated: now,
        ..draft
    };
    let event =
        LeafEvent::AuthorityPut { name, key: authority.key, verified: authority.verified, replaced: stored.is_some() };
    Ok((vec![Change::PutAuthority(Box::new(authority.clone()))], event, Outcome::Authority(Box::new(authority))))
}

pub(super) fn delete(
    view: &dyn RegistryView,
    name: AuthorityName,
    precondition: &Precondition,
) -> Result<Parts, RegistryError> {
    let stored = view.authority(&name)?;
    check(precondition, stored.map(|stored| stored.etag), || Subject::Authority(name.clone()))?;
    if let Some(group) = referring(view, &name)? {
        return Err(in_use(&name, &group).into());
    }
    Ok((vec![Change::DeleteAuthority(name.clone())], LeafEvent::AuthorityDeleted { name }, Outcome::Done))
}

pub(super) fn put_revocation_list(list: RevocationList) -> Parts {
    let hash = digest::digest(&digest::SHA256, &list.der);
    let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let event = LeafEvent::RevocationListPut { issuer_key: list.issuer_key, sha256 };
    (vec![Change::PutRevocationList(Box::new(list))], event, Outcome::Done)
}

pub(super) fn set_deny_rule(rule: DenyRule, denied: bool) -> Parts {
    let change = if denied { Change::PutDenyRule(rule.clone()) } else { Change::DeleteDenyRule(rule.clone()) };
    (vec![change], LeafEvent::DenyRuleSet { rule, denied }, Outcome::Done)
}
