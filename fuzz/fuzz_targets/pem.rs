#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| unicity_listener::fuzzing::pem_file(bytes));
