//! The same over real servers, gateways and sockets: live, resumed and as snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tablecast::bus::{Append, Bus};
use tablecast::catalog::Catalog;
use tablecast::domain::{Game, StreamSeq, TableId, Viewer};
use tablecast::games::liap_tui::LiapTui;
use tablecast::gateway::{self, TokenSecret, Tokens};
use tablecast::protocol::frame::Format;
use tablecast::protocol::subject::Address;
use tablecast::runtime::clock::Clock;
use tablecast::runtime::config::from_args;
use tablecast::runtime::entropy::Entropy;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::sync::CancellationToken;

use super::{SECRET_MOMENTS, dice};
use crate::leaky::{IN_EVENTS, IN_VIEWS, Leaky};
use crate::liap_games::{
    LiapCommit, encode, games_with_weak_hands, kind, moment, play, player, twin, viewers,
};
use crate::nats_server::NatsServer;
use crate::players::{SOON, new_table};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A server of its own, and a gateway on it.
struct World {
    _server: NatsServer,
    bus: Bus,
    address: String,
    _gateway: JoinSet<()>,
}

fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| PrometheusBuilder::new().build_recorder().handle());
    handle.clone()
}

impl World {
    async fn start<G: Game>() -> Self {
        let server = NatsServer::start().await;
        let bus = server.bus(&[]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        // Conflation depends on time, which is not what is compared here.
        let options = [
            "--token-secret",
            SECRET,
            "--ring",
            "4096",
            "--outbox-frames",
            "4096",
            "--outbox-bytes",
            "67108864",
            "--outbox-age",
            "60s",
        ];
        let config = from_args(&options).expect("options");
        let mut task = JoinSet::new();
        let catalog = Catalog::new().with::<G>();
        let (own, stop) = (server.bus(&[]).await, CancellationToken::new());
        task.spawn(async move {
            let time = (Clock::System, Entropy::from_os());
            gateway::run(config, listener, own, catalog, time, metrics(), stop)
                .await
                .expect("a gateway");
        });
        Self { _server: server, bus, address, _gateway: task }
    }

    async fn append(&self, table: TableId, after: StreamSeq, commit: &LiapCommit) -> StreamSeq {
        let append = Append {
            address: Address::new(table, kind(), self.bus.log.shards()),
            after,
            id: format!("{table}:{}", commit.seq.get()),
            types: "test".to_owned(),
            worker: "by-hand".parse().expect("a worker id"),
            command: None,
            payload: encode(table, commit),
        };
        self.bus.log.append(append).await.expect("stored")
    }

    async fn connect(&self, viewer: Viewer, format: Format) -> Socket {
        let mut request =
            format!("ws://{}/ws", self.address).into_client_request().expect("a request");
        let offer = format.subprotocol().parse().expect("a header");
        request.headers_mut().insert("sec-websocket-protocol", offer);
        let (socket, _) = connect_async_with_config(request, None, true).await.expect("connected");
        let mut socket = Socket { socket, format, frames: Vec::new() };
        socket.until("welcome", 0).await;
        if let Viewer::Seated(seat) = viewer {
            let secret: TokenSecret = SECRET.parse().expect("a secret");
            let ttl = Duration::from_secs(3600);
            let (token, _) = Tokens::new(&secret).issue(&player(seat), Clock::System.now(), ttl);
            socket.send(json!({ "type": "hello", "token": token })).await;
            socket.until("welcome", 0).await;
        }
        // The gateway's clock stands in it, and nothing of any table.
        socket.frames.clear();
        socket
    }

    /// Everything that a viewer is sent of one table, in every way in which it can be sent.
    async fn seen(
        &self,
        table: TableId,
        game: &[LiapCommit],
        viewer: Viewer,
        format: Format,
    ) -> Vec<Message> {
        let last = game.last().expect("a commit").seq.get();
        let mut at = self.append(table, StreamSeq::ZERO, &game[0]).await;
        let mut live = self.connect(viewer, format).await;
        let mut drawing = self.connect(viewer, format).await;
        live.send(json!({ "type": "subscribe", "table": table })).await;
        live.until("snapshot", 1).await;
        drawing.send(json!({ "type": "subscribe", "table": table, "deliver": "views" })).await;
        drawing.until("snapshot", 1).await;
        for commit in &game[1..] {
            at = self.append(table, at, commit).await;
            // In step, so that nothing is conflated in one world and not in the other.
            live.until("commit", commit.seq.get()).await;
            drawing.until("snapshot", commit.seq.get()).await;
        }
        let mut resumed = self.connect(viewer, format).await;
        resumed.send(json!({ "type": "subscribe", "table": table, "cursor": 1 })).await;
        resumed.until("commit", last).await;
        let mut late = self.connect(viewer, format).await;
        late.send(json!({ "type": "subscribe", "table": table })).await;
        late.until("snapshot", last).await;
        // The same again for a gateway's memory of who has what seat.
        late.send(json!({ "type": "unsubscribe", "table": table })).await;
        late.send(json!({ "type": "subscribe", "table": table, "cursor": last - 1 })).await;
        late.until("commit", last).await;
        let sockets = [live, drawing, resumed, late];
        sockets.into_iter().flat_map(|socket| socket.frames).collect()
    }
}

struct Socket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    format: Format,
    frames: Vec<Message>,
}

