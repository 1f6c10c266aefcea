//! Which part of the code may know which: the arrows of `src/ARCHITECTURE.md`, as a test.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder of `src`, and what its sources must not mention.
const RULES: &[(&str, &[&str])] = &[
    (
        "domain",
        &[
            "tokio",
            "async_nats",
            "axum",
            "object_store",
            "tracing",
            "SystemTime",
            "crate::bus",
            "crate::protocol",
        ],
    ),
    ("games", &["tokio", "tracing", "crate::bus", "crate::protocol", "crate::catalog"]),
    ("protocol", &["tokio", "async_nats", "axum", "crate::bus", "crate::catalog"]),
    ("catalog", &["tokio", "async_nats", "axum", "crate::bus", "crate::games"]),
    ("bus", &["crate::worker", "crate::gateway", "crate::archiver", "crate::catalog"]),
    (
        "archive",
        &[
            "crate::worker",
            "crate::gateway",
            "crate::archiver",
            "crate::games",
            "crate::catalog",
            "crate::bus",
            "crate::cli",
        ],
    ),
    ("gateway", &["crate::worker", "crate::archiver", "crate::games", "crate::cli", ".decide("]),
    (
        "archiver",
        &["crate::worker", "crate::gateway", "crate::games", "crate::catalog", "crate::cli"],
    ),
    ("worker", &["crate::gateway", "crate::archiver", "crate::games", "crate::cli", ".view("]),
    ("runtime", &["crate::worker", "crate::gateway", "crate::archiver", "crate::bus"]),
];

/// Files that take the time as an argument and return what to do: nothing in them waits.
const PURE: &[&str] = &[
    "gateway/session.rs",
    "gateway/outbox.rs",
    "gateway/outbox/standing.rs",
    "gateway/outbox/turns.rs",
    "gateway/outbox/waiting.rs",
    "gateway/players.rs",
    "archiver/batcher.rs",
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder of src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Code without its tests and comments: those may talk about anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a readable source");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_part_knows_what_it_must_not() {
    let mut broken = Vec::new();
    for (folder, words) in RULES {
        let files = sources(&src().join(folder));
        assert!(!files.is_empty(), "there is nothing in src/{folder}");
        for file in files {
            let code = code(&file);
            for word in words.iter().filter(|word| code.contains(**word)) {
                broken.push(format!("{} mentions {word}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_files_wait_for_nothing() {
    for file in PURE {
        let code = code(&src().join(file));
        for word in [".await", "async fn", "Instant::now", "SystemTime"] {
            assert!(!code.contains(word), "{file} has {word}");
        }
    }
}

#[test]
fn files_can_be_read_in_one_go() {
    let is_code = |file: &PathBuf| !file.ends_with("tests.rs");
    let long: Vec<String> = sources(&src())
        .into_iter()
        .filter(is_code)
        .map(|file| (code(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > 400)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
