//! Random sessions with power losses: U3, U4 and U8 of what is stored.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use proptest::prelude::*;
use unicity_hub::{Appended, RecordBody, StoredRecord};

use super::world::*;
use crate::vfs::SimVfs;

#[derive(Clone, Debug)]
enum Action {
    /// The client's next session begins.
    Open(u8),
    /// A message in the session that is so many behind the newest.
    Send(u8, u64),
    Close(u8),
    /// The answers so far come.
    Settle,
    /// The power goes, whatever is under way.
    Lose(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        2 => (0u8..3).prop_map(Action::Open),
        8 => (0u8..3, prop_oneof![4 => Just(0u64), 1 => Just(1)]).prop_map(|(n, behind)| Action::Send(n, behind)),
        1 => (0u8..3).prop_map(Action::Close),
        1 => Just(Action::Settle),
        1 => any::<u64>().prop_map(Action::Lose),
    ];
    proptest::collection::vec(action, 1..80)
}

/// What every log has to be like, whatever happened.
fn check(records: &[StoredRecord]) -> Result<(), TestCaseError> {
    let mut newest = BTreeMap::new();
    let mut sequences = BTreeMap::new();
    for (record, expected) in records.iter().zip(records[0].offset..) {
        prop_assert_eq!(record.offset, expected);
        let (stamp, sequence) = match &record.body {
            RecordBody::SessionOpen { stamp, .. } => (stamp, 0),
            RecordBody::Telemetry(message) => (&message.stamp, message.sequence),
        };
        let newest = newest.entry(stamp.client.clone()).or_insert(stamp.epoch);
        prop_assert!(stamp.epoch >= *newest, "U3: {} after {}", short(record), newest);
        *newest = stamp.epoch;
        let next = sequences.entry(stamp.epoch).or_insert(0);
        prop_assert_eq!(sequence, *next, "{} has to be #{}", short(record), next);
        *next += 1;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_acknowledged_message_is_there_once_with_its_stamp_after_any_power_loss(actions in actions()) {
        let mut sim = SimVfs::new();
        let mut store = open(&sim);
        let mut counter = 0;
        let mut newest = [0u64; 3];
        let mut under_way: Vec<(String, Receiver<Answer>)> = Vec::new();
        let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
        let mut numbered = 0;
        let settle = |under_way: &mut Vec<(String, Receiver<Answer>)>, acknowledged: &mut BTreeMap<u64, String>, wait: bool| {
            for (text, receiver) in under_way.drain(..) {
                let answer = if wait { receiver.recv().ok() } else { receiver.try_recv().ok() };
                if let Some(Ok(Appended::Stored { offset })) = answer {
                    assert!(acknowledged.insert(offset, text).is_none(), "an offset is given out once");
                }
            }
        };
        for action in actions.into_iter().chain([Action::Settle, Action::Lose(1)]) {
            match action {
                Action::Open(n) => {
                    counter += 1;
                    newest[n as usize] = counter;
                    let _ = submit(&store, open_session(n, counter));
                }
                Action::Send(n, behind) => {
                    numbered += 1;
                    let epoch = newest[n as usize].saturating_sub(behind);
                    let text = format!("message {numbered}");
                    under_way.push((text.clone(), submit(&store, message(n, epoch, &text))));
                }
                Action::Close(n) => drop(submit(&store, close_session(n, newest[n as usize]))),
                Action::Settle => settle(&mut under_way, &mut acknowledged, true),
                Action::Lose(seed) => {
                    // First what was answered, then the power: what comes in between was under way.
                    settle(&mut under_way, &mut acknowledged, false);
                    sim = sim.crash(seed);
                    store = open(&sim);
                    newest = [0; 3];
                    let records = all(&store);
                    if !records.is_empty() {
                        check(&records)?;
                    }
                    let mut texts: Vec<_> = records.iter().map(short).collect();
                    for (offset, text) in &acknowledged {
                        let found = records.iter().find(|record| record.offset == *offset).map(short);
                        prop_assert!(found.as_ref().is_some_and(|found| found.ends_with(text.as_str())), "{offset}: {text}, {found:?}");
                    }
                    texts.sort();
                    prop_assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "no message is there twice");
                }
            }
        }
    }
}
