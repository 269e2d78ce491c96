//! Published vectors, properties of proofs, and logs that were tampered with.

mod log;
mod proofs;
mod tamper;
mod vectors;
