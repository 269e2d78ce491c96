#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| unicity_broker::fuzzing::user_name(bytes));
