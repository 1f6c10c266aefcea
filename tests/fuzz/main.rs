//! The targets of `make fuzz` without a fuzzer: what they begin with, and the same with a few bytes changed, so
//! that no target rots and no fault comes back.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tablecast::gateway::fuzzing::TARGETS;

/// Of each target. The same ones each time: a check of every build is no place for surprises.
const CHANGED: u64 = 2_000;
const CHANGES_MAX: usize = 6;
/// Bytes that mean something in one of the formats, or are the largest, or the last of their kind.
const TELLING: &[u8] =
    b"\0\x01\x7d\x7e\x7f\x80\x81\x88\x89\x8f\xc0\xc1\xcf\xdf\xed\xf4\xff\"{}[],:.-09ex\\ \n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder().join(target)).expect("a folder for each target");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable file")).collect()
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..=CHANGES_MAX) {
        let place = random.random_range(0..=bytes.len());
        let telling = TELLING[random.random_range(0..TELLING.len())];
        match random.random_range(0..6) {
            0 => bytes.insert(place, telling),
            1 => bytes.truncate(place.max(1)),
            2 => {
                let other = &others[random.random_range(0..others.len())];
                bytes.extend_from_slice(&other[place.min(other.len())..]);
            }
            _ if place == bytes.len() => bytes.push(random.random()),
            3 => bytes[place] = telling,
            4 => bytes[place] ^= 1 << random.random_range(0..8),
            _ => drop(bytes.remove(place)),
        }
    }
}

fn run(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    let ended = catch_unwind(|| target(bytes));
    assert!(ended.is_ok(), "{name} fails with b\"{}\"", bytes.escape_ascii());
}

#[test]
fn targets_survive_what_they_begin_with_and_what_is_near_it() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has nothing to begin with");
        for bytes in &corpus {
            run(name, *target, bytes);
        }
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for number in 0..CHANGED {
            let mut bytes = corpus[usize::try_from(number).unwrap() % corpus.len()].clone();
            change(&mut bytes, &corpus, &mut random);
            run(name, *target, &bytes);
        }
    }
}

#[test]
fn each_folder_is_of_a_target() {
    for entry in fs::read_dir(folder()).expect("the corpus") {
        let folder = entry.expect("an entry").file_name();
        assert!(
            TARGETS.iter().any(|(name, _)| folder == *name),
            "{} is of no target",
            folder.display()
        );
    }
}
