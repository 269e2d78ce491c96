//! The log against a disk that fails: tables of faults, a model under power loss, the writer's thread.

mod group;
mod killed;
mod model;
mod reading;
mod recovery;
mod retention;
mod world;
mod writing;
