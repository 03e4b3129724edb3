#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| belljar::fuzzing::policy(data));
