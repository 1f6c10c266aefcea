//! Against real servers, which the tests start themselves.

#[path = "../support/leaky.rs"]
mod leaky;
#[path = "../support/liap_games.rs"]
mod liap_games;
#[path = "../support/nats_server.rs"]
mod nats_server;
#[path = "../support/pebbles.rs"]
mod pebbles;
#[path = "../support/players.rs"]
mod players;
#[path = "../support/tables.rs"]
mod tables;

mod bus;
mod cluster;
mod durability;
mod streams;
mod twins;
mod worker;
