//! The archive, from outside: each game exactly once, whatever dies or lies, and read back as it was.

mod damage;
mod faults;
mod log;
mod objects;
mod on_nats;
mod once;
mod read_back;
mod relayed;
mod s3;
mod world;

#[path = "../support/weed.rs"]
mod weed;

#[path = "../support/nats_server.rs"]
mod nats_server;
