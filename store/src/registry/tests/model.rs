//! Random histories with power losses, against a model that decides the same requests in memory.

use proptest::prelude::*;
use unicity_identity::KeyFingerprint;
use unicity_provisioning::{Registry as _, Request};

use super::fleet;
use super::world::{Model, open_with, options};
use crate::registry::RegistryOptions;
use crate::vfs::SimVfs;

const DEVICES: u64 = 5;
const KEYS: u64 = 4;

#[derive(Clone, Debug)]
enum Action {
    /// One request, answered before the next.
    One(Ask),
    /// Requests under way when the power goes, and what the disk makes of it.
    Lose {
        under_way: Vec<Ask>,
        seed: u64,
    },
    Checkpoint,
    /// A clean stop and a start.
    Restart,
}

/// Device and key numbers are few, so that collisions are many.
#[derive(Clone, Debug)]
enum Ask {
    Enroll(u64, u64),
    Unenroll(u64),
    Register(u64, u64),
    Forget(u64),
    DeleteDevice(u64),
}

fn asks() -> impl Strategy<Value = Ask> {
    let (device, key) = (0..DEVICES, 0..KEYS);
    prop_oneof![
        2 => (device.clone(), key.clone()).prop_map(|(n, k)| Ask::Enroll(n, k)),
        1 => device.clone().prop_map(Ask::Unenroll),
        6 => (device.clone(), key).prop_map(|(n, k)| Ask::Register(n, k)),
        1 => device.clone().prop_map(Ask::Forget),
        1 => device.prop_map(Ask::DeleteDevice),
    ]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        10 => asks().prop_map(Action::One),
        2 => (proptest::collection::vec(asks(), 0..12), any::<u64>())
            .prop_map(|(under_way, seed)| Action::Lose { under_way, seed }),
        2 => Just(Action::Checkpoint),
        1 => Just(Action::Restart),
    ];
    proptest::collection::vec(action, 1..40)
}

/// Each request has randomness of its own, the same for store and model.
fn request(ask: &Ask, model: &Model, seed: u64) -> Request {
    let slots = |k: u64| [fleet::slot("shared", k), fleet::slot("shared", k)];
    let mut request = match ask {
        Ask::Enroll(n, k) => fleet::put_individual(*n, slots(*k)),
        Ask::Unenroll(n) => fleet::delete_individual(*n),
        Ask::Register(n, k) => {
            let group = model.groups.values().next().expect("it is made first");
            fleet::register_with(group, *n, slots(*k))
        }
        Ask::Forget(n) => fleet::unregister(*n)[0].clone(),
        Ask::DeleteDevice(n) => fleet::unregister(*n)[1].clone(),
    };
    request.entropy = fleet::entropy(seed);
    request
}

/// Checkpoints after a few records, so that they happen at any moment.
fn small() -> RegistryOptions {
    RegistryOptions { checkpoint_after: 12, overlay_max: 24, journal_segment_bytes: 8 * 1024, ..options() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// U8, U1, U2: what was answered is there after any power loss, whole; of what was under way a prefix is.
    #[test]
    fn a_power_loss_leaves_every_answered_decision_and_no_half_of_another(actions in actions()) {
        let keys: Vec<KeyFingerprint> = (0..KEYS).map(|k| fleet::slot("shared", k).fingerprint)
            .chain((0..2).map(|k| fleet::slot("group", k).fingerprint)).collect();
        let mut sim = SimVfs::new();
        let mut store = open_with(small(), &sim).unwrap();
        let mut model = Model::default();
        let mut seed = 0;
        let mut boots = vec![store.boot_number()];
        fleet::group(&*store);
        model.submit(fleet::put_group()).unwrap();
        for action in actions {
            match action {
                Action::One(ask) => {
                    seed += 1;
                    let request = request(&ask, &model, seed);
                    let found = fleet::submit(&*store, request.clone()).map(|_| ());
                    prop_assert_eq!(found, model.submit(request), "{:?}", ask);
                }
                Action::Checkpoint => store.checkpoint().unwrap(),
                Action::Restart => {
                    store.close().unwrap();
                    store = open_with(small(), &sim).unwrap();
                    boots.push(store.boot_number());
                }
                Action::Lose { under_way, seed: chance } => {
                    let mut prefixes = vec![model.clone()];
                    let mut futures = Vec::new();
                    for ask in under_way {
                        seed += 1;
                        let request = request(&ask, &model, seed);
                        futures.push(store.submit(request.clone()));
                        let mut next = prefixes.last().unwrap().clone();
                        let _ = next.submit(request);
                        prefixes.push(next);
                    }
                    fleet::begin(&mut futures);
                    sim = sim.crash(chance);
                    store = open_with(small(), &sim).unwrap();
                    boots.push(store.boot_number());
                    let found = Model::of(&store, &keys);
                    prop_assert!(prefixes.contains(&found), "{:#?}\nis none of the {} prefixes", found, prefixes.len());
                    model = found;
                }
            }
        }
        prop_assert_eq!(Model::of(&store, &keys), model);
        prop_assert!(boots.is_sorted_by(|one, next| one < next), "{:?}", boots);
    }
}
