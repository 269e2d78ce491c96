//! The limits of the HTTPS side, each with what happens when it is reached.

use std::collections::BTreeMap;
use std::time::Duration;

use unicity_identity::{AccessPolicyName, HubName};

use crate::rate::RequestRate;

/// What the API allows. All have safe defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiSettings {
    /// Names under which this service is reached, in lower case and without port: what a token's `sr` may name beside the
    /// request's `Host` and the hubs' hosts. Default none.
    pub host_names: Vec<String>,
    /// The one policy of a hub that may make, change and delete its device identities; of hubs that are not here, each that has the
    /// right. Default none.
    pub assigned_by: BTreeMap<HubName, AccessPolicyName>,
    /// From the opening of a connection, or the end of the last answer, to the end of the next head; then the connection
    /// is closed. So it bounds idle connections too. Default 60 s.
    pub head_timeout: Duration,
    /// From the head to the end of the body; then 408 and the connection is closed. Default 30 s.
    pub body_timeout: Duration,
    /// The largest body of a service request; above it 413. Default 1 MiB.
    pub body_bytes_max: usize,
    /// The largest `initialTwin` or `optionalDeviceInformation` of an enrollment, as JSON; above it 413. Default 64 KiB.
    pub free_json_bytes_max: usize,
    /// How often one key of a service policy may call; above it 429 with `Retry-After`. Default 5,000 a second, 10,000 at once.
    pub requests_per_key: RequestRate,
    /// Telemetry streams open at once; one more gets 429. Default 64.
    pub telemetry_streams_max: usize,
    /// What one round of a telemetry stream reads from the log: about what a stream holds in memory, twice over while a
    /// slow client takes it. Default 256 KiB.
    pub telemetry_round_bytes: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            host_names: Vec::new(),
            assigned_by: BTreeMap::new(),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            body_bytes_max: 1 << 20,
            free_json_bytes_max: 64 << 10,
            requests_per_key: RequestRate::default(),
            telemetry_streams_max: 64,
            telemetry_round_bytes: 256 << 10,
        }
    }
}
