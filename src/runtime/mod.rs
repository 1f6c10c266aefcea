//! What every role needs of its process: the clock, chance, shutdown, telemetry.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod shutdown;
pub mod telemetry;
