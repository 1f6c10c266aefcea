//! Against real servers, which the tests start themselves.

#[path = "../support/log_suite.rs"]
mod log_suite;
#[path = "../support/nats_server.rs"]
mod nats_server;

mod bus;
mod streams;
