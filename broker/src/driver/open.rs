//! How a hub client becomes the one session of its identity (design rules 7, 8 and 12).
//!
//! The order is all: the older session's will, then the fence, both through the partition's queue; then the older session is told
//! to end. Until then the table keeps it, and its will: what ends the client ends it too, and who comes next while this one waits for
//! room takes over from both. Only when the fence has taken effect, and the identity is still what it was, does the client get its
//! CONNACK. A disabling in between finds either this session in the table, or is found by the second look. The new session's own
//! will comes last: a refused CONNECT has none (MQTT-3.1.2-8).

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, info};
use unicity_hub::{
    AppendDone, AppendError, Appended, AuthMethod, Entry, HubCertificate, HubClaim, HubGrant, Message, Rejudge,
    SessionControl, SessionFacts, SessionStamp, WillPassed, authenticate, partition_of,
};
use unicity_identity::{Facets, Refusal};
use unicity_provisioning::{Actor, Command, PresentedChain, Request};

use super::Shared;
use super::clones::{self, Facts};
use super::mailbox::Mailbox;
use super::place::Place;
use crate::codec::Password;
use crate::metrics::Guarantee;
use crate::session::{HubConnect, HubOpened, WillMessage};

/// A deadline further away than this is none.
const DEADLINE_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

fn unavailable(why: impl Into<String>) -> Refusal {
    Refusal::Unavailable { why: why.into() }
}

fn check(shared: &Shared, connect: &HubConnect, chain: Option<&PresentedChain>) -> Result<(HubGrant, Facets), Refusal> {
    let provisioning = &shared.parts.provisioning;
    let settings = provisioning.settings();
    let now = shared.parts.environment.now();
    let path = RefCell::new(Facets::default());
    let vouch = |by_authority: bool| match chain {
        Some(chain) => {
            let found = provisioning.check_hub_certificate(chain, by_authority, now)?;
            *path.borrow_mut() = found;
            Ok(())
        }
        None => Err(Refusal::NoCredential),
    };
    let evidence = |check| chain.map_or_else(String::new, |chain| chain.evidence(check));
    let certificate = match chain.map(PresentedChain::chain).transpose() {
        Ok(chain) => chain.map(|chain| {
            let leaf = chain.leaf();
            HubCertificate {
                sha256: leaf.summary().sha256.as_bytes(),
                sha1: leaf.summary().sha1.as_bytes(),
                key: leaf.key_fingerprint(),
                common_name: leaf.common_name().ok(),
                check: &vouch,
                evidence: &evidence,
            }
        }),
        // A certificate that cannot be read proves nothing; it is the reason only for a client that has nothing else.
        Err(refusal) if connect.token.is_none() => return Err(refusal),
        Err(_) => None,
    };
    let claim = HubClaim {
        host: &connect.host,
        device_id: &connect.device_id,
        module_id: connect.module_id.as_deref(),
        token: connect.token.as_ref().map(Password::expose),
        certificate,
    };
    let devices = shared.parts.devices.as_ref();
    let grant = authenticate(devices, provisioning.vault(), &settings.hubs, settings.token_skew_seconds, claim, now)?;
    clones::check(shared, &grant)?;
    let keys = grant.keys.clone();
    let facets = Facets { proven: Some(grant.key_fingerprint), keys, ..path.take() };
    let facets = provisioning.check_hub_client(&grant.client, grant.registration.as_ref(), facets, chain)?;
    Ok((grant, facets))
}

/// Where a CONNECT comes from.
pub(super) struct From {
    /// The certificates of the handshake.
    pub(super) chain: Option<Arc<PresentedChain>>,
    /// The peer's address.
    pub(super) peer: IpAddr,
    /// What TLS showed of the client.
    pub(super) facts: Facts,
}

fn as_message(shared: &Shared, stamp: &Arc<SessionStamp>, will: WillMessage) -> Box<Message> {
    Box::new(Message {
        stamp: Arc::clone(stamp),
        enqueued: shared.parts.environment.now(),
        qos: will.qos,
        dup: false,
        will: true,
        properties: will.properties,
        system_properties: will.system_properties,
        body: will.body,
    })
}

