//! Everything a test of the gateway needs to stand on.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tablecast::bus::Bus;
use tablecast::bus::memory::{Faults, Network};
use tablecast::catalog::Catalog;
use tablecast::domain::{Identity, TableId};
use tablecast::games::chess::Chess;
use tablecast::gateway::{self, GatewayConfig, GatewayError, Tokens};
use tablecast::protocol::ops::{ConnectionsReport, ConnectionsRequest};
use tablecast::protocol::request::{PresenceNotice, decode, encode};
use tablecast::protocol::subject;
use tablecast::runtime::clock::Clock;
use tablecast::runtime::entropy::Entropy;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hidden_number::HiddenNumber;
use crate::socket::{PATIENCE, Socket};
use crate::tiny_worker::TinyWorker;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    gateway: GatewayConfig,
}

pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

/// One gateway, one worker, and the wires between them.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) bus: Bus,
    pub(crate) catalog: Catalog,
    pub(crate) network: std::sync::Arc<Network>,
    /// Of the gateway's connection to the bus.
    pub(crate) faults: Faults,
    pub(crate) worker: TinyWorker,
    pub(crate) notices: mpsc::Receiver<PresenceNotice>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) gateway: JoinHandle<Result<(), GatewayError>>,
}

/// A gateway that runs.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), GatewayError>>,
}

impl Gateway {
    pub(crate) async fn start(bus: Bus, catalog: &Catalog, options: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let line = ["gateway", "--token-secret", SECRET, "--guest-tokens"];
        let line = Line::parse_from(line.into_iter().chain(options.iter().copied()));
        let shutdown = CancellationToken::new();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let time = (Clock::System, Entropy::from_os());
        let (catalog, stop) = (catalog.clone(), shutdown.clone());
        let running = gateway::run(line.gateway, listener, bus, catalog, time, metrics, stop);
        let running = TaskTracker::new().spawn(running);
        Self { address, shutdown, running }
    }
}

impl Stage {
    pub(crate) async fn new(options: &[&str]) -> Self {
        let shards = NonZeroU16::new(2).expect("two");
        let network = Network::new(shards, Clock::System);
        let (bus, _) = network.connect();
        let (of_gateway, faults) = network.connect();
        Self::on(bus, of_gateway, network, faults, options).await
    }

    /// With buses of the caller's; `network` and `faults` are then for nothing.
    pub(crate) async fn on(
        bus: Bus,
        of_gateway: Bus,
        network: std::sync::Arc<Network>,
        faults: Faults,
        options: &[&str],
    ) -> Self {
        let catalog = Catalog::new().with::<HiddenNumber>().with::<Chess>();
        let (worker, notices) = TinyWorker::start("w1", "hidden-number", &bus, &catalog).await;
        let shown = catalog.clone().with_relay("relayed".parse().expect("a kind"));
        let shown = shown.expect("no game of ours is called that");
        let Gateway { address, shutdown, running } =
            Gateway::start(of_gateway, &shown, options).await;
        let gateway = running;
        Self { address, bus, catalog, network, faults, worker, notices, shutdown, gateway }
    }

    /// One more gateway for the same players.
    pub(crate) async fn other_gateway(&self, options: &[&str]) -> Gateway {
        let (bus, _) = self.network.connect();
        Gateway::start(bus, &self.catalog, options).await
    }

    pub(crate) fn token(&self, name: &str) -> String {
        token(name)
    }

    /// What an operator is told of the gateway's connections; of one player's, if one is given.
    pub(crate) async fn connections(&self, player: Option<&str>) -> ConnectionsReport {
        let mail = &self.bus.mail;
        let mut answers = mail.listen(subject::ops_answer("test")).await.expect("heard");
        let question = ConnectionsRequest {
            answer_to: "test".to_owned(),
            limit: 20,
            player: player.map(ToOwned::to_owned),
        };
        let asking = async {
            loop {
                let subject = subject::OPS_CONNECTIONS.to_owned();
                mail.notify(subject, encode(&question)).await.expect("asked");
                // A gateway that has just started does not listen yet.
                let again = Duration::from_millis(200);
                if let Ok(answer) = timeout(again, answers.next()).await {
                    return answer.expect("an answer");
                }
            }
        };
        let answer = timeout(PATIENCE, asking).await.expect("in time");
        decode(&answer).expect("a report")
    }

    pub(crate) async fn spectator(&self) -> Socket {
        Socket::connect(self.address, Some("tablecast.v1.json")).await.0
    }

    pub(crate) async fn player(&self, name: &str) -> Socket {
        self.player_at(self.address, name).await
    }

    /// At this gateway, which may be another than the stage's own.
    pub(crate) async fn player_at(&self, address: SocketAddr, name: &str) -> Socket {
        player_at(address, name).await
    }

    /// A table of two that has begun: Nok in seat 0, Somchai in seat 1. Opened by Nok's connection.
    pub(crate) async fn table_of(&self, nok: &mut Socket, somchai: &mut Socket) -> String {
        let table = open(nok).await;
        let sit = json!({ "type": "command", "id": "sit", "table": table, "command": { "type": "table.sit" } });
        somchai.send(sit).await;
        somchai.until("accepted").await;
        let start = json!({ "type": "command", "id": "start", "table": table, "command": { "type": "table.start" } });
        nok.send(start).await;
        nok.until("accepted").await;
        table
    }
}

fn token(name: &str) -> String {
    let tokens = Tokens::new(&SECRET.parse().expect("long enough"));
    let identity = Identity {
        player: format!("player-{name}").parse().expect("an id"),
        name: name.to_owned(),
    };
    let hour = Duration::from_secs(3600);
    tokens.issue(&identity, Clock::System.now(), hour).0
}

/// A player's connection to the gateway at this address.
pub(crate) async fn player_at(address: SocketAddr, name: &str) -> Socket {
    let (mut socket, _) = Socket::connect(address, Some("tablecast.v1.json")).await;
    socket.send(json!({ "type": "hello", "token": token(name) })).await;
    let welcome = socket.expect("welcome").await;
    assert_eq!(welcome["name"], name);
    socket
}

/// Opens a table with an empty seat.
pub(crate) async fn open(socket: &mut Socket) -> String {
    socket.send(json!({ "type": "open", "id": "open", "kind": "hidden-number" })).await;
    let opened = socket.until("opened").await;
    assert_eq!(opened["seq"], 1);
    opened["table"].as_str().expect("an id").to_owned()
}

pub(crate) fn id_of(table: &str) -> TableId {
    table.parse().expect("an id")
}
