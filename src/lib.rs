#![doc = include_str!("ARCHITECTURE.md")]

#[cfg(test)]
// Test support names the crate as the tests outside of it do.
extern crate self as tablecast;

pub mod archive;
pub mod archiver;
pub mod bus;
pub mod catalog;
pub mod cli;
pub mod domain;
pub mod games;
pub mod gateway;
pub mod protocol;
pub mod runtime;
pub mod worker;
