#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| unicity_provisioning::x509::fuzzing::certificate(bytes));
