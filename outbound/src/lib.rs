//! Calls that the service makes itself, and what drives them: transfers of devices to and from hubs elsewhere, and the functions
//! that operators let choose a hub.

mod ask;
pub mod client;
mod step;
pub mod webhook;

pub use ask::Ask;
pub use step::Step;
