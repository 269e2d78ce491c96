//! How operations are started and counted: closed and open loops, warm-up, the search for the highest rate. It knows nothing
//! of MQTT: an operation is whatever [`Operation`] says.

mod arrivals;
mod monitor;
mod random;
mod run;
mod search;
mod shared;
mod stop;
mod warmup;

pub use arrivals::{Arrivals, Offered};
pub use monitor::{Monitor, NoObserver, Observe, Watched};
pub use random::Random;
pub use run::{Bounds, Operation, Tally, closed_loop, open_loop};
pub use search::{InvalidObjective, Objective, Search, Step};
pub(crate) use shared::note;
pub use shared::{Measured, Shared};
pub use stop::Stop;
pub use warmup::{InvalidWarmup, Warmup};
