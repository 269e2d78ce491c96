//! The continuity counter: a token that goes to a device with its registration and comes back with the next one, in the manner
//! of WebAuthn's signature counter.
//!
//! The server keeps two numbers of a registration id: *confirmed*, the newest that came back, and *issued*, the one after it,
//! which goes out with the answer to each who presents one of the two, until it comes back. Presenting either is fine, since an
//! answer may be lost; presenting *issued* confirms it. Only what is older than *confirmed* is evidence: a device that once held a newer one would have sent it.
//! Two devices that hold one credential and one token go on in step until one of them has registered twice in a row; the next
//! registration of the other is found out.
//!
//! Who presents none is given the first token, until one has come back, and from then on nothing: the credential alone must not
//! buy what is to be a second factor. Hence the first token releases no quarantine. It is trust on first use: whoever begins to
//! send tokens first is who holds them, and a device whose firmware sends none leaves that to a thief. A device that lost its
//! token is served without one, until an operator begins its counter anew, by a release or by deleting its registration.
//!
//! The token rides in the member [`MEMBER`] of the payload, `{"$unicity": {"continuity": "<token>"}}`, in the answer's as in the
//! request's; it is off where the enrollment's payload is no JSON object. A device that sends none (its firmware does not know of
//! it, or it was wiped) is not under suspicion for that; a thief may leave it out, too, so it finds clones that do not know of it,
//! and proves what it proves only of devices that send it. A device whose disk was put back to an older copy looks like a clone.
//! After a restore of the server from a backup, a token from the future is taken for what it is: the newest.

use ring::hmac;
use serde_json::{Map, Value, json};
use unicity_identity::json::JsonText;
use unicity_identity::{Continuity, MasterKey, RegistrationId};

/// The reserved member of payloads.
pub const MEMBER: &str = "$unicity";

/// What the member adds to a payload at most, in bytes.
pub const MEMBER_BYTES_MAX: usize = 160;

/// What is confirmed before anything came back; no token is made of it.
const NEVER: u64 = 0;

const PURPOSE: &str = "continuity tokens 1";
/// Longest text that is looked at as a token.
const TOKEN_BYTES_MAX: usize = 128;

/// What a registration says about its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Claim {
    /// The service asks for none.
    #[default]
    Off,
    /// No token, or one that is not this service's.
    Absent,
    /// This counter, in a token of this service for this registration id.
    Presented(u64),
}

/// What a counter says about the device that presents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing was presented, or nothing came back before that it could be compared with.
    Unknown,
    /// The newest that came back, again: the answer with the next one was lost.
    Repeated,
    /// The newest that was handed out, or one of a future that this server has forgotten.
    Advanced,
    /// Older than the newest that came back: another device holds a newer one.
    Stale,
}

/// Judges a claim by what is stored, and says what to store. `None`: nothing changes.
#[must_use]
pub fn judge(stored: Option<Continuity>, claim: Claim) -> (Judgement, Option<Continuity>) {
    let confirm = |counter: u64| Some(Continuity { confirmed: counter, issued: counter.saturating_add(1) });
    match (claim, stored) {
        (Claim::Off, _) => (Judgement::Unknown, None),
        (Claim::Absent, None) => (Judgement::Unknown, confirm(NEVER)),
        (Claim::Absent, Some(_)) => (Judgement::Unknown, None),
        (Claim::Presented(counter), None) => (Judgement::Unknown, confirm(counter)),
        (Claim::Presented(counter), Some(Continuity { confirmed, .. })) => match counter {
            _ if counter < confirmed => (Judgement::Stale, None),
            _ if counter == confirmed => (Judgement::Repeated, None),
            // The first token went to whoever asked with the key.
            _ if confirmed == NEVER => (Judgement::Unknown, confirm(counter)),
            _ => (Judgement::Advanced, confirm(counter)),
        },
    }
}

/// The counter that goes out with the answer to a claim, of what is stored after [`judge`]. Who holds none, or an old one, gets
/// none, but for the first, which may have been lost on its way.
#[must_use]
pub fn issue(stored: Option<Continuity>, claim: Claim) -> Option<u64> {
    let Continuity { confirmed, issued } = stored?;
    let is_due = match claim {
        Claim::Off => false,
        Claim::Absent => confirmed == NEVER,
        Claim::Presented(counter) => counter >= confirmed,
    };
    is_due.then_some(issued)
}

/// Whether answers under an enrollment with this payload can carry the member.
#[must_use]
pub fn fits(payload: Option<&JsonText>) -> bool {
    payload.is_none_or(|payload| payload.as_str().starts_with('{'))
}

/// Makes and reads tokens.
pub struct Tokens(hmac::Key);

