//! What every role needs of its process: the clock, shutdown, telemetry, an admin endpoint.

pub mod clock;
pub mod health;