impl Socket {
    async fn send(&mut self, frame: Value) {
        let message = match self.format {
            Format::Json => Message::text(frame.to_string()),
            Format::MessagePack => {
                Message::binary(rmp_serde::to_vec_named(&frame).expect("plain data"))
            }
        };
        self.socket.send(message).await.expect("sent");
    }

    /// Keeps what comes, up to the frame of this type and number.
    async fn until(&mut self, wanted: &str, seq: u64) {
        loop {
            let message = timeout(SOON, self.socket.next()).await;
            let message = message
                .unwrap_or_else(|_| panic!("no {wanted} {seq} after {:?}", self.frames.last()))
                .expect("open")
                .expect("whole");
            let frame: Value = match &message {
                Message::Text(text) => serde_json::from_str(text).expect("JSON"),
                Message::Binary(bytes) => rmp_serde::from_slice(bytes).expect("MessagePack"),
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) | Message::Frame(_) => panic!("{message:?}"),
            };
            assert_ne!(frame["type"], "error", "{frame}");
            self.frames.push(message);
            if frame["type"] == wanted && frame["seq"].as_u64().unwrap_or_default() >= seq {
                return;
            }
        }
    }
}

/// Prefixes of a game at which different things are hidden: one for each sort of moment.
fn lengths(game: &[LiapCommit]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let is_new = |length: &usize| seen.insert(format!("{:?}", moment(&game[..*length])));
    (2..=game.len()).filter(is_new).collect()
}

/// Compares what two worlds send: how many frames were the same at which moments, or the first that was not.
async fn compare<G: Game>(game: &[LiapCommit]) -> Result<BTreeMap<String, usize>, String> {
    let worlds = [World::start::<G>().await, World::start::<G>().await];
    let mut dice = dice(5);
    let mut compared = BTreeMap::new();
    for length in lengths(game) {
        for (number, viewer) in viewers().enumerate() {
            let Some(other) = twin(&game[..length], viewer, &mut dice) else {
                continue;
            };
            let format = Format::ALL[(number + length) % Format::ALL.len()];
            let table = new_table();
            let (one, other) = tokio::join!(
                worlds[0].seen(table, &game[..length], viewer, format),
                worlds[1].seen(table, &other, viewer, format)
            );
            for (one, other) in one.iter().zip(&other) {
                if one != other {
                    return Err(format!("{viewer:?} after {length} commits:\n{one}\n{other}"));
                }
            }
            assert_eq!(one.len(), other.len());
            let seen = format!("{:?}", moment(&game[..length]));
            *compared.entry(seen).or_default() += one.len();
        }
    }
    Ok(compared)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_on_a_socket_depends_on_what_its_viewer_may_not_know() {
    let mut compared = BTreeMap::<String, usize>::new();
    for game in games_with_weak_hands(5).take(4) {
        let seen = compare::<LiapTui>(&game).await.expect("nothing leaks");
        for (moment, frames) in seen {
            *compared.entry(moment).or_default() += frames;
        }
    }
    println!("frames that are the same in both worlds: {compared:#?}");
    for moment in SECRET_MOMENTS {
        assert!(compared.contains_key(moment), "{moment}: {compared:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leak_on_a_socket_is_found() {
    let game = play(3, 5);
    compare::<Leaky<IN_VIEWS>>(&game).await.expect_err("in snapshots");
    compare::<Leaky<IN_EVENTS>>(&game).await.expect_err("in commits");
}
