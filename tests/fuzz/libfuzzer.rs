//! One target under libFuzzer: the one that `TABLECAST_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tablecast::gateway::fuzzing::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TABLECAST_FUZZ_TARGET").unwrap_or_default();
    let names = TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("TABLECAST_FUZZ_TARGET is one of {names}, not {wanted:?}")).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
