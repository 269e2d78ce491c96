//! Hubs elsewhere in memory: a real store of identities and twins with its conditions, and answers that go wrong by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use unicity_identity::{HubName, HubPlace, KeyFingerprint, LinkedHub};
use unicity_outbound::hub::{Condition, HubAnswer, HubApi, HubReply, HubRequest, Method, Pending};

/// Numbers from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) identity: Value,
    pub(crate) twin: Value,
}

impl Device {
    pub(crate) fn is_enabled(&self) -> bool {
        self.identity["status"] == "enabled"
    }
}

#[derive(Default)]
pub(crate) struct Hub {
    pub(crate) devices: BTreeMap<String, Device>,
    /// Takes whole twins.
    pub(crate) is_unicity: bool,
    /// The key that it knows; others are refused.
    pub(crate) key: Option<KeyFingerprint>,
    pub(crate) is_down: bool,
    made: u64,
}

pub(crate) struct State {
    pub(crate) hubs: BTreeMap<HubName, Hub>,
    dice: Dice,
    /// Of a hundred calls, so many go wrong.
    pub(crate) faults: u64,
    /// Requests on their way for longer than anybody waited.
    late: VecDeque<(HubName, HubRequest)>,
    /// One of so many calls brings one of these along.
    late_one_in: u64,
    /// What is late whenever it is asked.
    pub(crate) late_if: Option<fn(&HubRequest) -> bool>,
    pub(crate) events: u64,
    kill_at: Option<u64>,
}

impl State {
    /// Requests that are on their way still.
    pub(crate) fn on_their_way(&self) -> usize {
        self.late.len()
    }
}

/// Looks at everything whenever anything changed at any hub.
pub(crate) type Check = Arc<dyn Fn(&BTreeMap<HubName, Hub>) + Send + Sync>;

pub(crate) struct FaultyHubs {
    state: Mutex<State>,
    check: Mutex<Option<Check>>,
    /// Whoever was to be killed has come to where it is to die.
    pub(crate) reached: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    Busy(Option<u64>),
    Before(u16),
    After(u16),
    LostBefore,
    LostAfter,
    Late,
}

