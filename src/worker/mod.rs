//! Owns tables: decides, appends, evolves, replies.

mod adoption;
mod config;
mod finish;
mod lobby;
mod run;
mod table_actor;
mod tables;

pub use config::WorkerConfig;
pub use run::{WorkerError, run};
