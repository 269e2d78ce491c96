//! Revocations are seen at once by whoever has to: by the writer before they are synced, by everyone else after, and after a restart.

use std::sync::Arc;

use unicity_identity::{DenyRule, Facets, Refusal, RevocationTarget};
use unicity_provisioning::{Command, Outcome, Registry as _, RegistryError, RegistryView as _};

use super::fleet;
use super::gate::Gate;
use super::world::{open, options};
use crate::registry::RegistryStore;
use crate::vfs::SimVfs;

fn revoke(n: u64) -> unicity_provisioning::Request {
    let target = RevocationTarget::Registration(fleet::id(n));
    fleet::request(Command::Revoke { target, reason: None, force: true }, u64::MAX / 7 + n)
}

fn covers(store: &RegistryStore, n: u64) -> bool {
    let facets = Facets { registration: Some(fleet::id(n)), ..Facets::default() };
    store.revoked().unwrap().covers(&facets).is_some()
}

#[test]
fn the_writer_sees_a_revocation_that_is_not_synced_yet_and_nobody_else_does() {
    let (gate, vfs) = Gate::before(Arc::new(SimVfs::new()), "journal");
    let store = RegistryStore::open(options(), vfs).unwrap();
    let group = fleet::group(&*store);
    fleet::submit(&*store, fleet::register(&group, 1)).unwrap();
    fleet::submit(&*store, fleet::register(&group, 2)).unwrap();
    gate.shut();
    // The first holds the disk up; the others are decided together behind it.
    let mut waiting = [
        store.submit(fleet::register(&group, 3)),
        store.submit(revoke(1)),
        store.submit(fleet::register(&group, 1)),
        store.submit(fleet::register(&group, 2)),
    ];
    fleet::begin(&mut waiting);
    gate.wait_for_one();
    assert!(!covers(&store, 1), "it is not synced");
    gate.open();
    let [_, revoked, refused, passed] = waiting.map(fleet::block_on);
    assert!(matches!(revoked, Ok(Outcome::Revoked(_))));
    assert!(matches!(refused, Err(RegistryError::Refused(Refusal::Revoked { .. }))), "{refused:?}");
    passed.unwrap();
    assert!(covers(&store, 1) && !covers(&store, 2));
}

#[test]
fn a_restart_finds_revocations_and_denied_keys_in_the_journal_and_in_the_index() {
    let vfs = SimVfs::new();
    for is_checkpointed in [false, true] {
        let store = open(&vfs);
        let n = 1 + u64::from(is_checkpointed);
        let group = fleet::group(&*store);
        fleet::submit(&*store, fleet::register(&group, n)).unwrap();
        let key = store.registration(&fleet::id(n)).unwrap().unwrap().key_fingerprint;
        assert!(!store.is_denied(&key).unwrap());
        fleet::submit(&*store, revoke(n)).unwrap();
        assert!(covers(&store, n) && store.is_denied(&key).unwrap());
        if is_checkpointed {
            store.checkpoint().unwrap();
        }
        drop(store);
        let store = open(&vfs);
        assert!(covers(&store, n) && store.is_denied(&key).unwrap());
        let target = RevocationTarget::Registration(fleet::id(n));
        assert!(store.revocation(&target).unwrap().is_some_and(|found| found.complete));
        assert!(matches!(
            fleet::submit(&*store, fleet::register(&group, n)),
            Err(RegistryError::Refused(Refusal::Revoked { .. }))
        ));
        assert!(store.denied_serials().unwrap().is_empty(), "rules about keys are not among those about serials");
        let rule = DenyRule::Serial { issuer: "CN=x".into(), serial: "0A".into() };
        let before = store.trust_version();
        let command = Command::SetDenyRule { rule: rule.clone(), denied: !is_checkpointed };
        fleet::submit(&*store, fleet::request(command, 77 + n)).unwrap();
        assert!(store.trust_version() > before, "a rule about a serial number decides about trust");
        assert_eq!(store.denied_serials().unwrap(), if is_checkpointed { vec![] } else { vec![rule.clone()] });
        if !is_checkpointed {
            let command = Command::SetDenyRule { rule, denied: false };
            fleet::submit(&*store, fleet::request(command, 99)).unwrap();
        }
    }
}
