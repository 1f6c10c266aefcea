//! Owns tables: decides, appends, evolves, replies.

mod adoption;
mod agenda;
mod answer;
mod config;
mod finish;
mod gateways;
mod lobby;
mod presence;
mod run;
mod table_actor;
mod tables;
mod verdict;

pub use config::WorkerConfig;
pub use run::{WorkerError, run};
