//! The telemetry log: order and fence, faults, power loss.

mod model;
mod order;
mod world;
