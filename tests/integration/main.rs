//! Against real servers, which the tests start themselves.

#[path = "../support/nats_server.rs"]
mod nats_server;
#[path = "../support/pebbles.rs"]
mod pebbles;
#[path = "../support/players.rs"]
mod players;
#[path = "../support/tables.rs"]
mod tables;

mod bus;
mod streams;
mod worker;
