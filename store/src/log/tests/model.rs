//! Random actions on a log over a disk that fails and loses power, against a list of what was acknowledged.

use proptest::prelude::*;

use super::world::*;
use crate::log::{LogConfig, LogError, LogReader, Retention, SegmentLog};
use crate::vfs::{Fault, FaultEffect, OpKind, SimVfs};

#[derive(Clone, Debug)]
enum Action {
    Append(Vec<usize>),
    Sync,
    Roll,
    DropBefore(u64),
    Retain {
        keep_bytes: u64,
    },
    /// The power goes, and what is on the disk is opened.
    Crash(u64),
    /// The process dies: the kernel keeps what was written.
    Kill,
    CloseAndReopen,
    Fail(Fault),
    /// So many more bytes fit on the disk.
    LittleRoom(u64),
    Room,
}

fn action() -> impl Strategy<Value = Action> {
    let op = prop_oneof![
        Just(None),
        Just(Some(OpKind::Write)),
        Just(Some(OpKind::Sync)),
        Just(Some(OpKind::SetLen)),
        Just(Some(OpKind::SyncDir)),
        Just(Some(OpKind::Create)),
        Just(Some(OpKind::Remove)),
    ];
    let effect = prop_oneof![Just(FaultEffect::Before), Just(FaultEffect::Half), Just(FaultEffect::After)];
    prop_oneof![
        12 => prop::collection::vec(0..700usize, 1..6).prop_map(Action::Append),
        8 => Just(Action::Sync),
        1 => Just(Action::Roll),
        1 => (0..12u64).prop_map(Action::DropBefore),
        1 => (0..4000u64).prop_map(|keep_bytes| Action::Retain { keep_bytes }),
        3 => any::<u64>().prop_map(Action::Crash),
        2 => Just(Action::Kill),
        1 => Just(Action::CloseAndReopen),
        2 => (op, 1..4u32, effect).prop_map(|(op, nth, effect)| Action::Fail(Fault { op, nth, effect, errno: EIO })),
        1 => (0..1500u64).prop_map(Action::LittleRoom),
        1 => Just(Action::Room),
    ]
}

/// What the log must answer to.
struct Model {
    vfs: SimVfs,
    log: Option<SegmentLog>,
    /// Everything ever appended and not known to be lost, by offset.
    appended: Vec<Vec<u8>>,
    /// So many of them were acknowledged, or were shown to a reader.
    synced: u64,
    /// No drop was asked for beyond this offset.
    may_be_dropped: u64,
    serial: u64,
}

impl Model {
    fn new() -> Self {
        let vfs = SimVfs::new();
        let log = Some(open_with(&vfs, config(0)).unwrap());
        Self { vfs, log, appended: Vec::new(), synced: 0, may_be_dropped: 0, serial: 0 }
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Append(lengths) => self.append(lengths),
            Action::Sync => {
                if let Ok(end) = self.log().sync() {
                    assert_eq!(end, self.appended.len() as u64);
                }
            }
            Action::Roll => drop(self.log().roll()),
            Action::DropBefore(back) => {
                let offset = self.synced.saturating_sub(*back);
                self.may_be_dropped = self.may_be_dropped.max(offset);
                drop(self.log().drop_before(offset));
            }
            Action::Retain { keep_bytes } => {
                let last = self.log().reader().segments().last().unwrap().base_offset;
                self.may_be_dropped = self.may_be_dropped.max(last);
                drop(self.log().retain(Retention { max_bytes: Some(*keep_bytes), min_time_ms: None }));
            }
            Action::Crash(seed) => {
                self.vfs = self.vfs.crash(*seed);
                self.reopen();
            }
            Action::Kill => self.reopen(),
            Action::CloseAndReopen => {
                drop(self.log.take().unwrap().close());
                self.reopen();
            }
            Action::Fail(fault) => self.vfs.inject(*fault),
            Action::LittleRoom(bytes) => self.vfs.set_capacity(Some(self.vfs.used_bytes() + bytes)),
            Action::Room => self.vfs.set_capacity(None),
        }
        // An append or a roll that failed may have synced what came before it.
        self.synced = self.synced.max(self.log().synced_end());
        self.check();
    }

    fn log(&mut self) -> &mut SegmentLog {
        self.log.as_mut().unwrap()
    }

    fn append(&mut self, lengths: &[usize]) {
        let records: Vec<Vec<u8>> = lengths
            .iter()
            .map(|&length| {
                self.serial += 1;
                self.serial.to_le_bytes().into_iter().cycle().take(length + 8).collect()
            })
            .collect();
        let next = self.appended.len() as u64;
        match self.log().append(7, records.iter().map(Vec::as_slice)) {
            Ok(offsets) => {
                assert_eq!(offsets, next..next + records.len() as u64);
                self.appended.extend(records);
            }
            Err(LogError::Full { .. }) => assert_eq!(self.log().next_offset(), next),
            // It may have landed all the same: a restart shows all of it or nothing.
            Err(LogError::Io { .. }) => self.appended.extend(records),
            Err(LogError::Poisoned { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn reopen(&mut self) {
        let known = LogConfig { synced_at_least: self.synced, ..config(0) };
        self.log = None;
        // A start may fail on a disk that does, but it must not make anything worse.
        let log = loop {
            match open_with(&self.vfs, known.clone()) {
                Ok(log) => break log,
                Err(LogError::Io { .. } | LogError::Full { .. }) => {
                    self.vfs.clear_faults();
                    self.vfs.set_capacity(None);
                }
                Err(other) => panic!("{other}"),
            }
        };
        // What was not acknowledged may be there or not; if it is, it counts from now on.
        let end = log.synced_end();
        assert!(end >= self.synced && end <= self.appended.len() as u64);
        self.appended.truncate(end as usize);
        self.synced = end;
        self.log = Some(log);
    }

    /// Every synced record is there once, in order, byte for byte, unless it was allowed to be dropped; and no other.
    fn check(&mut self) {
        let reader: LogReader = self.log().reader();
        let (earliest, end) = (reader.earliest(), reader.end());
        assert!(earliest <= self.may_be_dropped, "{earliest} was dropped, {} was allowed", self.may_be_dropped);
        assert_eq!(end, self.synced);
        let mut next = earliest;
        while next < end {
            let records = reader.read_from(next, 1000).unwrap();
            assert!(!records.is_empty());
            for record in records {
                assert_eq!(record.offset, next);
                assert_eq!(record.payload, self.appended[next as usize], "offset {next}");
                next += 1;
            }
        }
        if earliest > 0 {
            assert!(matches!(reader.read_from(earliest - 1, 1), Err(LogError::TooOld { .. })));
        }
    }
}

fn config(synced_at_least: u64) -> LogConfig {
    LogConfig { segment_bytes_max: 3000, first_offset: 0, synced_at_least }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_survives_faults_and_power_loss(
        actions in prop::collection::vec(action(), 1..60),
        last_seed in any::<u64>(),
    ) {
        let mut model = Model::new();
        for action in actions.iter().chain([&Action::Crash(last_seed)]) {
            model.apply(action);
        }
    }
}