impl Tokens {
    /// Under a key that follows from the master key.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, master.derive(PURPOSE).as_slice()))
    }

    fn message(id: &RegistrationId, counter: u64) -> Vec<u8> {
        format!("{}\0{counter}", id.as_str()).into_bytes()
    }

    /// The token of a counter: the number, a dot, and 64 hexadecimal digits.
    #[must_use]
    pub fn make(&self, id: &RegistrationId, counter: u64) -> String {
        let tag = hmac::sign(&self.0, &Self::message(id, counter));
        let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{counter}.{digits}")
    }

    /// The counter of a token; `None` if it is not this service's for this registration id.
    #[must_use]
    pub fn read(&self, id: &RegistrationId, token: &str) -> Option<u64> {
        let (counter, digits) = token.split_once('.').filter(|_| token.len() <= TOKEN_BYTES_MAX)?;
        if counter.starts_with('+') || (counter.starts_with('0') && counter != "0") || digits.len() != 64 {
            return None;
        }
        let counter: u64 = counter.parse().ok()?;
        let tag = (0..32).map(|at| digits.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        let tag: Vec<u8> = tag.collect::<Option<_>>()?;
        hmac::verify(&self.0, &Self::message(id, counter), &tag).is_ok().then_some(counter)
    }

    /// Takes the member out of a device's payload, which is what is stored and shown without it, and reads it. A payload of which
    /// nothing else is left is none.
    #[must_use]
    pub fn take(&self, id: &RegistrationId, payload: Option<JsonText>) -> (Claim, Option<JsonText>) {
        let Some(text) = payload else { return (Claim::Absent, None) };
        if !text.as_str().contains(MEMBER) {
            return (Claim::Absent, Some(text));
        }
        let Value::Object(mut members) = text.to_value() else { return (Claim::Absent, Some(text)) };
        let Some(own) = members.remove(MEMBER) else { return (Claim::Absent, Some(text)) };
        let token = own.get("continuity").and_then(Value::as_str);
        let claim = token.and_then(|token| self.read(id, token)).map_or(Claim::Absent, Claim::Presented);
        (claim, (!members.is_empty()).then(|| JsonText::from_value(&Value::Object(members))))
    }

    /// Puts the token of a counter into an answer's payload.
    pub fn put(&self, id: &RegistrationId, counter: u64, payload: &mut Value) {
        if payload.is_null() {
            *payload = Value::Object(Map::new());
        }
        if let Value::Object(members) = payload {
            members.insert(MEMBER.to_owned(), json!({"continuity": self.make(id, counter)}));
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(&MasterKey::from_bytes(&[1; 32]))
    }

    fn id(text: &str) -> RegistrationId {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_counter_says() {
        let at = |confirmed: u64| Some(Continuity { confirmed, issued: confirmed + 1 });
        for (stored, claim, judgement, next) in [
            (None, Claim::Off, Judgement::Unknown, None),
            (at(5), Claim::Off, Judgement::Unknown, None),
            (None, Claim::Absent, Judgement::Unknown, at(0)),
            (at(5), Claim::Absent, Judgement::Unknown, None),
            // The server was restored, or the record was deleted.
            (None, Claim::Presented(7), Judgement::Unknown, at(7)),
            // Nothing came back before: whoever holds the key could have it.
            (at(0), Claim::Absent, Judgement::Unknown, None),
            (at(0), Claim::Presented(1), Judgement::Unknown, at(1)),
            (at(0), Claim::Presented(7), Judgement::Unknown, at(7)),
            (at(1), Claim::Presented(2), Judgement::Advanced, at(2)),
            (at(5), Claim::Presented(9), Judgement::Advanced, at(9)),
            (at(5), Claim::Presented(6), Judgement::Advanced, at(6)),
            (at(5), Claim::Presented(5), Judgement::Repeated, None),
            (at(5), Claim::Presented(4), Judgement::Stale, None),
            (at(5), Claim::Presented(0), Judgement::Stale, None),
        ] {
            assert_eq!(judge(stored, claim), (judgement, next), "{stored:?} {claim:?}");
        }
    }

    #[test]
    fn a_token_goes_to_who_holds_one_and_the_first_to_who_asks() {
        let at = |confirmed: u64| Some(Continuity { confirmed, issued: confirmed + 1 });
        for (stored, claim, issued) in [
            (None, Claim::Absent, None),
            (at(0), Claim::Off, None),
            (at(0), Claim::Absent, Some(1)),
            (at(1), Claim::Absent, None),
            (at(5), Claim::Absent, None),
            (at(1), Claim::Presented(1), Some(2)),
            (at(5), Claim::Presented(5), Some(6)),
            (at(5), Claim::Presented(4), None),
        ] {
            assert_eq!(issue(stored, claim), issued, "{stored:?} {claim:?}");
        }
    }

    #[test]
    fn a_token_is_for_one_registration_id_and_one_counter() {
        let tokens = tokens();
        let token = tokens.make(&id("a"), 7);
        assert_eq!(tokens.read(&id("a"), &token), Some(7));
        assert_eq!(tokens.read(&id("b"), &token), None);
        assert_eq!(Tokens::new(&MasterKey::from_bytes(&[2; 32])).read(&id("a"), &token), None);
        let other = token.replacen('7', "8", 1);
        for damaged in ["", ".", "7.", "7", "+7.00", &other, &format!("0{token}"), &token[..token.len() - 1], "7.é"] {
            assert_eq!(tokens.read(&id("a"), damaged), None, "{damaged}");
        }
    }

    #[test]
    fn the_member_is_taken_out_of_a_payload_and_put_into_another() {
        let tokens = tokens();
        let token = tokens.make(&id("a"), 3);
        let text = |value: &Value| JsonText::from_value(value);
        for (payload, claim, left) in [
            (json!({"x": 1}), Claim::Absent, Some(json!({"x": 1}))),
            (json!("$unicity"), Claim::Absent, Some(json!("$unicity"))),
            (json!({"y": {"$unicity": 1}}), Claim::Absent, Some(json!({"y": {"$unicity": 1}}))),
            (json!({"$unicity": {"continuity": token}, "x": 1}), Claim::Presented(3), Some(json!({"x": 1}))),
            (json!({"$unicity": {"continuity": token}}), Claim::Presented(3), None),
            (json!({"$unicity": {"continuity": 5}}), Claim::Absent, None),
            (json!({"$unicity": null, "x": 1}), Claim::Absent, Some(json!({"x": 1}))),
        ] {
            let (found, rest) = tokens.take(&id("a"), Some(text(&payload)));
            assert_eq!((found, rest.map(|rest| rest.to_value())), (claim, left), "{payload}");
        }
        let mut payload = Value::Null;
        tokens.put(&id("a"), 3, &mut payload);
        assert_eq!(payload, json!({"$unicity": {"continuity": token}}));
        let mut payload = json!({"x": 1});
        tokens.put(&id("a"), 3, &mut payload);
        assert_eq!(tokens.take(&id("a"), Some(text(&payload))).0, Claim::Presented(3));
    }

    /// A device keeps what came with the last answer that it got.
    #[derive(Clone, Copy)]
    struct Device(Option<u64>);

    fn register(stored: &mut Option<Continuity>, device: &mut Device, answer_lost: bool) -> Judgement {
        let claim = device.0.map_or(Claim::Absent, Claim::Presented);
        let (judgement, next) = judge(*stored, claim);
        *stored = next.or(*stored);
        if !answer_lost {
            device.0 = issue(*stored, claim).or(device.0);
        }
        judgement
    }

    proptest! {
        /// One device is never stale, however many answers are lost, and however often it asks twice.
        #[test]
        fn one_device_is_never_stale(lost in proptest::collection::vec(any::<bool>(), 0..60)) {
            let (mut stored, mut device) = (None, Device(None));
            for lost in lost {
                prop_assert_ne!(register(&mut stored, &mut device, lost), Judgement::Stale);
            }
        }

        /// Once a token came back, a thief with the key alone gets none, changes nothing, and releases nothing.
        #[test]
        fn the_key_alone_buys_no_token(turns in proptest::collection::vec(any::<(bool, bool)>(), 0..60)) {
            let (mut stored, mut owner) = (None, Device(None));
            register(&mut stored, &mut owner, false);
            register(&mut stored, &mut owner, false);
            for (is_thief, lost) in turns {
                if is_thief {
                    let (mut thief, before) = (Device(None), stored);
                    prop_assert_eq!(register(&mut stored, &mut thief, false), Judgement::Unknown);
                    prop_assert_eq!((thief.0, stored), (None, before));
                } else {
                    prop_assert_ne!(register(&mut stored, &mut owner, lost), Judgement::Stale);
                }
            }
        }

        /// Two devices that hold the same are found out as soon as one has registered twice since the other did.
        #[test]
        fn two_devices_are_found_out(turns in proptest::collection::vec(any::<bool>(), 0..60)) {
            let (mut stored, mut first) = (None, Device(None));
            register(&mut stored, &mut first, false);
            register(&mut stored, &mut first, false);
            let mut devices = [first, first];
            let mut ahead = [0u32; 2];
            for turn in turns {
                let (mine, other) = (usize::from(turn), usize::from(!turn));
                let judgement = register(&mut stored, &mut devices[mine], false);
                if ahead[other] >= 2 {
                    prop_assert_eq!(judgement, Judgement::Stale);
                    return Ok(());
                }
                prop_assert_ne!(judgement, Judgement::Stale, "in step: nobody can tell");
                // Who confirms is a step ahead; who follows has caught up.
                ahead[mine] += u32::from(judgement == Judgement::Advanced);
                ahead[other] = 0;
            }
        }
    }
}
