//! One TLS handshake: its ends in time, its errors by cause, and what it tells about the peer.

use std::io;
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::metrics::Refused;
use crate::service::{ConnectionInfo, TlsVersion};
use crate::tls::Tls;

/// Lets handshakes that take their time give way to peers that wait in the backlog.
///
/// Why not a deadline alone: with N places and a deadline of D seconds, N/D silent sockets a second, from a few
/// addresses, lock everybody out. And why not the oldest at once: in a rush of honest clients the oldest is the one
/// nearest to its end, and shedding it would let nobody through.
#[derive(Debug)]
pub(crate) struct Pressure {
    waiting: Notify,
    grace: Duration,
}

impl Pressure {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { waiting: Notify::new(), grace }
    }

    /// A peer waits for a place: the handshake that is past its grace for longest goes, now or as soon as there is one.
    pub(crate) fn apply(&self) {
        self.waiting.notify_one();
    }

    /// Returns when the handshake begun at `begun` has to give way: past its grace, first in the queue (`Notify` wakes
    /// in order), and with no place free. A place may have become free since the call for it, hence the second look.
    async fn shed(&self, begun: Instant, places: &Semaphore) {
        sleep_until(begun + self.grace).await;
        loop {
            self.waiting.notified().await;
            if places.available_permits() == 0 {
                return;
            }
        }
    }
}

/// The handshake on `socket`, until it ends, its `deadline` since now has passed, or it has to give way. A failure comes with
/// the words of TLS or the socket, if they said any.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &Tls,
    socket: S,
    deadline: Duration,
    pressure: &Pressure,
    places: &Semaphore,
) -> Result<Box<TlsStream<S>>, (Refused, String)> {
    let begun = Instant::now();
    tokio::select! {
        biased;
        done = TlsAcceptor::from(tls.current()).accept(socket) => match done {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let cause = cause(&error);
                debug!(cause = cause.label(), error = %error, "TLS handshake failed");
                Err((cause, error.to_string()))
            }
        },
        () = sleep_until(begun + deadline) => {
            debug!(cause = Refused::Timeout.label(), ?deadline, "TLS handshake did not end in time");
            Err((Refused::Timeout, String::new()))
        }
        () = pressure.shed(begun, places) => {
            debug!(cause = Refused::Shed.label(), "TLS handshake gave way to a waiting peer");
            Err((Refused::Shed, String::new()))
        }
    }
}

/// Writes what TLS knows about the peer into `info`.
pub(crate) fn describe<S>(stream: &TlsStream<S>, info: &mut ConnectionInfo) {
    let tls = stream.get_ref().1;
    info.tls_version = tls.protocol_version().and_then(|version| match version {
        ProtocolVersion::TLSv1_2 => Some(TlsVersion::Tls12),
        ProtocolVersion::TLSv1_3 => Some(TlsVersion::Tls13),
        _ => None,
    });
    info.cipher = tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    info.sni = tls.server_name().map(Into::into);
    info.alpn = tls.alpn_protocol().map(Into::into);
    info.resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
    info.client_chain = tls.peer_certificates().unwrap_or_default().to_vec();
}

fn cause(error: &io::Error) -> Refused {
    use rustls::{Error, InvalidMessage};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        None => Refused::Io,
        Some(Error::AlertReceived(_)) => Refused::Alert,
        // Of a client's messages only its certificates can grow beyond what rustls reads.
        Some(Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        )) => Refused::ClientCertificate,
        Some(Error::InvalidMessage(_)) => Refused::NotTls,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Refused::NothingShared,
        // The verifier passes every chain: what is left are the signature, and certificates that cannot be read.
        Some(Error::InvalidCertificate(_)) => Refused::ClientCertificate,
        Some(_) => Refused::Misbehaved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_for_a_place_that_came_too_late_sheds_nobody() {
        let (pressure, places) = (Pressure::new(Duration::ZERO), Semaphore::new(1));
        let mut shed = std::pin::pin!(pressure.shed(Instant::now(), &places));
        pressure.apply();
        // The timeout gives a wrong answer time to show; the right one does not depend on it.
        let early = tokio::time::timeout(Duration::from_millis(20), &mut shed).await;
        assert!(early.is_err(), "a place is free");

        let _taken = places.acquire().await.unwrap();
        pressure.apply();
        shed.await;
    }
}
