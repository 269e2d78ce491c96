#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| unicity_provisioning::tpm::fuzzing::structures(bytes));
