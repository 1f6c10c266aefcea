//! What every role needs of its process: the clock, chance, options, shutdown, telemetry, health,
//! and values that many wait to see change.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod health;
pub mod process;
pub mod shutdown;
pub mod telemetry;
pub mod watched;
