//! The same promises, kept by two buses: the one in memory, and NATS with a server of the test's own.

#[path = "../support/alarm_suite.rs"]
mod alarm_suite;
#[path = "../support/log_suite.rs"]
mod log_suite;
#[path = "../support/nats_server.rs"]
mod nats_server;
#[path = "../support/tables.rs"]
mod tables;

mod memory;
mod nats;
