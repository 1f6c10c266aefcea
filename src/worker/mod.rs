//! Owns tables: decides, appends, evolves, replies.

mod adoption;
mod agenda;
mod alarms;
mod answer;
mod config;
mod deadman;
mod desk;
mod finish;
mod handover;
mod load;
mod lobby;
mod memory;
mod peers;
mod presence;
mod run;
mod sleep;
mod successor;
mod table_actor;
mod tables;
mod upkeep;
mod verdict;

pub use config::WorkerConfig;
pub use run::{WorkerError, run};
