#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = unicity_provisioning::x509::fuzzing::chain(bytes);
});
