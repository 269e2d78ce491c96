#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| unicity_identity::fuzzing::sas_token(bytes));
