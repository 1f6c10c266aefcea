//! Workers on a real log, asked as gateways ask them.

mod adoption;
mod capacity;
mod commands;
mod credit;
mod faults;
mod hand_over;
mod rematch;
mod sleep;
mod time;

use tablecast::runtime::clock::Clock;

use crate::nats_server::NatsServer;
use crate::players::{Client, Mortal, Worker};

/// A server, one worker, and whoever asks it.
async fn one_worker(more: &[&str]) -> (NatsServer, Worker, Client) {
    let server = NatsServer::start().await;
    let worker = another_worker(&server, "w1", more).await;
    let client = Client { bus: server.bus(&[]).await };
    (server, worker, client)
}

async fn another_worker(server: &NatsServer, id: &str, more: &[&str]) -> Worker {
    Worker::start(server.bus(&[]).await, id, Clock::System, more)
}

/// The same, but that the worker can be killed.
async fn one_mortal() -> (NatsServer, Mortal, Client) {
    let server = NatsServer::start().await;
    let worker = Mortal::start(server.config(&[]), "w1");
    let client = Client { bus: server.bus(&[]).await };
    (server, worker, client)
}