/// How the certificate of a session is judged again, when authorities, lists or denials change while it lives. That its time has
/// ended does not cut it, as it does not without such a change.
///
/// The chain is read again then: that is rare, and a parsed one is several times as large as its bytes, which thousands of idle
/// sessions would keep.
fn rejudge(shared: &Arc<Shared>, grant: &HubGrant, chain: Option<&Arc<PresentedChain>>) -> Option<Rejudge> {
    let by_authority = match grant.auth_method {
        AuthMethod::X509Authority => true,
        AuthMethod::X509Bound => false,
        AuthMethod::Sas => return None,
    };
    let (shared, ders) = (Arc::clone(shared), chain?.ders());
    Some(Arc::new(move || {
        let Some(chain) = PresentedChain::parse(&ders) else { return false };
        let now = shared.parts.environment.now();
        let judged = shared.parts.provisioning.check_hub_certificate(&chain, by_authority, now);
        judged.map_or_else(|refusal| !ends_sessions(&refusal), |_| true)
    }))
}

/// Whether a session whose certificate is refused now has to end.
fn ends_sessions(refusal: &Refusal) -> bool {
    let of_time = ["CertificateOutOfTime", "CertificateExpired", "CertificateNotYetValid", "CrlStale"];
    matches!(refusal, Refusal::Certificate { name, .. } if !of_time.contains(name))
}

/// Opens a hub session, or says why not.
pub(super) async fn open(
    shared: Arc<Shared>,
    mut connect: HubConnect,
    from: From,
    mailbox: Arc<Mailbox>,
) -> Result<(HubOpened, Place), Refusal> {
    let From { chain, peer, facts } = from;
    mailbox.liveness().set_keep_alive(connect.keep_alive_seconds);
    let (grant, facets) = check(&shared, &connect, chain.as_deref())?;
    mailbox.describe(SessionFacts { facets, rejudge: rejudge(&shared, &grant, chain.as_ref()) });
    let client = grant.client.clone();
    let partitions = shared.parts.log.partitions(&client.hub);
    let partitions = partitions.ok_or_else(|| unavailable(format!("hub {} has no telemetry log", client.hub)))?;
    let partition = partition_of(&client.device_id, partitions);
    let control: Arc<dyn SessionControl> = Arc::<Mailbox>::clone(&mailbox);
    let (epoch, displaced) = clones::take_place(&shared, &grant, &control)?;
    let stamp = Arc::new(SessionStamp {
        client: client.clone(),
        generation: grant.generation,
        auth_method: grant.auth_method,
        key_fingerprint: grant.key_fingerprint,
        epoch,
    });
    let place = Place::new(Arc::clone(&shared), Arc::clone(&stamp), partition);
    let took_over = displaced.as_ref().map(|old| (old.epoch, old.control.is_alive()));
    clones::opened(&shared, &stamp, peer, &facts, &connect, took_over);
    let noted = took_over.and_then(|(older, _)| clones::leaf(&shared, &stamp, older));
    if let Some(old) = displaced {
        if old.epoch >= epoch {
            shared.metrics.violated(Guarantee::U3);
        }
        shared.metrics.took_over();
        info!(device.id = %client, epoch = %epoch, older = %old.epoch, "session takes over a live one");
    }
    let opened = queue_fence(&shared, &place, &mailbox).await?;
    let (opened, noted) = tokio::join!(opened, clones::synced(noted));
    // A takeover is told only when its leaf is in the log (design rule 8).
    noted.map_err(unavailable)?;
    match opened {
        Ok(Ok(_)) => {}
        Ok(Err(AppendError::Fenced)) => return Err(Refusal::Superseded { by: None }),
        Ok(Err(error)) => return Err(unavailable(error.to_string())),
        Err(_) => return Err(unavailable("the telemetry log has ended")),
    }
    // What was revoked in between, before this session was in the table to be cut, is found here.
    let (again, _) = check(&shared, &connect, chain.as_deref())?;
    if again.generation != grant.generation || again.key_fingerprint != grant.key_fingerprint {
        return Err(unavailable("the identity was made anew in the meantime"));
    }
    let (session_present, subscriptions) = session_state(&shared, &stamp, connect.clean_session).await?;
    if mailbox.is_close_asked() {
        return Err(unavailable("the session was ended before it began"));
    }
    let will = connect.will.take().map(|will| as_message(&shared, &stamp, will));
    // Nothing may be waited for from here to the CONNACK: who takes over now stores this will, so the session has to be accepted.
    if !shared.parts.sessions.arm(&client, epoch, will) {
        return Err(Refusal::Superseded { by: None });
    }
    let token_deadline = shared.settings.drop_on_token_expiry.then(|| token_deadline(&shared, &grant)).flatten();
    debug!(device.id = %client, epoch = %epoch, api_version = connect.api_version,
        client_type = connect.client_type.as_deref().unwrap_or_default(), session_present, "hub session opened");
    let opened = HubOpened {
        stamp,
        durable: !connect.clean_session,
        session_present,
        subscriptions,
        token_deadline,
        entropy: shared.parts.environment.entropy(),
    };
    Ok((opened, place))
}

