//! A gateway on a real port, with the bus in memory and a worker that is as small as can be.

#[path = "../support/hidden_number.rs"]
mod hidden_number;
#[path = "../support/nats_server.rs"]
mod nats_server;
#[path = "../support/socket.rs"]
mod socket;
#[path = "../support/tiny_worker.rs"]
mod tiny_worker;

mod admission;
mod auth;
mod chess;
mod edge;
mod elsewhere;
mod http;
mod limits;
mod nats;
mod outage;
mod owners;
mod play;
mod relay;
mod resume;
mod sse;
mod stage;
