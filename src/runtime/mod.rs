//! What every role needs of its process: the clock, chance, options, shutdown, telemetry, health.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod health;
pub mod shutdown;
pub mod telemetry;
