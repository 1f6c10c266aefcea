//! The rules of the games, from outside: published vectors and games, invariants, secrecy, codecs.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one event among all")]

mod chess;
mod invariants;
mod secrecy;
mod support;
mod vectors;
