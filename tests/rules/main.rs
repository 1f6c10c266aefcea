//! The rules of Liap Tui, from outside: published vectors, invariants, secrecy, codecs.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one event among all")]

mod invariants;
mod secrecy;
mod support;
mod vectors;
