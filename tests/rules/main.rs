//! The rules of Liap Tui, from outside: published vectors, invariants, secrecy, codecs.

mod invariants;
mod secrecy;
mod support;
mod vectors;
