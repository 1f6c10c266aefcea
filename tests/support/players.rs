//! Workers under test, and those who ask them for something: over the bus, as a gateway does.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tablecast::bus::connect::{NatsConfig, connect};
use tablecast::bus::{Bus, RequestError};
use tablecast::catalog::Catalog;
use tablecast::domain::{
    Cause, CommandId, Identity, Kind, PresenceChange, Seat, Seating, StartRule, StreamSeq, TableId,
    TableOptions, TableSeq, Timestamp,
};
use tablecast::games::chess::Chess;
use tablecast::games::liap_tui::LiapTui;
use tablecast::protocol::envelope::{Envelope, Message};
use tablecast::protocol::request::{
    AdoptRequest, Adoption, CommandRequest, GatewayBeat, OpenRequest, PresenceNotice, Refusal,
    TableRequest, Verdict, decode, encode,
};
use tablecast::protocol::subject;
use tablecast::runtime::clock::Clock;
use tablecast::runtime::config::from_args;
use tablecast::runtime::entropy::Entropy;
use tablecast::worker::{self, WorkerConfig, WorkerError};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::pebbles::{self, Pebbles};

/// How long something that must happen may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// When a request is sent again that nobody has answered.
const AGAIN: Duration = Duration::from_secs(2);

/// A worker in this process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    stop: CancellationToken,
    task: JoinSet<Result<(), WorkerError>>,
}

impl Worker {
    pub(crate) fn start(bus: Bus, id: &str, clock: Clock, more: &[&str]) -> Self {
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(run(bus, clock, options(id, more), stop.clone()));
        Self { id: id.to_owned(), stop, task }
    }

    /// Asks it to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(mut self) {
        let ended = timeout(SOON, self.task.join_next()).await;
        let result = ended.expect("it stops in time").expect("it ran");
        result.expect("no panic").expect("a clean stop");
    }
}

fn options(id: &str, more: &[&str]) -> WorkerConfig {
    let options = ["--worker-id", id].into_iter();
    from_args(&options.chain(more.iter().copied()).collect::<Vec<_>>()).expect("options")
}

async fn run(
    bus: Bus,
    clock: Clock,
    config: WorkerConfig,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let catalog = Catalog::new().with::<Pebbles>().with::<LiapTui>().with::<Chess>();
    worker::run(config, bus, catalog, (clock, Entropy::from_os()), stop).await
}

/// A worker with threads and a connection of its own, which can be killed as a process can.
#[derive(Debug)]
pub(crate) struct Mortal(Option<Runtime>);

impl Mortal {
    pub(crate) fn start(nats: NatsConfig, id: &str) -> Self {
        Self::start_with(nats, id, &[])
    }

    pub(crate) fn start_with(nats: NatsConfig, id: &str, more: &[&str]) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("threads");
        let config = options(id, more);
        runtime.spawn(async move {
            let bus = connect(&nats, "mortal").await.expect("a bus");
            run(bus, Clock::System, config, CancellationToken::new()).await
        });
        Self(Some(runtime))
    }

    /// From one moment to the next it is gone, and says nothing.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whoever asks workers for something.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) bus: Bus,
}

/// A commit of any game.
pub(crate) type AnyCommit = tablecast::domain::Commit<Value>;

pub(crate) fn new_table() -> TableId {
    let now = Timestamp::from_millis(1_795_000_000_000);
    TableId::new(now, rand::random())
}

pub(crate) fn kind(text: &str) -> Kind {
    text.parse().expect("a kind")
}

pub(crate) fn player(name: &str) -> Identity {
    Identity { player: name.parse().expect("a player"), name: name.to_uppercase() }
}

pub(crate) fn id(text: &str) -> CommandId {
    text.parse().expect("a command id")
}

pub(crate) fn human(name: &str) -> Seating {
    let Identity { player, name } = player(name);
    Seating::Human { player, name }
}

/// A table of pebbles that begins at once, opened by ann with the command id `open`.
pub(crate) fn pebbles_of(seats: &[Seating; 2], setup: Value) -> OpenRequest {
    OpenRequest {
        table: new_table(),
        by: player("ann"),
        id: id("open"),
        setup,
        options: TableOptions {
            start: StartRule::WhenFull,
            bot_delay_ms: (0, 0),
            ..TableOptions::default()
        },
        seats: seats.to_vec(),
        host: None,
        request: None,
    }
}

/// Ann against bob.
pub(crate) fn two_players() -> OpenRequest {
    pebbles_of(&[human("ann"), human("bob")], json!({}))
}

pub(crate) fn take(count: u32) -> Value {
    json!({ "type": "take", "count": count })
}

pub(crate) fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Rejected(refusal) => refusal,
        Verdict::Accepted { seq } => panic!("accepted as commit {}", seq.get()),
    }
}

pub(crate) fn accepted(seq: u64) -> Verdict {
    Verdict::Accepted { seq: TableSeq::new(seq) }
}

impl Client {
    /// Asks whoever serves a subject, and waits for somebody to do so.
    async fn ask(&self, subject: String, payload: Bytes) -> Bytes {
        let asked = async {
            loop {
                let answer = self.bus.mail.request(subject.clone(), payload.clone(), AGAIN).await;
                match answer {
                    Ok(answer) => return answer,
                    Err(RequestError::NoResponders) => sleep(Duration::from_millis(5)).await,
                    // Whoever was asked has died with the request, as happens to workers here.
                    Err(RequestError::Timeout) => {}
                    Err(error) => panic!("{subject}: {error}"),
                }
            }
        };
        timeout(SOON, asked).await.expect("an answer in time")
    }

