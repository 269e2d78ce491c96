//! Device provisioning service and IoT hub in one binary.
fn main() {}
