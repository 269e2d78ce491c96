//! The limits of the MQTT edge, each with what happens when it is reached.

use std::time::Duration;

use crate::codec::Limits;

/// What a client of the MQTT edge may do, and for how long it may keep the server waiting. [`Default`] is safe everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerSettings {
    /// From the first byte that could be read (the end of the TLS handshake) to a whole CONNECT; then the connection is
    /// closed. Default 10 s.
    pub connect_deadline: Duration,
    /// From CONNECT to CONNACK: what the server gives its own disk. Then the client gets CONNACK 3. Default 20 s, below the
    /// 30 s that the most impatient SDK waits (C).
    pub accept_deadline: Duration,
    /// The longest keep-alive, and the one of clients that ask for none. A client is dropped after 1.5 times its keep-alive.
    /// Default 1,740 s, as IoT Hub.
    pub keep_alive_max: Duration,
    /// How long a client may leave bytes unread before it is dropped. Default 20 s.
    pub write_timeout: Duration,
    /// How long a stopping server waits for messages on their way to disk, so that they can be acknowledged. Default 2 s.
    pub stop_grace: Duration,
    /// The largest message, body and property bag together, in bytes; a larger one closes the session. Default 256 KiB, as
    /// IoT Hub.
    pub message_bytes_max: usize,
    /// Messages of one session that are on their way to disk. At the limit nothing more is read from the client. Default 128.
    pub in_flight_max: usize,
    /// Their bytes; one message may go over it. At the limit nothing more is read from the client. Default 1 MiB.
    pub in_flight_bytes_max: usize,
    /// Messages of one session that are handed to the log as one entry at most, however many came at once. Default 128.
    pub hand_over_max: usize,
    /// Bytes that wait to be read by the client. At the limit nothing more is read from it. Default 64 KiB.
    pub unsent_bytes_max: usize,
    /// Filters that one client may be subscribed to; further ones are refused with return code 0x80. Default 50, as IoT Hub.
    pub subscriptions_max: usize,
    /// Requests of a provisioning session that wait while one is worked on. At the limit nothing more is read. Default 4.
    pub requests_waiting_max: usize,
    /// Registrations and polls that one provisioning session may make at once; more are answered with 429. Default 20.
    pub requests_burst: u32,
    /// Registrations and polls a second that one provisioning session may make in the long run. Default 1.
    pub requests_per_second: f64,
    /// How long a provisioning session may make no request before it is closed, however often it pings. Default 300 s: the SDKs
    /// leave as soon as they are assigned.
    pub provisioning_idle: Duration,
    /// Answers kept for a client that has not subscribed to them yet; the oldest gives way, and stays available to a poll.
    /// Default 4.
    pub answers_kept_max: usize,
    /// Whether a hub session ends with its token (and the skew that the service allows), as IoT Hub does. Default `true`.
    pub drop_on_token_expiry: bool,
    /// The first size of a connection's read buffer, in bytes; it grows to the size of the packet that comes. Default 1 KiB.
    pub read_buffer_bytes: usize,
    /// How long CONNECTs of the hub role are refused with CONNACK 3 after the telemetry disk refused a message. Default 5 s.
    pub log_trouble_pause: Duration,
    /// Sizes of packets. [`Limits::packet_bytes_max`] follows from [`Self::message_bytes_max`] when the broker is made.
    pub codec: Limits,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            connect_deadline: Duration::from_secs(10),
            accept_deadline: Duration::from_secs(20),
            keep_alive_max: Duration::from_secs(1_740),
            write_timeout: Duration::from_secs(20),
            stop_grace: Duration::from_secs(2),
            message_bytes_max: 256 * 1024,
            in_flight_max: 128,
            in_flight_bytes_max: 1024 * 1024,
            hand_over_max: 128,
            unsent_bytes_max: 64 * 1024,
            subscriptions_max: 50,
            requests_waiting_max: 4,
            requests_burst: 20,
            requests_per_second: 1.0,
            provisioning_idle: Duration::from_secs(300),
            answers_kept_max: 4,
            drop_on_token_expiry: true,
            read_buffer_bytes: 1024,
            log_trouble_pause: Duration::from_secs(5),
            codec: Limits::default(),
        }
    }
}