    pub(crate) async fn open(&self, request: &OpenRequest) -> Verdict {
        self.open_kind(pebbles::KIND, request).await
    }

    pub(crate) async fn open_kind(&self, kind_name: &str, request: &OpenRequest) -> Verdict {
        let subject = subject::open(&kind(kind_name));
        decode(&self.ask(subject, encode(request)).await).expect("a verdict")
    }

    /// One try, by a player, with this command id.
    pub(crate) async fn try_command(
        &self,
        table: TableId,
        by: &str,
        command_id: &str,
        command: Value,
        patience: Duration,
    ) -> Result<Verdict, RequestError> {
        let request = CommandRequest {
            by: player(by),
            id: id(command_id),
            command,
            gateway: None,
            request: None,
        };
        let mail = &self.bus.mail;
        let request = TableRequest::Command(request);
        let answer = mail.request(subject::cmd(table), encode(&request), patience);
        Ok(decode(&answer.await?).expect("a verdict"))
    }

    pub(crate) async fn command(
        &self,
        table: TableId,
        by: &str,
        command_id: &str,
        command: Value,
    ) -> Verdict {
        let answer = self.try_command(table, by, command_id, command, SOON).await;
        answer.expect("an answer")
    }

    /// As a gateway does: until there is a verdict that will not pass, with adoption if nobody owns the table.
    pub(crate) async fn persist(
        &self,
        table: TableId,
        by: &str,
        command_id: &str,
        command: Value,
    ) -> Verdict {
        let persisted = async {
            loop {
                // A worker that is just dying may swallow a command.
                let patience = Duration::from_secs(1);
                let command = command.clone();
                match self.try_command(table, by, command_id, command, patience).await {
                    Ok(Verdict::Rejected(refusal)) if refusal.retry_after_ms.is_some() => {}
                    Ok(verdict) => return verdict,
                    Err(RequestError::NoResponders) => {
                        self.adopt(table).await;
                    }
                    Err(RequestError::Unreachable | RequestError::Timeout) => {}
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, persisted).await.expect("a verdict in time")
    }

    pub(crate) async fn adopt(&self, table: TableId) -> Adoption {
        let subject = subject::adopt(&kind(pebbles::KIND));
        let answer = self.ask(subject, encode(&AdoptRequest::new(table))).await;
        decode(&answer).expect("an adoption")
    }

    pub(crate) async fn ask_who(&self, table: TableId) -> Adoption {
        let answer = self.ask(subject::cmd(table), encode(&TableRequest::Who)).await;
        decode(&answer).expect("an answer")
    }

    /// Says that gateway `g1` is alive, or that it stops.
    pub(crate) async fn gateway_beats(&self, goodbye: bool) {
        let beat = encode(&GatewayBeat { gateway: "g1".to_owned(), goodbye });
        self.bus.mail.notify(subject::gate("g1"), beat).await.expect("sent");
    }

    pub(crate) async fn presence(&self, table: TableId, who: &str, change: PresenceChange) {
        let (player, gateway) = (player(who).player, "g1".to_owned());
        let notice = PresenceNotice { table, player, gateway, change };
        let sent = self.bus.mail.notify(subject::seat(table), encode(&notice));
        sent.await.expect("sent");
    }

    /// The commits in the log. What is no commit is left out.
    pub(crate) async fn commits(&self, table: TableId) -> Vec<AnyCommit> {
        let entries = self.bus.log.read(table, StreamSeq::ZERO).await;
        let entries = entries.expect("the log is readable");
        entries
            .iter()
            .filter_map(|entry| Envelope::decode(&entry.payload, table).ok())
            .map(|envelope| envelope.commit)
            .collect()
    }

    /// The event types of every commit, in order.
    pub(crate) async fn types(&self, table: TableId) -> Vec<Vec<String>> {
        self.commits(table).await.iter().map(types).collect()
    }

    /// Waits until a commit with such an event is in the log.
    pub(crate) async fn wait_for(&self, table: TableId, event: &str) {
        let seen = async {
            let mut live = self.bus.log.follow(table).await.expect("followed");
            let is_there = |all: &[Vec<String>]| all.iter().flatten().any(|one| one == event);
            while !is_there(&self.types(table).await) {
                // A copy may be lost, so the log is looked at now and then.
                timeout(Duration::from_millis(200), live.next()).await.ok();
            }
        };
        let seen = timeout(SOON, seen).await;
        assert!(seen.is_ok(), "no {event} in {:?}", self.types(table).await);
    }

    /// How many completion markers the shard holds for a table, once there is one.
    pub(crate) async fn markers(&self, table: TableId) -> usize {
        let markers = self.bus.log.markers(table.shard(self.bus.log.shards()), StreamSeq::ZERO);
        let mut markers = markers.await.expect("markers");
        let mut count = 0;
        let mut patience = SOON;
        while let Ok(Some(marker)) = timeout(patience, markers.next()).await {
            if marker.expect("a marker").address.table == table {
                count += 1;
                // A second one would come right after the first.
                patience = Duration::from_millis(300);
            }
        }
        count
    }
}

pub(crate) fn types(commit: &AnyCommit) -> Vec<String> {
    let values = commit.events.iter().map(|event| {
        let event = serde_json::to_value(event).expect("an event");
        event["type"].as_str().expect("a type").to_owned()
    });
    values.collect()
}

/// Which seat's bot made it, if one did.
pub(crate) fn bot_of(commit: &AnyCommit) -> Option<Seat> {
    match commit.cause {
        Cause::Bot { seat } => Some(seat),
        Cause::Command { .. }
        | Cause::Clock
        | Cause::Presence
        | Cause::Claim
        | Cause::Rematch { .. } => None,
    }
}
