use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::world::*;
use crate::log::{
    AppendError, BatchBuffer, GroupConfig, GroupHandle, GroupRules, GroupWriter, LogError, PushError, Retention,
};
use crate::vfs::{Fault, FaultEffect, OpKind, SimVfs};

/// `-` is refused, `|` stores nothing, `+x` stores two records, `!` panics, `?` waits for the gate; all else is a record.
struct Rules {
    answers: Sender<String>,
    gate: Receiver<()>,
    /// Records decided: in total, and what of it is stored.
    decided: usize,
    stored: Arc<AtomicUsize>,
}

impl GroupRules for Rules {
    type Item = &'static str;
    type Done = u64;
    type Refusal = &'static str;

    fn encode(&mut self, item: &mut &'static str, now_ms: u64, batch: &mut BatchBuffer) -> Result<u64, &'static str> {
        assert_eq!(now_ms, 42);
        let offset = batch.next_offset();
        match *item {
            "!" => panic!("the rules panic, as the test asked"),
            "|" => return Ok(offset),
            "?" => self.gate.recv().unwrap(),
            _ => {}
        }
        batch.push(item.as_bytes()).unwrap();
        if item.starts_with('+') {
            batch.push(b"second").unwrap();
        }
        if *item == "-" {
            return Err("no"); // the record pushed above must not stay
        }
        self.decided += 1;
        Ok(offset)
    }

    fn commit(&mut self) {
        self.stored.store(self.decided, Ordering::Relaxed);
    }

    fn roll_back(&mut self) {
        self.decided = self.stored.load(Ordering::Relaxed);
    }

    fn complete(&mut self, item: &'static str, result: Result<u64, AppendError<&'static str>>) {
        let answer = match result {
            Ok(offset) => format!("{item}@{offset}"),
            Err(AppendError::Refused(reason)) => format!("{item}: {reason}"),
            Err(AppendError::Log(LogError::Full { .. })) => format!("{item}: full"),
            Err(AppendError::Log(LogError::Poisoned { .. })) => format!("{item}: poisoned"),
            Err(AppendError::Log(_)) => format!("{item}: failed"),
        };
        drop(self.answers.send(answer));
    }
}

struct World {
    vfs: SimVfs,
    writer: GroupWriter<&'static str>,
    handle: GroupHandle<&'static str>,
    answers: Receiver<String>,
    gate: std::sync::mpsc::SyncSender<()>,
    stored: Arc<AtomicUsize>,
}

fn world(config: GroupConfig) -> World {
    let vfs = SimVfs::new();
    let (send, answers) = channel();
    let (gate, wait) = sync_channel(0);
    let stored = Arc::new(AtomicUsize::new(0));
    let rules = Rules { answers: send, gate: wait, decided: 0, stored: Arc::clone(&stored) };
    let writer = GroupWriter::spawn(open(&vfs).unwrap(), &config, || 42, rules).unwrap();
    World { handle: writer.handle(), vfs, writer, answers, gate, stored }
}

impl World {
    fn push(&self, items: &[&'static str]) {
        items.iter().for_each(|item| self.handle.try_push(item, item.len()).unwrap());
    }

    fn answers(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.answers.recv().unwrap()).collect()
    }
}

#[test]
fn items_are_answered_in_order_and_a_fence_or_a_refusal_takes_no_offset() {
    let world = world(GroupConfig::default());
    world.push(&["?", "a", "-", "|", "+b", "c"]);
    world.gate.send(()).unwrap();
    assert_eq!(world.answers(6), ["?@0", "a@1", "-: no", "|@2", "+b@2", "c@4"]);
    assert_eq!(texts(world.handle.reader()), ["?", "a", "+b", "second", "c"]);
    assert_eq!(world.stored.load(Ordering::Relaxed), 4);
}

#[test]
fn what_queues_up_during_a_sync_shares_the_next_one() {
    let world = world(GroupConfig::default());
    world.push(&["?"]);
    while world.handle.metrics().queue_items.load(Ordering::Relaxed) > 0 {
        std::thread::yield_now(); // until the thread has taken it
    }
    world.push(&["a"; 50]);
    assert_eq!(world.handle.metrics().queue_items.load(Ordering::Relaxed), 50);
    world.gate.send(()).unwrap();
    world.answers(51);
    let metrics = world.handle.metrics();
    assert_eq!(metrics.batches_total.load(Ordering::Relaxed), 2);
    assert_eq!(metrics.syncs_total.load(Ordering::Relaxed), 2);
    assert_eq!(metrics.records_total.load(Ordering::Relaxed), 51);
}

#[test]
fn a_batch_is_bounded_in_items_and_in_bytes() {
    for (items_max, bytes_max, batches) in [(10, usize::MAX, 3), (100, 56 + 4 * 9, 7), (0, 0, 0)] {
        let config = GroupConfig { batch_items_max: items_max, batch_bytes_max: bytes_max, ..GroupConfig::default() };
        if items_max == 0 {
            // A bound of nothing would never write: it is taken for one item.
            let world = world(GroupConfig { batch_bytes_max: 1000, ..config });
            world.push(&["a", "b"]);
            assert_eq!(world.answers(2), ["a@0", "b@1"]);
            continue;
        }
        let world = world(config);
        world.push(&["?"]);
        while world.handle.metrics().queue_items.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        world.push(&["a"; 25]);
        world.gate.send(()).unwrap();
        world.answers(26);
        assert_eq!(world.handle.metrics().batches_total.load(Ordering::Relaxed), 1 + batches);
    }
}

#[test]
fn a_full_queue_hands_back_or_makes_wait() {
    let world = world(GroupConfig { queue_items_max: 3, queue_bytes_max: 5, ..GroupConfig::default() });
    world.push(&["?"]);
    while world.handle.metrics().queue_items.load(Ordering::Relaxed) > 0 {
        std::thread::yield_now();
    }
    // Larger than the queue, but that is empty: it would never fit better.
    world.push(&["larger"]);
    assert_eq!(world.handle.try_push("b", 1), Err(PushError::Full("b")));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(world.handle.push("async", 5));
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Pending);
    {
        let mut forgotten = pin!(world.handle.push("never", 5));
        assert_eq!(forgotten.as_mut().poll(&mut context), Poll::Pending);
    }
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| world.handle.push_blocking("blocked", 7));
        world.gate.send(()).unwrap();
        assert_eq!(world.answers(2), ["?@0", "larger@1"]);
        blocked.join().unwrap().unwrap();
        assert_eq!(world.answers(1), ["blocked@2"]);
    });
    assert!(wakes.0.load(Ordering::Relaxed) >= 1);
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok(())));
    assert_eq!(world.answers(1), ["async@3"]);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_failed_sync_fails_its_batch_and_poisons_the_rest() {
    let world = world(GroupConfig::default());
    world.push(&["a"]);
    assert_eq!(world.answers(1), ["a@0"]);
    world.vfs.inject(Fault { op: Some(OpKind::Sync), nth: 1, effect: FaultEffect::Before, errno: EIO });
    world.push(&["b"]);
    assert_eq!(world.answers(1), ["b: failed"]);
    world.push(&["c", "|", "-"]);
    assert_eq!(world.answers(3), ["c: poisoned", "|: poisoned", "-: poisoned"]);
    assert_eq!(texts(world.handle.reader()), ["a"]);
    assert_eq!(world.stored.load(Ordering::Relaxed), 1, "what was decided in vain is rolled back");
    assert!(matches!(world.writer.shutdown(), Err(LogError::Poisoned { .. })));
}