/// Queues the will of whom this session took over from, then its own opening, and tells the older ones to end.
async fn queue_fence(
    shared: &Shared,
    place: &Place,
    mailbox: &Mailbox,
) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, Refusal> {
    let (log, sessions) = (&shared.parts.log, &shared.parts.sessions);
    let SessionStamp { client, epoch, .. } = place.stamp.as_ref();
    let (done, opened) = oneshot::channel();
    let mut next: (Entry, AppendDone) =
        (Entry::Open { client: client.clone(), epoch: *epoch }, Box::new(move |result| drop(done.send(result))));
    loop {
        // Before the will: who is cut leaves none.
        if mailbox.is_close_asked() {
            return Err(unavailable("the session was ended before it began"));
        }
        // Looked at before each try: while this one waits for room, newer sessions may come, open and go, and an opening behind
        // all that would be the fence's newest.
        let passed = sessions.pass_will(client, *epoch, |will| place.queue_will(will));
        match passed {
            WillPassed::NotLive(Some(by)) => {
                return Err(Refusal::Superseded { by: Some(by.to_string()) });
            }
            WillPassed::NotLive(None) => return Err(Refusal::Superseded { by: None }),
            WillPassed::Queued | WillPassed::Nothing | WillPassed::NoRoom => {}
        }
        if passed != WillPassed::NoRoom {
            match log.submit(&client.hub, place.partition, next.0, next.1) {
                Ok(()) => break,
                Err(back) => next = back,
            }
        }
        log.space(&client.hub, place.partition).await;
    }
    sessions.fenced(client, *epoch);
    Ok(opened)
}

/// What the client kept from an earlier session. A clean one ends what there was; an ordinary CONNECT writes nothing.
async fn session_state(
    shared: &Shared,
    stamp: &SessionStamp,
    clean_session: bool,
) -> Result<(bool, Vec<unicity_identity::Subscription>), Refusal> {
    let registry = shared.parts.provisioning.registry();
    let stored = registry.subscriptions(&stamp.client).map_err(|fault| unavailable(fault.to_string()))?;
    match stored {
        Some(subscriptions) if !clean_session => Ok((true, subscriptions)),
        Some(_) => {
            let command = Command::SetSubscriptions { client: stamp.client.clone(), subscriptions: None };
            save(shared, command).await.map_err(unavailable)?;
            Ok((false, Vec::new()))
        }
        None => Ok((false, Vec::new())),
    }
}

/// Writes to the registry in the device's name; the error is in words.
pub(super) async fn save(shared: &Shared, command: Command) -> Result<(), String> {
    let environment = &shared.parts.environment;
    let request = Request { command, actor: Actor::Device, now: environment.now(), entropy: environment.entropy() };
    shared.parts.provisioning.registry().submit(request).await.map(drop).map_err(|error| error.to_string())
}

fn token_deadline(shared: &Shared, grant: &HubGrant) -> Option<Instant> {
    let skew_seconds = shared.parts.provisioning.settings().token_skew_seconds;
    let end_ms = grant.token_expiry_seconds?.saturating_add(skew_seconds).saturating_mul(1000);
    let now = shared.moment();
    let left = Duration::from_millis(end_ms.saturating_sub(now.wall.0));
    (left < DEADLINE_MAX).then(|| now.at + left)
}
