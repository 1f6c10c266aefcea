//! Against real servers, which the tests start themselves.

#[path = "../support/nats_server.rs"]
mod nats_server;
#[path = "../support/tables.rs"]
mod tables;

mod bus;
mod streams;
