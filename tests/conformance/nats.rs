//! The promises on a real server.

use tablecast::bus::Bus;

use crate::log_suite::promises;
use crate::nats_server::NatsServer;

async fn buses() -> (NatsServer, Bus, Bus) {
    let server = NatsServer::start().await;
    let first = server.bus(&[]).await;
    let second = server.bus(&[]).await;
    (server, first, second)
}

promises! {
    #[tokio::test]
    buses
}
