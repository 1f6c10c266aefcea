//! Tablecast: the backbone of a multiplayer game on NATS.

pub mod archiver;
pub mod bus;
pub mod catalog;
//pub mod cli;
pub mod domain;
pub mod games;
pub mod gateway;
pub mod protocol;
pub mod runtime;
pub mod worker;
