//! Hubs elsewhere, by their service API (`service-rest.md` 11 to 14): another node of this service, or the real one.
//!
//! What is to be asked, and what an answer means, is pure (`work`, `identity`, `marker`); sockets are behind [`HubApi`].

mod https;
mod identity;
mod marker;
mod message;
mod probe;
mod work;

pub use https::{HttpsHubs, LinkError};
pub use identity::RemoteIdentity;
pub(crate) use identity::authentication;
pub use marker::{Marker, MarkerState};
pub use message::{Condition, HubAnswer, HubApi, HubKind, HubReply, HubRequest, Method, Pending};
pub use probe::{probe_request, probed};
pub use work::{DEVICE_ID_IN_USE, Facts, NO_HUB, Next, Work};
