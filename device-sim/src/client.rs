//! What a device needs of an MQTT client, small enough that a leaner one can take rumqttc's place.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;

use crate::SimError;

/// One MQTT 3.1.1 connection over TLS, driven by its owner: nothing happens, keep-alive pings included, unless
/// [`next`](Self::next) is awaited. It has no task and no queue of its own, so a thousand of them cost their buffers.
pub trait MqttClient: Sized + Send + 'static {
    /// Opens the connection; returns after a CONNACK that accepts.
    ///
    /// # Errors
    /// [`SimError::Connect`], [`SimError::Tls`], [`SimError::Refused`], [`SimError::Ended`] before a CONNACK, or
    /// [`SimError::Timeout`].
    fn connect(target: &Target, login: Login) -> impl Future<Output = Result<Self, SimError>> + Send;

    /// Puts a packet into the write buffer; what is there leaves with the next call of [`next`](Self::next) at the
    /// latest. The caller bounds how many publishes wait for their PUBACK.
    ///
    /// # Errors
    /// [`SimError::Ended`].
    fn queue(&mut self, packet: Outgoing) -> impl Future<Output = Result<(), SimError>> + Send;

    /// Sends what is queued, then waits for the next thing that concerns the device; pings meanwhile. After an error the
    /// client is spent.
    ///
    /// # Errors
    /// [`SimError::Ended`].
    fn next(&mut self) -> impl Future<Output = Result<Incoming, SimError>> + Send;

    /// Sends DISCONNECT and closes. Failures no longer matter.
    fn disconnect(self) -> impl Future<Output = ()> + Send;
}

/// Where to connect, and how to know that it is the right one.
#[derive(Clone)]
pub struct Target {
    /// Host name or IP address to dial.
    pub host: String,
    /// TCP port to dial.
    pub port: u16,
    /// The address to dial from; `None` leaves it to the system.
    pub source: Option<IpAddr>,
    /// Verifies the server, and shows the device's certificate if it has one; else one value for all devices.
    pub tls: Arc<ClientConfig>,
    /// The name that `tls` verifies, for messages.
    pub verified_host: String,
    /// Patience for TCP, TLS and CONNACK together; whole seconds.
    pub connect_timeout: Duration,
    /// The most publishes that wait for a PUBACK.
    pub window: u16,
}

/// Who connects.
#[derive(Clone)]
pub struct Login {
    /// MQTT client id.
    pub client_id: String,
    /// MQTT user name.
    pub user_name: String,
    /// A SAS token; `None` with a client certificate.
    pub password: Option<String>,
    /// Keep-alive; zero, or whole seconds.
    pub keep_alive: Duration,
    /// Whether the server shall forget subscriptions.
    pub clean_session: bool,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// What a device sends; at QoS 1 unless it says otherwise.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// SUBSCRIBE to one filter.
    Subscribe(String),
    /// PUBLISH.
    Publish {
        /// Its topic, which is not checked here: a device id may hold `#` and `+`.
        topic: String,
        /// Its payload.
        body: Bytes,
    },
    /// PUBLISH at QoS 0, which nobody acknowledges.
    Fire {
        /// Its topic.
        topic: String,
        /// Its payload.
        body: Bytes,
    },
}

/// What a device waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// SUBACK; whether the server granted the filter.
    Subscribed(bool),
    /// One PUBACK.
    Acknowledged,
    /// PUBLISH from the server; acknowledged by the client itself.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        body: Bytes,
    },
}
