//! A lean MQTT 3.1.1 client, over TLS or plain TCP, whose steps are timed apart.
//!
//! It has no task, no queue and no reconnect of its own. A PUBLISH is encoded once a session and copied with another packet
//! id, PUBACKs are read where they lie, and a batch is one write: at hundreds of thousands of messages a second that is
//! what the generator's core is spent on.

pub mod codec;
mod registration;
mod session;
mod stream;
mod tls;
mod trace;

pub use registration::{Assigned, Patience, register};
pub use session::{Event, Session, Steps};
pub use stream::{Route, Stream};
pub use tls::{DeviceTls, TlsVersions};
pub use trace::{Failed, Trace};