impl FaultyHubs {
    pub(crate) fn new(names: &[&str], seed: u64, faults: u64) -> Arc<Self> {
        let mut hubs = BTreeMap::new();
        for name in names {
            hubs.insert(name.parse().unwrap(), Hub { is_unicity: true, ..Hub::default() });
        }
        Arc::new(Self {
            state: Mutex::new(State {
                hubs,
                dice: Dice::new(seed),
                faults,
                late: VecDeque::new(),
                late_one_in: 2 + seed % 25,
                late_if: None,
                events: 0,
                kill_at: None,
            }),
            check: Mutex::default(),
            reached: Notify::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn watch(&self, check: Check) {
        *self.check.lock().unwrap() = Some(check);
    }

    /// Whoever makes the call of this event, from now on, is stopped there for good.
    pub(crate) fn kill_after(&self, events: Option<u64>) {
        let mut state = self.state();
        state.kill_at = events.map(|events| state.events + events);
    }

    /// What was on its way arrives.
    pub(crate) fn deliver_late(&self) {
        let mut state = self.state();
        while let Some((hub, request)) = state.late.pop_front() {
            self.apply(&mut state, &hub, &request);
        }
    }

    fn apply(&self, state: &mut State, hub: &HubName, request: &HubRequest) -> HubReply {
        let reply = state.hubs.get_mut(hub).unwrap().handle(request);
        let check = self.check.lock().unwrap().clone();
        if let Some(check) = check {
            check(&state.hubs);
        }
        reply
    }

    /// A point at which the caller may die.
    async fn point(&self) {
        let dies = {
            let mut state = self.state();
            state.events += 1;
            state.kill_at == Some(state.events)
        };
        if dies {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }

    /// What goes wrong with the next call.
    pub(crate) fn fault(&self, request: &HubRequest) -> Fault {
        let mut state = self.state();
        if state.late_if.is_some_and(|is_late| is_late(request)) {
            return Fault::Late;
        }
        if state.dice.below(100) >= state.faults {
            return Fault::None;
        }
        match state.dice.below(11) {
            0 => Fault::Busy(None),
            1 => Fault::Busy(Some(0)),
            2 => Fault::Before(500),
            3 => Fault::After(500),
            4 => Fault::Before(503),
            5 => Fault::Before(if state.dice.below(2) == 0 { 409 } else { 412 }),
            6 => Fault::LostBefore,
            7 => Fault::LostAfter,
            _ => Fault::Late,
        }
    }

    /// One request with what goes wrong; `None`: no answer.
    pub(crate) fn serve(&self, hub: &HubName, request: &HubRequest, fault: Fault) -> Option<HubReply> {
        let mut state = self.state();
        let one_in = state.late_one_in;
        if state.dice.below(one_in) == 0
            && let Some((hub, late)) = state.late.pop_front()
        {
            self.apply(&mut state, &hub, &late);
        }
        let plain =
            |status| HubReply { status, retry_after: None, body: json!({"Message": "ErrorCode:Fault;made up"}) };
        match fault {
            Fault::None => Some(self.apply(&mut state, hub, request)),
            Fault::Busy(after) => Some(HubReply { retry_after: after.map(Duration::from_secs), ..plain(429) }),
            // A read has no such answers.
            Fault::Before(409 | 412) if request.method == Method::Get => Some(self.apply(&mut state, hub, request)),
            Fault::Before(status) => Some(plain(status)),
            Fault::After(status) => {
                self.apply(&mut state, hub, request);
                Some(plain(status))
            }
            Fault::LostBefore => None,
            Fault::LostAfter => {
                self.apply(&mut state, hub, request);
                None
            }
            Fault::Late => {
                state.late.push_back((hub.clone(), request.clone()));
                None
            }
        }
    }
}

impl HubApi for FaultyHubs {
    fn call<'a>(&'a self, hub: &'a LinkedHub, request: HubRequest) -> Pending<'a, HubAnswer> {
        Box::pin(async move {
            let HubPlace::Remote(link) = &hub.place else { panic!("a local hub is not called") };
            let (is_down, is_known) = {
                let state = self.state();
                let found = &state.hubs[&hub.name];
                (found.is_down, found.key.is_none_or(|key| key == link.key.fingerprint))
            };
            let is_probe = request.path.starts_with("/statistics");
            if is_down {
                tokio::task::yield_now().await;
                return HubAnswer::Lost { cause: "nobody listens".into() };
            }
            if !is_known {
                let body = json!({"Message": "ErrorCode:IotHubUnauthorizedAccess;Unauthorized"});
                return HubAnswer::Reply(HubReply { status: 401, retry_after: None, body });
            }
            if is_probe {
                return HubAnswer::Reply(self.state().hubs.get_mut(&hub.name).unwrap().handle(&request));
            }
            self.point().await;
            let fault = self.fault(&request);
            let reply = self.serve(&hub.name, &request, fault);
            self.point().await;
            match reply {
                Some(reply) => HubAnswer::Reply(reply),
                None => HubAnswer::Lost { cause: "it broke off".into() },
            }
        })
    }
}

fn reply(status: u16, body: Value) -> HubReply {
    HubReply { status, retry_after: None, body }
}

fn error(status: u16, name: &str) -> HubReply {
    reply(status, json!({"Message": format!("ErrorCode:{name};{name}"), "ExceptionMessage": ""}))
}

impl Hub {
    fn version(&mut self) -> String {
        self.made += 1;
        format!("v{}", self.made)
    }

    fn fresh_twin(&mut self) -> Value {
        let etag = self.version();
        json!({
            "etag": etag, "version": 1, "tags": {},
            "properties": {"desired": {"$version": 1}, "reported": {"$version": 1}},
        })
    }

    /// The subset of the service API that transfers use.
    pub(crate) fn handle(&mut self, request: &HubRequest) -> HubReply {
        let path = request.path.as_str();
        let id = |prefix: &str| path.strip_prefix(prefix).map(ToOwned::to_owned);
        match (request.method, path) {
            (Method::Get, "/unicity/info") if self.is_unicity => reply(200, json!({})),
            (Method::Get, "/statistics/devices") => reply(200, json!({"totalDeviceCount": self.devices.len()})),
            (method, _) => {
                if let Some(id) = id("/devices/") {
                    return self.identity(method, &id, request);
                }
                if let Some(id) = id("/unicity/twins/").filter(|_| self.is_unicity) {
                    return self.twin(method, &id, request, true);
                }
                if let Some(id) = id("/twins/") {
                    return self.twin(method, &id, request, false);
                }
                error(404, "NotFound")
            }
        }
    }

    fn identity(&mut self, method: Method, id: &str, request: &HubRequest) -> HubReply {
        let found = self.devices.get(id).map(|device| device.identity.clone());
        if let Condition::Matches(etag) = &request.condition {
            match &found {
                None => return error(404, "DeviceNotFound"),
                Some(found) if found["etag"] != json!(etag) => return error(412, "PreconditionFailed"),
                Some(_) => {}
            }
        }
        match (method, found) {
            (Method::Get, Some(found)) => reply(200, found),
            (Method::Get | Method::Delete, None) => error(404, "DeviceNotFound"),
            (Method::Delete, Some(_)) => {
                assert!(matches!(request.condition, Condition::Matches(_)), "deletes are conditional");
                self.devices.remove(id);
                reply(204, Value::Null)
            }
            (Method::Put, Some(_)) if request.condition == Condition::Absent => error(409, "DeviceAlreadyExists"),
            (Method::Put, found) => {
                assert_ne!(request.condition, Condition::None, "writes are conditional");
                let mut identity = request.body.clone().unwrap();
                assert_eq!(identity["deviceId"], json!(id));
                assert!(identity["statusReason"].as_str().is_none_or(|reason| reason.len() <= 128));
                identity["etag"] = json!(self.version());
                identity["generationId"] = match &found {
                    Some(found) => found["generationId"].clone(),
                    None => {
                        self.made += 1;
                        json!(format!("{:018}", 700_000_000_000_000_000 + self.made))
                    }
                };
                let twin = match self.devices.get(id) {
                    Some(device) => device.twin.clone(),
                    None => self.fresh_twin(),
                };
                self.devices.insert(id.to_owned(), Device { identity: identity.clone(), twin });
                reply(200, identity)
            }
        }
    }

    fn twin(&mut self, method: Method, id: &str, request: &HubRequest, whole: bool) -> HubReply {
        let Some(mut device) = self.devices.get(id).cloned() else { return error(404, "DeviceNotFound") };
        if method == Method::Get {
            return reply(200, device.twin);
        }
        match &request.condition {
            Condition::Matches(etag) if device.twin["etag"] != json!(etag) => return error(412, "PreconditionFailed"),
            Condition::Matches(_) => {}
            _ => panic!("writes are conditional"),
        }
        let body = request.body.clone().unwrap();
        let old = device.twin.clone();
        let section = |name: &str| {
            let mut section = body["properties"][name].clone();
            if !section.is_object() {
                section = json!({});
            }
            if section.get("$version").is_none() {
                section["$version"] = json!(1);
            }
            section
        };
        let reported = if whole { section("reported") } else { old["properties"]["reported"].clone() };
        device.twin = json!({
            "etag": self.version(),
            "version": if whole { body["version"].clone() } else { json!(old["version"].as_u64().unwrap() + 1) },
            "tags": if body["tags"].is_object() { body["tags"].clone() } else { json!({}) },
            "properties": {"desired": section("desired"), "reported": reported},
        });
        self.devices.insert(id.to_owned(), device.clone());
        reply(200, device.twin)
    }
}