#[test]
fn a_full_disk_fails_a_batch_and_the_next_one_may_succeed() {
    let world = world(GroupConfig::default());
    world.vfs.set_capacity(Some(world.vfs.used_bytes() + 10));
    world.push(&["a"]);
    assert_eq!(world.answers(1), ["a: full"]);
    world.vfs.set_capacity(None);
    world.push(&["b"]);
    assert_eq!(world.answers(1), ["b@0"]);
}

#[test]
fn a_shutdown_finishes_what_is_queued_and_takes_nothing_more() {
    let world = world(GroupConfig { queue_items_max: 4, ..GroupConfig::default() });
    world.push(&["?", "a", "b"]);
    let handle = world.handle.clone();
    std::thread::scope(|scope| {
        let writer = world.writer;
        let stopped = scope.spawn(move || writer.shutdown());
        while !matches!(handle.with_log(|_| {}), Err(PushError::Closed(_))) {
            std::thread::yield_now();
        }
        assert_eq!(handle.try_push("late", 4), Err(PushError::Closed("late")));
        assert_eq!(handle.push_blocking("late", 4), Err("late"));
        let poll = pin!(handle.push("late", 4)).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll, Poll::Ready(Err("late")));
        world.gate.send(()).unwrap();
        stopped.join().unwrap().unwrap();
    });
    assert_eq!(world.answers.iter().collect::<Vec<_>>(), ["?@0", "a@1", "b@2"]);
    assert_eq!(texts(&open(&world.vfs.crash(0)).unwrap().reader()), ["?", "a", "b"]);
}

#[test]
fn rules_that_panic_leave_nobody_waiting() {
    let world = world(GroupConfig { queue_items_max: 1, ..GroupConfig::default() });
    world.push(&["!"]);
    assert_eq!(world.answers.iter().count(), 0, "the answers end with the thread");
    assert_eq!(world.handle.push_blocking("late", 4), Err("late"));
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.writer.shutdown()));
    assert!(stopped.is_err());
}

#[test]
fn retention_runs_in_the_writers_thread() {
    let world = world(GroupConfig::default());
    world.push(&["a", "b"]);
    world.answers(2);
    let (send, result) = channel();
    world
        .handle
        .with_log(move |log| {
            log.roll().unwrap();
            send.send(log.retain(Retention { max_bytes: Some(0), min_time_ms: None })).unwrap();
        })
        .map_err(|_| "refused")
        .unwrap();
    assert_eq!(result.recv().unwrap().unwrap(), 2);
    assert_eq!(world.handle.reader().earliest(), 2);
}

#[test]
fn many_threads_get_each_record_stored_once_and_in_their_order() {
    struct Count(Arc<Mutex<Vec<(u64, u64)>>>);
    impl GroupRules for Count {
        type Item = (u64, u64);
        type Done = u64;
        type Refusal = ();
        fn encode(&mut self, item: &mut (u64, u64), _: u64, batch: &mut BatchBuffer) -> Result<u64, ()> {
            batch.push(&item.1.to_le_bytes()).map_err(drop)
        }
        fn complete(&mut self, item: (u64, u64), result: Result<u64, AppendError<()>>) {
            let mut answered = self.0.lock().unwrap();
            assert_eq!(result.unwrap(), answered.len() as u64);
            answered.push(item);
        }
    }
    let vfs = SimVfs::new();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let config = GroupConfig { queue_items_max: 64, ..GroupConfig::default() };
    let rules = Count(Arc::clone(&answered));
    let writer = GroupWriter::spawn(open(&vfs).unwrap(), &config, || 0, rules).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let handle = writer.handle();
            scope.spawn(move || (0..2000).for_each(|at| handle.push_blocking((thread, at), 8).unwrap()));
        }
    });
    writer.shutdown().unwrap();
    let answered = answered.lock().unwrap();
    for thread in 0..4 {
        assert!(answered.iter().filter(|item| item.0 == thread).map(|item| item.1).eq(0..2000));
    }
}
